"""From the Trainer's `accelerator` and `devices` to an accelerator and torch devices."""

import torch

from hookloop.accelerators.accelerator import Accelerator
from hookloop.accelerators.cpu import CPUAccelerator
from hookloop.accelerators.cuda import CUDAAccelerator
from hookloop.errors import MisconfigurationError

_ACCELERATORS: dict[str, type[Accelerator]] = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "gpu": CUDAAccelerator}


def select_accelerator(
    accelerator: str | Accelerator, devices: int | str | list[int]
) -> tuple[Accelerator, list[torch.device]]:
    """What to train on.

    Args:
        accelerator: "auto" (CUDA where there is a device, else the CPU), "cpu", "cuda", "gpu" (the same), or an object.
        devices: "auto" (one), a number of devices, -1 for all, a list of indices, or these as text ("2", "0,1").

    Raises:
        MisconfigurationError: an unknown name, an accelerator that this machine lacks, or devices that are not there.
    """
    chosen = _accelerator(accelerator)
    if not chosen.is_available():
        raise MisconfigurationError(
            f"accelerator={accelerator!r} was asked for, and torch {torch.__version__} finds no {chosen.name()} device "
            'on this machine. Use accelerator="cpu", or "auto" to take what is there.'
        )
    # One, until a run can use several.
    asked = 1 if isinstance(devices, str) and devices == "auto" else devices
    return chosen, chosen.get_parallel_devices(chosen.parse_devices(asked))


def _accelerator(accelerator: str | Accelerator) -> Accelerator:
    if isinstance(accelerator, Accelerator):
        return accelerator
    if accelerator == "auto":
        return CUDAAccelerator() if CUDAAccelerator.is_available() else CPUAccelerator()
    if not isinstance(accelerator, str) or accelerator not in _ACCELERATORS:
        names = ", ".join(f'"{name}"' for name in ("auto", *_ACCELERATORS))
        raise MisconfigurationError(
            f"accelerator={accelerator!r} is not known. Use one of {names}, or an Accelerator object."
        )
    return _ACCELERATORS[accelerator]()
