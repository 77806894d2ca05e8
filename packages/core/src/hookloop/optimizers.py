"""Optimizers and schedulers: every shape that configure_optimizers may return, and the optimizer that users step."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from hookloop.errors import MisconfigurationError

FORMS = (
    "an optimizer; a list of optimizers; two lists, of optimizers and of schedulers; a dict with the key "
    '"optimizer" and perhaps "lr_scheduler"; a tuple of such dicts; or None'
)


@dataclass(slots=True)
class LRSchedulerConfig:
    """A scheduler and when it steps.

    Attributes:
        scheduler: torch's scheduler, or anything that the module's `lr_scheduler_step` can step.
        interval: "epoch" or "step".
        frequency: every so many epochs, or optimizer steps.
        monitor: the metric that a plateau scheduler steps on.
        strict: whether a missing metric is an error; otherwise the step is left out with a warning.
        name: what a learning rate monitor calls it.
        reduce_on_plateau: whether it steps on a metric; told from the class if not given.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    strict: bool = True
    name: str | None = None
    reduce_on_plateau: bool = False


@dataclass(slots=True)
class Optimization:
    """What a fit optimizes with; empty in the other entry points.

    Attributes:
        optimizers: torch's optimizers.
        lightning_optimizers: the same, wrapped.
        schedulers: with their intervals.
        gradient_clip_val: the largest norm or value, None for no clipping.
        gradient_clip_algorithm: "norm" or "value", None if not given.
        configured: whether a fit has filled it.
        clips: whether configure_gradient_clipping has anything to do: there is a value, or the module overrides it.
    """

    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    optimizers: list[Optimizer] = field(default_factory=list)
    lightning_optimizers: list["LightningOptimizer"] = field(default_factory=list)
    schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    configured: bool = False
    clips: bool = False


class LightningOptimizer:
    """An optimizer whose `step` is the trainer's: hooks, clipping, precision and counting happen around it.

    Everything else is the wrapped optimizer's.

    Args:
        optimizer: torch's optimizer.
        step: called with the optimizer and the closure.
    """

    def __init__(self, optimizer: Optimizer, step: Callable[[Optimizer, Callable[[], Any] | None], Any]) -> None:
        self._optimizer = optimizer
        self._step = step

    @property
    def optimizer(self) -> Optimizer:
        """torch's optimizer."""
        return self._optimizer

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Step. A closure, if given, is run first, with gradients enabled, and computes them.

        Returns:
            What the closure returned, None without one.
        """
        if closure is not None and not callable(closure):
            raise MisconfigurationError(
                f"optimizer.step(closure={closure!r}): the closure must be a function that computes the gradients and "
                "returns the loss."
            )
        return self._step(self._optimizer, closure)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("_optimizer", "_step"):
            # Of a copy that is being built: there is no wrapped optimizer yet that could be asked.
            raise AttributeError(name)
        return getattr(self._optimizer, name)

    def __getstate__(self) -> dict[str, Any]:
        # A copy belongs to no run, and must not drag one along.
        return {"_optimizer": self._optimizer, "_step": _step_outside_of_a_run}

    def __repr__(self) -> str:
        return f"LightningOptimizer({self._optimizer!r})"


def _step_outside_of_a_run(optimizer: Optimizer, closure: Callable[[], Any] | None) -> Any:
    raise MisconfigurationError(
        f"This LightningOptimizer of a {type(optimizer).__name__} is a copy and belongs to no run. Step "
        "its .optimizer, or take the one that self.optimizers() gives inside a run."
    )


def resolve_optimizers(returned: Any, module_name: str) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Optimizers and schedulers, from whatever configure_optimizers returned.

    Args:
        returned: one of `FORMS`.
        module_name: the module's class, for messages.

    Raises:
        MisconfigurationError: none of the forms, a scheduler without its optimizer, or a scheduler's dict that does not
            say what is needed.
    """
    where = f"{module_name}.configure_optimizers()"
    optimizers: list[Optimizer]
    schedulers: list[LRSchedulerConfig] = []
    if returned is None:
        warnings.warn(f"{where} returned None: this fit runs without an optimizer.", stacklevel=2)
        return [], []
    if isinstance(returned, Optimizer):
        optimizers = [returned]
    elif isinstance(returned, Mapping):
        optimizers, schedulers = _from_dicts(where, [returned])
    elif _is_sequence(returned) and len(returned) == 2 and all(_is_sequence(part) for part in returned):
        optimizers = list(returned[0])
        schedulers = [_scheduler_config(where, scheduler) for scheduler in returned[1]]
    elif _is_sequence(returned) and returned and all(isinstance(part, Mapping) for part in returned):
        optimizers, schedulers = _from_dicts(where, returned)
    elif _is_sequence(returned) and all(isinstance(part, Optimizer) for part in returned):
        optimizers = list(returned)
    else:
        raise MisconfigurationError(f"{where} returned {_describe(returned)}. It must return {FORMS}.")
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise MisconfigurationError(
                f"{where} returned {_describe(optimizer)} where an optimizer is expected. It must return {FORMS}."
            )
    _check_schedulers_belong(where, optimizers, schedulers)
    return optimizers, schedulers


