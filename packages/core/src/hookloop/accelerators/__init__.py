"""What devices this machine has. Facts, no training state."""

from hookloop.accelerators.accelerator import Accelerator
from hookloop.accelerators.cpu import CPUAccelerator
from hookloop.accelerators.cuda import CUDAAccelerator
from hookloop.accelerators.select import select_accelerator

__all__ = ["Accelerator", "CPUAccelerator", "CUDAAccelerator", "select_accelerator"]
