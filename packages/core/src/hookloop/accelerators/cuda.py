"""NVIDIA devices through torch.cuda."""

from typing import Any

import torch

from hookloop.accelerators.accelerator import Accelerator
from hookloop.errors import MisconfigurationError


class CUDAAccelerator(Accelerator):
    """Trains on CUDA devices."""

    @staticmethod
    def name() -> str:
        """The name "cuda"."""
        return "cuda"

    @staticmethod
    def is_available() -> bool:
        """Whether torch was built with CUDA and sees a device."""
        return torch.cuda.is_available()

    @staticmethod
    def auto_device_count() -> int:
        """The devices that torch sees; CUDA_VISIBLE_DEVICES narrows them."""
        return torch.cuda.device_count()

    @classmethod
    def get_parallel_devices(cls, devices: list[int]) -> list[torch.device]:
        """One torch device per index."""
        return [torch.device("cuda", index) for index in devices]

    def get_device_stats(self, device: torch.device) -> dict[str, Any]:
        """Memory of torch's allocator on this device, in bytes."""
        return {
            "memory_allocated_bytes": torch.cuda.memory_allocated(device),
            "memory_reserved_bytes": torch.cuda.memory_reserved(device),
            "memory_peak_bytes": torch.cuda.max_memory_allocated(device),
        }

    def setup_device(self, device: torch.device) -> None:
        """Make it the current device, so that `.cuda()` and new tensors land there.

        Raises:
            MisconfigurationError: it is no CUDA device.
        """
        if torch.device(device).type != "cuda":
            raise MisconfigurationError(
                f"CUDAAccelerator was given the device {device}. Use that device's own accelerator."
            )
        torch.cuda.set_device(device)


def find_usable_cuda_devices(num_devices: int = -1) -> list[int]:
    """CUDA devices that take a tensor: those in exclusive mode that another process holds are passed over.

    Args:
        num_devices: how many; -1 is all that can be used, and 0 is none.

    Returns:
        Their indices, for `Trainer(devices=...)`.

    Raises:
        MisconfigurationError: there are not so many, or not so many are free.
    """
    if isinstance(num_devices, bool) or not isinstance(num_devices, int) or num_devices < -1:
        raise MisconfigurationError(
            f"find_usable_cuda_devices({num_devices!r}): pass a number of devices, or -1 for all that can be used."
        )
    if num_devices == 0:
        return []
    count = CUDAAccelerator.auto_device_count()
    if count == 0 or num_devices > count:
        asked = "CUDA devices were" if num_devices == -1 else f"{num_devices} CUDA device(s) were"
        raise MisconfigurationError(
            f"find_usable_cuda_devices({num_devices}): {asked} asked for, and torch {torch.__version__} finds "
            f'{count} on this machine. Ask for fewer, or use accelerator="cpu".'
        )
    usable: list[int] = []
    for index in range(count):
        if len(usable) == num_devices:
            break
        try:
            torch.zeros((), device=torch.device("cuda", index))
        except RuntimeError:  # what CUDA raises for a device that somebody else holds
            continue
        usable.append(index)
    if not usable or len(usable) < num_devices:
        raise MisconfigurationError(
            f"find_usable_cuda_devices({num_devices}): of the {count} CUDA device(s) of this machine, only {usable} "
            "can be used now; other processes hold the rest. Ask for fewer, or wait for them."
        )
    return usable
