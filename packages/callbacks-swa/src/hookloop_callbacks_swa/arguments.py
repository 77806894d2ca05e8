"""Values that users pass: checked when a callback is made, with messages that say what is allowed."""

import math
from collections.abc import Sequence

import torch

from hookloop.errors import MisconfigurationError


def device_of(owner: str, given: object) -> torch.device | None:
    """A device for averages; None stays None."""
    if given is None:
        return None
    if isinstance(given, str | torch.device) or (isinstance(given, int) and not isinstance(given, bool)):
        try:
            return torch.device(given)
        except RuntimeError:
            pass
    raise MisconfigurationError(
        f'{owner}(device={given!r}) is no device. Give one, such as "cpu" or "cuda:0", or None for that of the model.'
    )


def flag(owner: str, name: str, given: object) -> bool:
    """True or False, and nothing like it."""
    if isinstance(given, bool):
        return given
    raise MisconfigurationError(f"{owner}({name}={given!r}) must be True or False.")


def whole(owner: str, name: str, given: object, least: int, what: str) -> int:
    """A whole number of at least `least`."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= least:
        return given
    raise MisconfigurationError(f"{owner}({name}={given!r}) must be a whole number of at least {least}: {what}.")


def whole_or_none(owner: str, name: str, given: object, least: int, what: str) -> int | None:
    """The same, or None."""
    return None if given is None else whole(owner, name, given, least, what)


def number(owner: str, name: str, given: object, what: str, *, least: float = 0.0, most: float = math.inf) -> float:
    """A finite number from `least` to `most`."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        value = float(given)
        if math.isfinite(value) and least <= value <= most:
            return value
    allowed = f"of at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
    raise MisconfigurationError(f"{owner}({name}={given!r}) must be a number {allowed}: {what}.")


def positive(owner: str, name: str, given: object, what: str) -> float:
    """A finite number above 0."""
    value = number(owner, name, given, what) if given != 0 or isinstance(given, bool) else 0.0
    if value > 0:
        return value
    raise MisconfigurationError(f"{owner}({name}={given!r}) must be above 0: {what}.")


def rates_of(owner: str, given: object) -> float | list[float] | None:
    """One learning rate, one for each parameter group, or None."""
    what = "a learning rate for all parameter groups, or a list with one for each"
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str):
        if not given:
            raise MisconfigurationError(f"{owner}(swa_lrs={given!r}) is empty: give {what}.")
        return [positive(owner, "swa_lrs", one, what) for one in given]
    return positive(owner, "swa_lrs", given, what)


def function(owner: str, name: str, given: object) -> None:
    """Something that can be called, or None.

    Raises:
        MisconfigurationError: it is something else.
    """
    if given is not None and not callable(given):
        raise MisconfigurationError(
            f"{owner}({name}={given!r}) cannot be called. Give a function in the form that "
            f"torch.optim.swa_utils.AveragedModel({name}=...) takes."
        )
