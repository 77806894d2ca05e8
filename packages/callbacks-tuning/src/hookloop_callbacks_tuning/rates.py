"""Giving an optimizer that has schedulers another base rate."""

from typing import Any

from torch import Tensor
from torch.optim import Optimizer

_OF_A_GROUP = ("lr", "initial_lr", "max_lr", "min_lr")
_OF_A_SCHEDULER = ("base_lrs", "max_lrs", "_last_lr")


def base_rates(optimizer: Optimizer) -> list[float]:
    """What the rate of each group was configured to be: the peak of a cycle, or what a schedule multiplies."""
    return [_base(group) for group in optimizer.param_groups]


def set_base_rate(optimizer: Optimizer, schedulers: list[Any], rate: float) -> None:
    """The first group's base rate is `rate` now; other groups and all schedules keep their proportions to it.

    Args:
        optimizer: whose groups change.
        schedulers: torch's schedulers of it; those inside of others change too.
        rate: of the first group.
    """
    bases = base_rates(optimizer)
    rates = [rate * (base / bases[0]) if bases[0] else rate for base in bases]
    for group, base, new in zip(optimizer.param_groups, bases, rates, strict=True):
        for name in _OF_A_GROUP:
            if name in group:
                set_rate(group, _follow(_number(group[name]), base, new), name)
    for scheduler in schedulers:
        _follow_in(scheduler, bases, rates)


def set_rate(group: dict[str, Any], rate: float, name: str = "lr") -> None:
    """Set a rate of a group, in place if it is a tensor."""
    if isinstance(group[name], Tensor):
        group[name].fill_(rate)
    else:
        group[name] = rate


def _base(group: dict[str, Any]) -> float:
    return _number(group["max_lr"] if "max_lr" in group else group.get("initial_lr", group["lr"]))


def _number(value: Any) -> float:
    return float(value)


def _follow(value: float, base: float, new: float) -> float:
    if value == base:
        return new  # to the last bit
    return value * (new / base) if base else value


def _follow_in(scheduler: Any, bases: list[float], rates: list[float]) -> None:
    for name in _OF_A_SCHEDULER:
        values = getattr(scheduler, name, None)
        if isinstance(values, list) and len(values) == len(bases):
            values[:] = [
                _follow(_number(value), base, new) for value, base, new in zip(values, bases, rates, strict=True)
            ]
    for inner in vars(scheduler).get("_schedulers", ()):
        _follow_in(inner, bases, rates)
