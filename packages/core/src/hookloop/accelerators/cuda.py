"""NVIDIA devices through torch.cuda."""

from typing import Any, ClassVar

import torch

from hookloop.accelerators.accelerator import Accelerator


class CUDAAccelerator(Accelerator):
    """Trains on CUDA devices."""

    name: ClassVar[str] = "cuda"

    @staticmethod
    def is_available() -> bool:
        """Whether torch was built with CUDA and sees a device."""
        return torch.cuda.is_available()

    @staticmethod
    def device_count() -> int:
        """The devices that torch sees; CUDA_VISIBLE_DEVICES narrows them."""
        return torch.cuda.device_count()

    def devices(self, indices: list[int]) -> list[torch.device]:
        """One torch device per index."""
        return [torch.device("cuda", index) for index in indices]

    def device_stats(self, device: torch.device) -> dict[str, Any]:
        """Memory of torch's allocator on this device, in bytes."""
        return {
            "memory_allocated_bytes": torch.cuda.memory_allocated(device),
            "memory_reserved_bytes": torch.cuda.memory_reserved(device),
            "memory_peak_bytes": torch.cuda.max_memory_allocated(device),
        }

    def prepare(self, device: torch.device) -> None:
        """Make it the current device, so that `.cuda()` and new tensors land there."""
        torch.cuda.set_device(device)
