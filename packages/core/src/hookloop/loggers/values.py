"""The one number in whatever a metric is given as."""

import math
from typing import Any

from hookloop.errors import MisconfigurationError


def as_number(logger: str, name: object, value: Any) -> float:
    """The number in an int, a float, or a tensor or array with one element; exact for ints.

    Args:
        logger: class of the logger, for the error.
        name: of the metric, for the error.
        value: what was passed.

    Raises:
        MisconfigurationError: there is none, or more than one.
    """
    number = value
    if callable(getattr(value, "item", None)):
        try:
            number = value.item()
        except (RuntimeError, ValueError) as error:
            raise _no_number(logger, name, value) from error
    if isinstance(number, int):
        return int(number)
    if hasattr(number, "__float__"):
        return float(number)
    raise _no_number(logger, name, value)


def as_step(logger: str, value: Any) -> int:
    """The same for a position on the x-axis, which is whole and finite."""
    number = as_number(logger, "step", value)
    if not math.isfinite(number):
        raise _no_number(logger, "step", value)
    return int(number)


def _no_number(logger: str, name: object, value: Any) -> MisconfigurationError:
    return MisconfigurationError(
        f"{logger}.log_metrics got {value!r} ({type(value).__qualname__}) for {name!r}; a metric is one number: "
        "an int, a float, or a tensor or array with one element, and a step is a finite one. "
        "Text belongs in log_hyperparams."
    )
