"""From the Trainer's `devices` to the indices of devices."""

from numbers import Integral
from typing import Any

from hookloop.errors import MisconfigurationError


def parse_indices(devices: Any, count: int, kind: str) -> list[int]:
    """The devices that were asked for.

    Args:
        devices: a number of devices, -1 for all, a list of indices, or these as text ("2", "0,1").
        count: how many there are.
        kind: what they are called, for messages.

    Returns:
        Their indices, 0-based.

    Raises:
        MisconfigurationError: none of these forms, or devices that are not there.
    """
    given = devices
    if isinstance(devices, Integral) and not isinstance(devices, bool):
        devices = int(devices)  # of NumPy, for example
    if isinstance(devices, str):
        try:
            numbers = [int(part) for part in devices.split(",") if part.strip()]
        except ValueError:
            numbers = []
        devices = numbers[0] if "," not in devices and numbers else numbers
    if isinstance(devices, int) and not isinstance(devices, bool) and (devices == -1 or devices > 0):
        devices = list(range(count if devices == -1 else min(devices, count + 1)))
    valid = isinstance(devices, list) and devices and all(type(index) is int and index >= 0 for index in devices)
    if not valid or len(set(devices)) != len(devices):
        raise MisconfigurationError(
            f'devices={given!r} must be "auto", a number of devices of at least 1, -1 for all of them, or a list of '
            "distinct indices such as [0]."
        )
    indices: list[int] = list(devices)
    if max(indices) >= count:
        raise MisconfigurationError(
            f"devices={given!r} asks for more than the {count} {kind} device(s) of this machine."
        )
    return indices
