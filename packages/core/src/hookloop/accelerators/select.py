"""From the Trainer's `accelerator` and `devices` to an accelerator and torch devices."""

from numbers import Integral

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
            f"accelerator={accelerator!r} was asked for, and torch {torch.__version__} finds no {chosen.name} device "
            'on this machine. Use accelerator="cpu", or "auto" to take what is there.'
        )
    return chosen, chosen.devices(_indices(chosen, devices))


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


def _indices(accelerator: Accelerator, devices: int | str | list[int]) -> list[int]:
    given, count = devices, accelerator.device_count()
    if isinstance(devices, Integral) and not isinstance(devices, bool):
        devices = int(devices)  # of NumPy, for example
    if devices == "auto":
        return [0]
    if isinstance(devices, str):
        try:
            numbers = [int(part) for part in devices.split(",") if part.strip()]
        except ValueError:
            numbers = []
        devices = numbers[0] if "," not in devices and numbers else numbers
    if isinstance(devices, int) and not isinstance(devices, bool) and (devices == -1 or devices > 0):
        devices = list(range(count if devices == -1 else devices))
    valid = isinstance(devices, list) and devices and all(type(index) is int and index >= 0 for index in devices)
    if not valid or len(set(devices)) != len(devices):  # type: ignore[arg-type]
        raise MisconfigurationError(
            f'devices={given!r} must be "auto", a number of devices of at least 1, -1 for all of them, or a list of '
            "distinct indices such as [0]."
        )
    indices: list[int] = list(devices)  # type: ignore[arg-type]
    if max(indices) >= count:
        raise MisconfigurationError(
            f"devices={given!r} asks for more than the {count} {accelerator.name} device(s) of this machine."
        )
    return indices
