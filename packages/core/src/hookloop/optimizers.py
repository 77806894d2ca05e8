"""Optimizers and schedulers: every shape that configure_optimizers may return, and the optimizer that users step."""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

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
    """What a fit optimizes with. While its module is evaluated it is the last fit's; empty for any other module.

    Attributes:
        optimizers: torch's optimizers.
        lightning_optimizers: the same, wrapped.
        schedulers: with their intervals.
        gradient_clip_val: the largest norm or value, None for no clipping.
        gradient_clip_algorithm: "norm" or "value", None if not given.
        configured: whether a fit has filled it.
        clips: whether configure_gradient_clipping has anything to do: there is a value, or the module overrides it.
        uncounted: optimizers that the module's own optimizer_step has stepped, until it is through.
    """

    gradient_clip_val: int | float | None = None
    gradient_clip_algorithm: str | None = None
    optimizers: list[Optimizer] = field(default_factory=list)
    lightning_optimizers: list["LightningOptimizer"] = field(default_factory=list)
    schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    configured: bool = False
    clips: bool = False
    uncounted: list[Optimizer] = field(default_factory=list)


if TYPE_CHECKING:
    _StandsFor = Optimizer
else:
    _StandsFor = object  # nothing is inherited: whatever is asked of the wrapper must reach the optimizer


class LightningOptimizer(_StandsFor):
    """An optimizer whose `step` is the trainer's: hooks, clipping, precision and counting happen around it.

    Everything else is the wrapped optimizer's, and is read from it and written to it: `param_groups`, `state_dict()`,
    `add_param_group`. It can be used wherever torch wants an optimizer, for a learning rate scheduler for example, and
    `isinstance(optimizer, torch.optim.Adam)` is True for a wrapped Adam.

    Args:
        optimizer: torch's optimizer.
        step: called with the optimizer and the closure, and what else `step` was given by name.
        toggle: makes a context in which only this optimizer's parameters need gradients.
    """

    _optimizer: Optimizer
    _step: Callable[..., Any]
    _toggle: Callable[[Optimizer], AbstractContextManager[None]]

    def __init__(
        self,
        optimizer: Optimizer,
        step: Callable[..., Any],
        toggle: Callable[[Optimizer], AbstractContextManager[None]] | None = None,
    ) -> None:
        vars(self).update(_optimizer=optimizer, _step=step, _toggle=toggle or _outside_of_a_run)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        # What isinstance asks second, after type(self).
        return type(self._optimizer)

    @property
    def optimizer(self) -> Optimizer:
        """torch's optimizer."""
        return self._optimizer

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Step. A closure, if given, is run first, with gradients enabled, and computes them.

        Args:
            closure: computes the gradients and returns the loss; LBFGS runs it several times.
            **kwargs: handed on to the optimizer's own `step`.

        Returns:
            What the closure returned, None without one.

        Raises:
            MisconfigurationError: the closure cannot be called, or the trainer takes the steps (automatic
                optimization) and this is called in training_step.
        """
        if closure is not None and not callable(closure):
            raise MisconfigurationError(
                f"optimizer.step(closure={closure!r}): the closure must be a function that computes the gradients and "
                "returns the loss."
            )
        return self._step(self._optimizer, closure, **kwargs)

    def toggle_model(self, sync_grad: bool = True) -> AbstractContextManager[None]:
        """A context in which only the parameters of this optimizer need gradients, as `toggled_optimizer` makes it.

        Args:
            sync_grad: whether processes that train together average their gradients in it; False is for batches that
                only accumulate. On one device there is nothing to average.
        """
        return self._toggle(self._optimizer)

    def __getattr__(self, name: str) -> Any:
        if (name.startswith("__") and name.endswith("__")) or name in _OWN:
            # Of a copy that is being built: there is no wrapped optimizer yet that could be asked.
            raise AttributeError(name)
        return getattr(self._optimizer, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "step":
            # A scheduler that is built on this wrapper replaces step by one that remembers that it was called. The
            # trainer steps what is wrapped, and that has to be remembered too.
            vars(self)[name] = value
            self._optimizer.register_step_post_hook(_remember_the_call)
        else:
            setattr(self._optimizer, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._optimizer, name)

    def __dir__(self) -> Iterable[str]:
        return sorted({*dir(type(self)), *dir(self._optimizer)})

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy belongs to no run, and must not drag one along.
        return LightningOptimizer, (self._optimizer, _outside_of_a_run, _outside_of_a_run)

    def __repr__(self) -> str:
        return f"LightningOptimizer({self._optimizer!r})"


_OWN = ("_optimizer", "_step", "_toggle")


def _remember_the_call(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    optimizer._opt_called = True  # type: ignore[attr-defined]


def _outside_of_a_run(optimizer: Optimizer, closure: Any = None, **kwargs: Any) -> Any:
    raise MisconfigurationError(
        f"This LightningOptimizer of a {type(optimizer).__name__} is a copy and belongs to no run. Step "
        "its .optimizer, or take the one that self.optimizers() gives inside a run."
    )


def resolve_optimizers(
    returned: Any, module_name: str, automatic: bool = True
) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """Optimizers and schedulers, from whatever configure_optimizers returned.

    Args:
        returned: one of `FORMS`.
        module_name: the module's class, for messages.
        automatic: whether the trainer steps schedulers. With manual optimization a plateau scheduler needs no monitor,
            and settings that say when the trainer steps get a warning.

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
        optimizers, schedulers = _from_dicts(where, [returned], automatic)
    elif _is_sequence(returned) and len(returned) == 2 and all(_is_sequence(part) for part in returned):
        optimizers = list(returned[0])
        schedulers = [_scheduler_config(where, scheduler, None, automatic) for scheduler in returned[1]]
    elif _is_sequence(returned) and returned and all(isinstance(part, Mapping) for part in returned):
        optimizers, schedulers = _from_dicts(where, returned, automatic)
    elif _is_sequence(returned) and all(isinstance(part, Optimizer) for part in returned):
        optimizers = list(returned)
    else:
        raise MisconfigurationError(f"{where} returned {_describe(returned)}. It must return {FORMS}.")
    # One that was taken from an earlier fit is wrapped still.
    optimizers = [_unwrapped(optimizer) for optimizer in optimizers]
    for optimizer in optimizers:
        if not isinstance(optimizer, Optimizer):
            raise MisconfigurationError(
                f"{where} returned {_describe(optimizer)} where an optimizer is expected. It must return {FORMS}."
            )
    _check_schedulers_belong(where, optimizers, schedulers)
    return optimizers, schedulers


