"""`LearningRateMonitor`: logs the rates that the optimizers train with."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from hookloop import LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_monitoring.declining import Declining

_STEP_HOOK, _EPOCH_HOOK = "on_before_optimizer_step", "on_train_epoch_start"


class LearningRateMonitor(Declining):
    """Logs the learning rate of every parameter group, and its momentum and weight decay if asked to.

    By steps: the rate that the optimizer is about to step with, every `log_every_n_steps` steps, whoever has set it: a
    scheduler, a finder, another callback or the module itself; with manual optimization too. By epochs: the rate that
    an epoch begins with, in the row of that epoch. They go where `self.log` goes: to the loggers if there are any, and
    to `trainer.callback_metrics`.

    Names: "lr-" and the optimizer's class, or the name of its scheduler ({"scheduler": ..., "name": "rate"}); "-1",
    "-2", ... for further optimizers of a class; "/pg1", "/pg2", ... for several parameter groups, or "/" and the
    group's own name; then "-momentum" and "-weight_decay". An optimizer that finds its rate by itself and keeps none in
    its groups is left out.

    Args:
        logging_interval: "step" or "epoch". Default None: an optimizer all of whose schedulers step by epochs is
            logged by epochs, and every other one by steps.
        log_momentum: log "momentum", or the first of "betas", of groups that have one.
        log_weight_decay: log "weight_decay" of groups that have it.
        log_key_prefix: what all names begin with.

    Raises:
        MisconfigurationError: an argument that is not among those described here; or, when training begins, two groups
            that would have one name.

    Attributes:
        lrs: the last rate by name, as a number. It is as long as there are groups, however long the run is.
    """

    # After everybody who may set a rate in the same hook.
    order: ClassVar[Order] = Order.MONITOR
    declinable: ClassVar[tuple[str, ...]] = (_STEP_HOOK, _EPOCH_HOOK)

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
        log_key_prefix: str | None = None,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise MisconfigurationError(
                f'LearningRateMonitor(logging_interval={logging_interval!r}) must be "step", "epoch", or None: as each '
                "optimizer's schedulers step."
            )
        if log_key_prefix is not None and not isinstance(log_key_prefix, str):
            raise MisconfigurationError(
                f"LearningRateMonitor(log_key_prefix={log_key_prefix!r}) must be a string, which all names begin with."
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self.log_key_prefix = log_key_prefix
        self.lrs: dict[str, float] = {}
        self.decline()

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Check the names. From here on, hooks that this run has no use for are not called."""
        self.lrs = {}
        for optimizer, name in zip(trainer.optimizers, _names(trainer), strict=True):
            for _ in self._values(optimizer, name):
                pass
        by_step = {self._by_step(trainer, optimizer) for optimizer in trainer.optimizers}
        unused = [hook for steps, hook in ((True, _STEP_HOOK), (False, _EPOCH_HOOK)) if steps not in by_step]
        self.decline(*unused, trainer=trainer)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """The next run may have a use for all hooks."""
        self.decline()

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Log what is logged by epochs."""
        for optimizer, name in zip(trainer.optimizers, _names(trainer), strict=True):
            if not self._by_step(trainer, optimizer):
                self._log(optimizer, name)

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Log what is logged by steps, in the steps that loggers get."""
        if not trainer.should_update_logs:
            return
        for known, name in zip(trainer.optimizers, _names(trainer), strict=True):
            if known is optimizer and self._by_step(trainer, known):
                self._log(known, name)

    def _by_step(self, trainer: TrainerView, optimizer: Optimizer) -> bool:
        if self.logging_interval is not None:
            return self.logging_interval == "step"
        intervals = [config.interval for config in _schedulers_of(trainer, optimizer)]
        return not intervals or "step" in intervals

    def _log(self, optimizer: Optimizer, name: str) -> None:
        for key, value in self._values(optimizer, name):
            self.log(key, value, batch_size=1)

    def _values(self, optimizer: Optimizer, name: str) -> Iterator[tuple[str, float]]:
        groups = optimizer.param_groups
        labels = [str(group.get("name", f"pg{index}")) for index, group in enumerate(groups, start=1)]
        twice = sorted(label for label, count in Counter(labels).items() if count > 1)
        if twice:
            raise MisconfigurationError(
                f"{type(optimizer).__name__} has several parameter groups of the name {', '.join(map(repr, twice))}, "
                "and LearningRateMonitor logs a rate under each name. Give each group a name of its own."
            )
        for group, label in zip(groups, labels, strict=True):
            key = (self.log_key_prefix or "") + (f"{name}/{label}" if len(groups) > 1 or "name" in group else name)
            if group.get("lr") is not None:
                self.lrs[key] = _number(group["lr"])
                yield key, self.lrs[key]
            momentum = group["betas"][0] if "betas" in group else group.get("momentum")
            if self.log_momentum and momentum is not None:
                yield f"{key}-momentum", _number(momentum)
            if self.log_weight_decay and group.get("weight_decay") is not None:
                yield f"{key}-weight_decay", _number(group["weight_decay"])


def _schedulers_of(trainer: TrainerView, optimizer: Optimizer) -> list[Any]:
    return [config for config in trainer.lr_scheduler_configs if _optimizer_of(config) is optimizer]


def _optimizer_of(config: Any) -> Any:
    """The optimizer that a scheduler steps; a module may have wrapped it."""
    optimizer = getattr(config.scheduler, "optimizer", None)
    return getattr(optimizer, "optimizer", optimizer)


def _names(trainer: TrainerView) -> list[str]:
    """A name for each optimizer.

    Raises:
        MisconfigurationError: two have the same.
    """
    names, seen = [], Counter[str]()
    for optimizer in trainer.optimizers:
        given = next((config.name for config in _schedulers_of(trainer, optimizer) if config.name), None)
        kind = type(optimizer).__name__
        names.append(given or (f"lr-{kind}-{seen[kind]}" if seen[kind] else f"lr-{kind}"))
        seen[kind] += given is None
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise MisconfigurationError(
            f"LearningRateMonitor would log the rates of several optimizers as {', '.join(map(repr, twice))}. Give "
            "each scheduler a name of its own."
        )
    return names


def _number(value: Any) -> float:
    # A copy: a rate that is a tensor is changed in place.
    return float(value.detach()) if isinstance(value, Tensor) else float(value)
