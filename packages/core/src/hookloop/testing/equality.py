"""Whether two values are the same, bit for bit, whatever they are made of; and where they are not."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def difference(one: Any, other: Any, where: str = "") -> str | None:
    """The first place at which two values differ, in words; None if they are the same.

    Tensors, numbers, strings, and mappings and sequences of them are looked into. NaN is the same as NaN.

    Args:
        one: a value.
        other: the value that it should be.
        where: how the place of the two is called.
    """
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return _difference_of_tensors(one, other, where)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*other, *one]):
            place = f"{where}[{key!r}]" if where else str(key)
            if key not in one or key not in other:
                return f"{place} is {'missing' if key not in one else 'there, and should not be'}"
            if (found := difference(one[key], other[key], place)) is not None:
                return found
        return None
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return f"{where}: {len(one)} entries instead of {len(other)}"
        found_at = (difference(a, b, f"{where}[{index}]") for index, (a, b) in enumerate(zip(one, other, strict=True)))
        return next((found for found in found_at if found is not None), None)
    try:
        same = type(one) is type(other) and bool(one == other or (one != one and other != other))
    except Exception:  # noqa: BLE001 - some objects cannot be compared; then they are not known to be the same
        same = False
    return None if same else f"{where}: {_short(one)} instead of {_short(other)}"


def _difference_of_tensors(one: Tensor, other: Tensor, where: str) -> str | None:
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"{where}: {one.dtype} of shape {tuple(one.shape)} instead of {other.dtype} of {tuple(other.shape)}"
    if torch.equal(one, other):
        return None
    differ = ((one != other) & ~(one.isnan() & other.isnan())).nonzero()
    if not len(differ):
        return None
    first = tuple(differ[0].tolist())
    return f"{where}{list(first) if first else ''}: {one[first].item()} instead of {other[first].item()}"


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