def _from_dicts(
    where: str, dicts: Iterable[Mapping[str, Any]], automatic: bool
) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    optimizers: list[Optimizer] = []
    schedulers: list[LRSchedulerConfig] = []
    for given in dicts:
        _check_keys(where, given, ("optimizer", "lr_scheduler", "monitor"))
        if "optimizer" not in given:
            raise MisconfigurationError(
                f'{where} returned a dict with the keys {list(given)} and no "optimizer". It must return {FORMS}.'
            )
        if not automatic:
            _warn_of_unused(where, given, ("monitor",))
        optimizers.append(given["optimizer"])
        if given.get("lr_scheduler") is not None:
            schedulers.append(_scheduler_config(where, given["lr_scheduler"], given.get("monitor"), automatic))
    return optimizers, schedulers


def _scheduler_config(where: str, given: Any, monitor: str | None, automatic: bool) -> LRSchedulerConfig:
    if isinstance(given, Mapping):
        if not automatic:
            _warn_of_unused(where, given, ("interval", "frequency", "monitor", "strict", "reduce_on_plateau"))
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
    if automatic and config.reduce_on_plateau and config.monitor is None:
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
        optimizer = _unwrapped(getattr(config.scheduler, "optimizer", None))
        if isinstance(optimizer, Optimizer) and not any(optimizer is known for known in optimizers):
            raise MisconfigurationError(
                f"{where} returned a {type(config.scheduler).__name__} of a {type(optimizer).__name__} that it did not "
                "return. Return that optimizer too, or build the scheduler on one that is returned."
            )


def _warn_of_unused(where: str, given: Mapping[str, Any], keys: Sequence[str]) -> None:
    unused = [key for key in keys if key in given]
    if unused:
        warnings.warn(
            f"{where}: with manual optimization training_step steps the schedulers (self.lr_schedulers().step()), so "
            f"{', '.join(map(repr, unused))} of a scheduler has no effect. Leave it out.",
            stacklevel=2,
        )


def _unwrapped(optimizer: Any) -> Any:
    return optimizer.optimizer if type(optimizer) is LightningOptimizer else optimizer


def _is_sequence(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _describe(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if _is_sequence(value):
        return f"a {type(value).__name__} of {', '.join(map(_kind, value)) or 'nothing'}"
    return f"{value!r} ({type(value).__name__})"


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
