"""Running reductions of what is logged, kept on the value's own device: no update waits for it."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from hookloop.errors import MisconfigurationError


@runtime_checkable
class Metric(Protocol):
    """Any object that accumulates by itself; torchmetrics' are such."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Take in one batch."""
        ...

    def compute(self) -> Any:
        """The value over everything taken in since the last reset."""
        ...

    def reset(self) -> None:
        """Forget everything taken in."""
        ...


Loggable: TypeAlias = Tensor | float | int | bool | Metric
"""What can be logged: a tensor with one element, a number, or a `Metric`."""


class Accumulator(Protocol):
    """Reduces the values of one key over an epoch."""

    def update(self, value: Tensor | float, weight: int) -> None:
        """Take in a value; `weight` is the number of samples that it stands for."""
        ...

    def compute(self, dtype: torch.dtype | None = None) -> Tensor | float:
        """The reduction of everything taken in, on the values' device.

        Args:
            dtype: of the tensors of the CPU, whose values come as numbers; None: all numbers were numbers.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything taken in, as tensors and numbers."""
        ...

    def mark(self) -> tuple[Any, ...]:
        """Everything taken in until now, for `as_of`: asked again and again, so nothing is computed or copied."""
        ...

    def as_of(self, mark: tuple[Any, ...]) -> "Accumulator":
        """One as this one was when it gave that mark."""
        ...

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on where another one was, with tensors on this device."""
        ...


MOST_PENDING = 64
"""Values that are kept before they are added up."""


class Total:
    """Sum of the values, or their mean weighted by batch size.

    Tensors are added up in float64 in place on their device (float32 loses the small values of long epochs), numbers
    on the host; the result has the tensors' dtype, at least float32 and torch's default one.
    """

    __slots__ = ("_device_total", "_dtype", "_host_total", "_mean", "_pending", "_pending_weight", "_weight")

    def __init__(self, mean: bool) -> None:
        self._mean = mean
        self._host_total = 0.0
        self._device_total: Tensor | None = None
        self._dtype = at_least_float32()
        self._weight = 0
        # Not added up yet, all of the same weight: one kernel for many of them costs hardly more than one for each.
        self._pending: list[Tensor] = []
        self._pending_weight = 1

    def update(self, value: Tensor | float, weight: int) -> None:
        if not self._mean:
            weight = 1
        self._weight += weight
        if type(value) is float or not isinstance(value, Tensor):
            self._host_total += value * weight
        else:
            if weight != self._pending_weight:
                self._add_pending()
                self._pending_weight = weight
            self._pending.append(value)
            if len(self._pending) == MOST_PENDING:
                self._add_pending()

    def _add_pending(self) -> None:
        if not self._pending:
            return
        pending = torch.stack(self._pending)
        self._dtype = torch.promote_types(self._dtype, pending.dtype)
        total = pending.sum(dtype=torch.float64) * self._pending_weight
        self._device_total = total if self._device_total is None else self._device_total + total
        self._pending.clear()

    def compute(self, dtype: torch.dtype | None = None) -> Tensor | float:
        divisor = self._weight if self._mean else 1
        if divisor == 0:
            return math.nan
        self._add_pending()
        result_dtype = self._dtype if dtype is None else torch.promote_types(self._dtype, dtype)
        if self._device_total is not None:
            return ((self._device_total + self._host_total) / divisor).to(result_dtype)
        mean = self._host_total / divisor
        return mean if dtype is None else torch.tensor(mean, dtype=result_dtype, device="cpu")

    def state_dict(self) -> dict[str, Any]:
        # What is pending stays so: added up at another moment, the sum might differ in its last bit.
        pending = [value.detach() for value in self._pending]
        alike = len({value.dtype for value in pending}) == 1
        return {
            "host_total": self._host_total,
            "device_total": self._device_total,
            "dtype": self._dtype,
            "weight": self._weight,
            "pending": torch.stack(pending) if alike else pending,
            "pending_weight": self._pending_weight,
        }

    def mark(self) -> tuple[Any, ...]:
        # Tensors are never added to in place.
        total = self._host_total, self._device_total, self._dtype
        return *total, self._weight, self._pending.copy(), self._pending_weight

    def as_of(self, mark: tuple[Any, ...]) -> "Total":
        then = Total(self._mean)
        then._host_total, then._device_total, then._dtype, then._weight, pending, then._pending_weight = mark
        then._pending = list(pending)
        return then

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        total = state["device_total"]
        self._host_total, self._dtype, self._weight = state["host_total"], state["dtype"], state["weight"]
        self._device_total = None if total is None else total.to(device)
        self._pending = [value.to(device) for value in state["pending"]]
        self._pending_weight = state["pending_weight"]


class Extreme:
    """Smallest or largest of the values; a NaN among them makes the result NaN."""

    __slots__ = ("_extreme", "_pick", "_pick_tensor")

    def __init__(self, pick: Callable[[float, float], float], pick_tensor: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._pick = pick
        self._pick_tensor = pick_tensor
        self._extreme: Tensor | float | None = None

    def update(self, value: Tensor | float, weight: int) -> None:
        best = self._extreme
        if best is None:
            self._extreme = value.clone() if isinstance(value, Tensor) else value
        elif isinstance(value, Tensor) or isinstance(best, Tensor):
            device = value.device if isinstance(value, Tensor) else best.device  # type: ignore[union-attr]
            self._extreme = self._pick_tensor(_as_tensor(best, device), _as_tensor(value, device))
        else:
            self._extreme = math.nan if math.isnan(value) or math.isnan(best) else self._pick(best, value)

    def compute(self, dtype: torch.dtype | None = None) -> Tensor | float:
        best = math.nan if self._extreme is None else self._extreme
        return best if dtype is None or isinstance(best, Tensor) else torch.tensor(best, dtype=dtype, device="cpu")

    def state_dict(self) -> dict[str, Any]:
        return {"extreme": self._extreme.detach() if isinstance(self._extreme, Tensor) else self._extreme}

    def mark(self) -> tuple[Any, ...]:
        return (self._extreme,)

    def as_of(self, mark: tuple[Any, ...]) -> "Extreme":
        then = Extreme(self._pick, self._pick_tensor)
        (then._extreme,) = mark
        return then

    def load_state_dict(self, state: Mapping[str, Any], device: torch.device) -> None:
        extreme = state["extreme"]
        self._extreme = extreme.to(device) if isinstance(extreme, Tensor) else extreme


def at_least_float32() -> torch.dtype:
    """The dtype of new values: torch's default one, but inside a step of "16-true" not float16, which ends at 65504."""
    return torch.promote_types(torch.float32, torch.get_default_dtype())


