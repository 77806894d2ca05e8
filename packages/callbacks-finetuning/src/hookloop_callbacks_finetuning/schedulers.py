"""Schedulers and parameter groups that were added after they were made: the new groups follow them too.

A scheduler of torch keeps a list with an entry for each group (`base_lrs`), and refuses to step once there are more
groups. Here a new group is given entries of its own, so that its rate keeps its ratio to that of the first group:
whatever the scheduler multiplies the one by, it multiplies the other by.
"""

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from hookloop.view import TrainerView

_RATES = ("base_lrs", "max_lrs")
_COPIED = ("lr_lambdas", "min_lrs", "base_momentums", "max_momentums")
_RATES_IN_GROUP = ("initial_lr", "max_lr", "min_lr", "swa_lr")
_COPIED_IN_GROUP = ("base_momentum", "max_momentum")


def schedulers_of(trainer: TrainerView) -> list[Any]:
    """All schedulers of a run, of all its optimizers."""
    return [config.scheduler for config in trainer.lr_scheduler_configs]


def follow(schedulers: Iterable[Any], optimizer: Optimizer, index: int) -> None:
    """Have an optimizer's schedulers treat a parameter group like the first one, from the rate that it has now.

    Args:
        schedulers: of all optimizers.
        optimizer: torch's, whose group it is.
        index: of the group. All groups before it are known to the schedulers.
    """
    first, group = optimizer.param_groups[0], optimizer.param_groups[index]
    now = float(first["lr"])
    ratio = float(group["lr"]) / now if now else None  # at a rate of zero, as in a warm-up's first step
    scheduled = [one for scheduler in schedulers for one in _with_parts(scheduler) if _steps(one, optimizer)]
    if not scheduled:
        return
    for name in _RATES_IN_GROUP:
        if name in first:
            group[name] = _scaled(first[name], ratio, group["lr"])
    for name in _COPIED_IN_GROUP:
        if name in first:
            group[name] = first[name]
    for scheduler in scheduled:
        for name in _RATES:
            _put(scheduler, name, index, lambda value: _scaled(value, ratio, group["lr"]))
        for name in _COPIED:
            _put(scheduler, name, index, lambda value: value)
        _put(scheduler, "_last_lr", index, lambda value: group["lr"])


def _scaled(value: Any, ratio: float | None, rate: Any) -> Any:
    return rate if ratio is None else value * ratio


def _with_parts(scheduler: Any) -> Iterable[Any]:
    yield scheduler
    for part in vars(scheduler).get("_schedulers", ()):  # SequentialLR, ChainedScheduler
        yield from _with_parts(part)


def _steps(scheduler: Any, optimizer: Optimizer) -> bool:
    own = getattr(scheduler, "optimizer", None)
    return own is optimizer or getattr(own, "optimizer", None) is optimizer  # the wrapper that users see


def _put(scheduler: Any, name: str, index: int, of_first: Any) -> None:
    entries = getattr(scheduler, name, None)
    if not isinstance(entries, list) or not entries or index > len(entries):
        return
    entries[index : index + 1] = [of_first(entries[0])]
