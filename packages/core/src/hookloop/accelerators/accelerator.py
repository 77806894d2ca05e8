"""`Accelerator`: the questions that the rest of the house asks about a kind of device."""

from abc import ABC, abstractmethod
from typing import Any

import torch

from hookloop.accelerators.indices import parse_indices


class Accelerator(ABC):
    """A kind of device. Stateless: every answer comes from the machine."""

    @staticmethod
    @abstractmethod
    def name() -> str:
        """What the Trainer's argument `accelerator` calls it."""

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Whether this machine has such a device that torch can use."""

    @staticmethod
    @abstractmethod
    def auto_device_count() -> int:
        """How many of them this machine has."""

    @classmethod
    def device_count(cls) -> int:
        """How many of them a run may ask for; as many as there are, if not overridden."""
        return cls.auto_device_count()

    @classmethod
    def parse_devices(cls, devices: Any) -> Any:
        """What the Trainer's argument `devices` means here, in the form that `get_parallel_devices` takes.

        Args:
            devices: a number of devices, -1 for all, a list of indices, or these as text ("2", "0,1").

        Returns:
            Their indices, 0-based, if not overridden.

        Raises:
            MisconfigurationError: none of these forms, or devices that are not there.
        """
        return parse_indices(devices, cls.device_count(), cls.name())

    @classmethod
    @abstractmethod
    def get_parallel_devices(cls, devices: Any) -> list[torch.device]:
        """The torch devices to train on, from what `parse_devices` returned."""

    @abstractmethod
    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """What torch knows about the use of a device: names ending in their units, plain numbers."""

    def setup_device(self, device: torch.device) -> None:
        """Make `device` the current one, before a model is moved to it."""

    def teardown(self) -> None:
        """Give back what `setup_device` took, after a run."""