def _as_tensor(value: Tensor | float, device: torch.device) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=at_least_float32(), device=device)


_ACCUMULATORS: dict[str, Callable[[], Accumulator]] = {
    "mean": lambda: Total(mean=True),
    "sum": lambda: Total(mean=False),
    "min": lambda: Extreme(min, torch.minimum),
    "max": lambda: Extreme(max, torch.maximum),
}

_NAMES: tuple[tuple[object, str], ...] = (
    ("avg", "mean"),
    (torch.mean, "mean"),
    (torch.sum, "sum"),
    (sum, "sum"),
    (torch.min, "min"),
    (min, "min"),
    (torch.max, "max"),
    (max, "max"),
)
"""What else a reduction may be called, and the functions that do the same."""


def accumulator(reduction: str) -> Accumulator:
    """A new accumulator for a reduction, as `reduction_name` gives it."""
    return _ACCUMULATORS[reduction]()


def reduction_name(key: str, reduce_fx: object) -> str:
    """What a reduction is called.

    Args:
        key: the logged key, for the message.
        reduce_fx: "mean" (or "avg"), "sum", "min" or "max", or torch's or Python's function of that name.

    Raises:
        MisconfigurationError: another reduction.
    """
    if isinstance(reduce_fx, str) and reduce_fx in _ACCUMULATORS:
        return reduce_fx
    for known, name in _NAMES:
        if reduce_fx is known or (isinstance(reduce_fx, str) and reduce_fx == known):
            return name
    raise MisconfigurationError(
        f'self.log("{key}", ..., reduce_fx={reduce_fx!r}): only {", ".join(map(repr, _ACCUMULATORS))} are known. '
        "For anything else log an object with update, compute and reset, such as a torchmetrics metric."
    )
