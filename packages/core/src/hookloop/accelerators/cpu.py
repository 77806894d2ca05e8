"""The CPU: always there, one device, as many threads as torch was told."""

import os
from typing import Any

import torch

from hookloop.accelerators.accelerator import Accelerator
from hookloop.accelerators.indices import parse_indices
from hookloop.errors import MisconfigurationError


class CPUAccelerator(Accelerator):
    """Trains on the CPU. `devices` counts processes here, as there is only one device."""

    @staticmethod
    def name() -> str:
        """The name "cpu"."""
        return "cpu"

    @staticmethod
    def is_available() -> bool:
        """True."""
        return True

    @staticmethod
    def auto_device_count() -> int:
        """One."""
        return 1

    @classmethod
    def device_count(cls) -> int:
        """The number of cores: more processes than that would only wait for each other."""
        return os.cpu_count() or 1

    @classmethod
    def parse_devices(cls, devices: int | str | list[int]) -> int:
        """The number of processes that `devices` asks for."""
        return len(parse_indices(devices, cls.device_count(), cls.name()))

    @classmethod
    def get_parallel_devices(cls, devices: int | str | list[int]) -> list[torch.device]:
        """The one CPU device, once per process."""
        return [torch.device("cpu")] * cls.parse_devices(devices)

    def setup_device(self, device: torch.device) -> None:
        """Check that it is the CPU.

        Raises:
            MisconfigurationError: it is another one.
        """
        if torch.device(device).type != "cpu":
            raise MisconfigurationError(
                f"CPUAccelerator was given the device {device}. Use that device's own accelerator."
            )

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Threads that torch uses; utilization and memory are the monitoring package's, which has psutil."""
        return {"threads": torch.get_num_threads()}
