"""What devices this machine has. Facts, no training state."""

from typing import TYPE_CHECKING

from hookloop.accelerators.accelerator import Accelerator
from hookloop.accelerators.cpu import CPUAccelerator
from hookloop.accelerators.cuda import CUDAAccelerator, find_usable_cuda_devices
from hookloop.accelerators.select import select_accelerator

__all__ = ["Accelerator", "CPUAccelerator", "CUDAAccelerator", "find_usable_cuda_devices", "select_accelerator"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        from hookloop.absent import absent  # not by every import

        raise absent(__name__, name)