def _from_dicts(where: str, dicts: Iterable[Mapping[str, Any]]) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    optimizers: list[Optimizer] = []
    schedulers: list[LRSchedulerConfig] = []
    for given in dicts:
        _check_keys(where, given, ("optimizer", "lr_scheduler", "monitor"))
        if "optimizer" not in given:
            raise MisconfigurationError(
                f'{where} returned a dict with the keys {list(given)} and no "optimizer". It must return {FORMS}.'
            )
        optimizers.append(given["optimizer"])
        if given.get("lr_scheduler") is not None:
            schedulers.append(_scheduler_config(where, given["lr_scheduler"], given.get("monitor")))
    return optimizers, schedulers


def _scheduler_config(where: str, given: Any, monitor: str | None = None) -> LRSchedulerConfig:
    if isinstance(given, Mapping):
        _check_keys(where, given, tuple(entry.name for entry in fields(LRSchedulerConfig)))
        if "scheduler" not in given:
            raise MisconfigurationError(
                f'{where}: the dict of a scheduler has the keys {list(given)} and no "scheduler". Put the scheduler '
                "under that key."
            )
        settings = {"monitor": monitor, **given}
        settings.setdefault("reduce_on_plateau", isinstance(given["scheduler"], ReduceLROnPlateau))
        config = LRSchedulerConfig(**settings)
    else:
        config = LRSchedulerConfig(given, monitor=monitor, reduce_on_plateau=isinstance(given, ReduceLROnPlateau))
    if isinstance(config.scheduler, type) or not hasattr(config.scheduler, "step"):
        raise MisconfigurationError(
            f"{where}: {_describe(config.scheduler)} was given as a scheduler, and it has no step(). Pass an instance "
            "of one of torch.optim.lr_scheduler."
        )
    if config.interval not in ("epoch", "step"):
        raise MisconfigurationError(
            f'{where}: a scheduler has interval={config.interval!r}. Use "epoch" or "step" (optimizer steps).'
        )
    if isinstance(config.frequency, bool) or not isinstance(config.frequency, int) or config.frequency < 1:
        raise MisconfigurationError(
            f"{where}: a scheduler has frequency={config.frequency!r}, which must be a whole number of at least 1."
        )
    if config.reduce_on_plateau and config.monitor is None:
        raise MisconfigurationError(
            f"{where}: {type(config.scheduler).__name__} steps on a metric. Say which: "
            '{"optimizer": ..., "lr_scheduler": {"scheduler": ..., "monitor": "val_loss"}}.'
        )
    return config


def _check_keys(where: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            close = get_close_matches(str(key), known, n=1)
            meant = f' Did you mean "{close[0]}"?' if close else ""
            raise MisconfigurationError(
                f"{where} returned a dict with the key {key!r}, and {', '.join(known)} are known.{meant}"
            )


def _check_schedulers_belong(
    where: str, optimizers: Sequence[Optimizer], schedulers: Sequence[LRSchedulerConfig]
) -> None:
    for config in schedulers:
        optimizer = getattr(config.scheduler, "optimizer", None)
        if isinstance(optimizer, Optimizer) and not any(optimizer is known for known in optimizers):
            raise MisconfigurationError(
                f"{where} returned a {type(config.scheduler).__name__} of a {type(optimizer).__name__} that it did not "
                "return. Return that optimizer too, or build the scheduler on one that is returned."
            )


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _describe(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if _is_sequence(value):
        return f"a {type(value).__name__} of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"{value!r} ({type(value).__name__})"
