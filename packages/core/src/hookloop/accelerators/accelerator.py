"""`Accelerator`: the questions that the rest of the house asks about a kind of device."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch


class Accelerator(ABC):
    """A kind of device. Stateless: every answer comes from the machine."""

    name: ClassVar[str]

    @staticmethod
    @abstractmethod
    def is_available() -> bool:
        """Whether this machine has such a device that torch can use."""

    @staticmethod
    @abstractmethod
    def device_count() -> int:
        """How many of them a run may use."""

    @abstractmethod
    def devices(self, indices: list[int]) -> list[torch.device]:
        """The torch devices with these indices, 0-based."""

    @abstractmethod
    def device_stats(self, device: torch.device) -> dict[str, Any]:
        """What torch knows about the use of a device: names ending in their units, plain numbers."""

    def prepare(self, device: torch.device) -> None:
        """Make `device` the current one, before a model is moved to it."""
