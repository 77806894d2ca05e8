"""The CPU: always there, one device, as many threads as torch was told."""

import os
from typing import Any, ClassVar

import torch

from hookloop.accelerators.accelerator import Accelerator


class CPUAccelerator(Accelerator):
    """Trains on the CPU. `devices` counts processes here, as there is only one device."""

    name: ClassVar[str] = "cpu"

    @staticmethod
    def is_available() -> bool:
        """True."""
        return True

    @staticmethod
    def device_count() -> int:
        """The number of cores: more processes than that would only wait for each other."""
        return os.cpu_count() or 1

    def devices(self, indices: list[int]) -> list[torch.device]:
        """The one CPU device, once per index."""
        return [torch.device("cpu") for _ in indices]

    def device_stats(self, device: torch.device) -> dict[str, Any]:
        """Threads that torch uses; utilization and memory are the monitoring package's, which has psutil."""
        return {"threads": torch.get_num_threads()}
