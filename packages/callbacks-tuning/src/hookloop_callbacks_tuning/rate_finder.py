"""`LearningRateFinder`: tries rising learning rates before training begins, and sets a good one."""

import math
import warnings
from typing import Any, ClassVar

import torch

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.parsing import lightning_hasattr, lightning_setattr
from hookloop.view import TrainerView
from hookloop_callbacks_tuning.curve import METHODS, MODES, LearningRateCurve, Method, Mode
from hookloop_callbacks_tuning.rates import base_rates, set_base_rate, set_rate

_BETA = 0.98
"""How much of the mean loss a step keeps."""


class LearningRateFinder(Callback):
    """A range test (Smith 2015, "Cyclical Learning Rates for Training Neural Networks") where a fit begins anew.

    A few steps are trained with rising rates, apart from the run (`trainer.trial`), and then everything is as it was,
    but for what it was asked to set: the rate of the optimizer, the base rates of its schedulers, and the attribute of
    the module. Groups with other rates keep their proportions to the first one. A fit that is resumed, or goes on after
    another one, keeps its rates; a trial run (`fast_dev_run`) finds none.

    Args:
        min_lr: the first rate, above 0.
        max_lr: the last rate, above `min_lr`.
        num_training_steps: optimizer steps, and rates, at least 2.
        mode: rates rise by a factor ("exponential") or by an amount ("linear").
        early_stop_threshold: ends when the smoothed loss is above so many times the best one; None does not end. A loss
            that is NaN or infinite ends it in any case.
        update_attr: set the attribute, as well as the optimizer.
        attr_name: name of the attribute, in the module, its hparams, the datamodule or its hparams; "" takes "lr" or
            "learning_rate", whichever is there.
        weights_only: accepted for code written for Lightning; no file is written or read here.
        method: which rate is suggested: "steepest", "valley" or "minimum"; see `LearningRateCurve.suggestion`.

    Raises:
        MisconfigurationError: an argument is none of these; when a fit begins, there is no such attribute, the module
            steps its optimizers itself, or its loss is not for them.

    Attributes:
        optimal_lr: the `LearningRateCurve`, or None before there is one.
    """

    order: ClassVar[Order] = Order.FIRST
    family: ClassVar[str | None] = "learning_rate_finder"
    conflicts: ClassVar[tuple[str, ...]] = ("learning_rate_finder",)

    def __init__(
        self,
        min_lr: float = 1e-8,
        max_lr: float = 1,
        num_training_steps: int = 100,
        mode: Mode = "exponential",
        early_stop_threshold: float | None = 4.0,
        update_attr: bool = True,
        attr_name: str = "",
        weights_only: bool | None = None,
        *,
        method: Method = "steepest",
    ) -> None:
        name = type(self).__name__
        for argument, value in (("min_lr", min_lr), ("max_lr", max_lr), ("early_stop_threshold", early_stop_threshold)):
            if not (value is None and argument == "early_stop_threshold") and not _positive(value):
                raise MisconfigurationError(f"{name}({argument}={value!r}) must be a finite number above 0.")
        if min_lr >= max_lr:
            raise MisconfigurationError(f"{name}(min_lr={min_lr!r}, max_lr={max_lr!r}): min_lr must be the lower one.")
        steps = num_training_steps
        if isinstance(steps, bool) or not isinstance(steps, int) or steps < 2:
            raise MisconfigurationError(f"{name}(num_training_steps={steps!r}) must be a whole number of at least 2.")
        for argument, chosen, allowed in (("mode", mode, MODES), ("method", method, METHODS)):
            if chosen not in allowed:
                raise MisconfigurationError(
                    f"{name}({argument}={chosen!r}) must be one of {', '.join(map(repr, allowed))}."
                )
        if not isinstance(attr_name, str) or not isinstance(update_attr, bool):
            raise MisconfigurationError(
                f"{name}(update_attr={update_attr!r}, attr_name={attr_name!r}): the first must be True or False, the "
                "second a name."
            )
        self.min_lr, self.max_lr, self.num_training_steps = min_lr, max_lr, steps
        self.mode, self.method = mode, method
        self.early_stop_threshold = early_stop_threshold
        self.update_attr, self.attr_name = update_attr, attr_name
        self.optimal_lr: LearningRateCurve | None = None
        self._restored: float | None = None

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a rate, if this is the beginning of a training."""
        restored, self._restored = self._restored, None
        if restored is not None and self.update_attr:
            lightning_setattr(pl_module, self._attribute(pl_module), restored)
        if trainer.ckpt_path is None and trainer.global_step == 0:
            self.lr_find(trainer, pl_module)

    def lr_find(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a rate and set it; to be called in `on_fit_start`."""
        if trainer.fast_dev_run:
            warnings.warn(f"{type(self).__name__} does nothing in a trial run (fast_dev_run).", stacklevel=2)
            return
        attribute = self._attribute(pl_module) if self.update_attr else ""
        if not pl_module.automatic_optimization or len(trainer.optimizers) != 1:
            raise MisconfigurationError(
                f"{type(self).__name__} needs automatic optimization with one optimizer, and "
                f"{type(pl_module).__name__} has {len(trainer.optimizers)}, automatic_optimization="
                f"{pl_module.automatic_optimization}. Leave it out."
            )
        test = _RangeTest(self)
        trainer.trial([test], max_steps=self.num_training_steps)
        self.optimal_lr = LearningRateCurve(self.mode, test.lrs, test.losses, self.method)
        rate = self.optimal_lr.suggestion()
        if rate is None:
            warnings.warn(
                f"{type(self).__name__} has no suggestion: {len(test.losses)} steps had a loss, of which the first 10 "
                "and the last one do not count. Give it more steps (num_training_steps), or a higher "
                "early_stop_threshold. The rate stays as it is.",
                stacklevel=2,
            )
            return
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        set_base_rate(trainer.optimizers[0], schedulers, rate)
        if self.update_attr:
            lightning_setattr(pl_module, attribute, rate)
        trainer.print(f"Learning rate set to {rate:.6g}")

    def state_dict(self) -> dict[str, Any]:
        """The curve and the rate."""
        if self.optimal_lr is None:
            return {}
        return {"results": self.optimal_lr.results, "rate": self.optimal_lr.suggestion()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take them over; the optimizer's state has the rate too."""
        results = state_dict["results"]
        self.optimal_lr = LearningRateCurve(self.mode, results["lr"], results["loss"], self.method)
        self._restored = state_dict["rate"]

    def _attribute(self, pl_module: LightningModule) -> str:
        names = [self.attr_name] if self.attr_name else ["lr", "learning_rate"]
        found = next((name for name in names if lightning_hasattr(pl_module, name)), None)
        if found is None:
            raise MisconfigurationError(
                f"{type(self).__name__} is to set {' or '.join(map(repr, names))}, and neither "
                f"{type(pl_module).__name__}, nor its hparams, nor a datamodule has it. Use that attribute in "
                "configure_optimizers, name another one (attr_name), or set the optimizer alone: update_attr=False."
            )
        return found


class _RangeTest(Callback):
    """Sets the rate before each window of batches, and keeps the loss after it."""

    def __init__(self, finder: LearningRateFinder) -> None:
        self._finder = finder
        self.lrs: list[float] = []
        self.losses: list[float] = []
        self._shares: list[float] = []
        self._sum = self._mean = self._rate = 0.0
        self._best = math.inf
        self._done, self._counts = 0, False

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        bases = base_rates(trainer.optimizers[0])
        self._shares = [base / bases[0] if bases[0] else 1.0 for base in bases]

    def on_train_batch_start(
        self, trainer: TrainerView, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        finder, part = self._finder, trainer.global_step / (self._finder.num_training_steps - 1)
        low, high = finder.min_lr, finder.max_lr
        self._rate = low * (high / low) ** part if finder.mode == "exponential" else low + part * (high - low)
        for group, share in zip(trainer.optimizers[0].param_groups, self._shares, strict=True):
            set_rate(group, self._rate * share)

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if outputs:  # not of a batch that training_step left out
            self._sum += outputs["loss"].item()  # the losses of a window are divided by its size
            self._counts = True
        if trainer.is_accumulating:
            return
        loss, counts = self._sum, self._counts
        self._sum, self._counts = 0.0, False
        self.lrs.append(self._rate)
        if not counts:
            self.losses.append(math.nan)
            return
        loss = trainer.strategy.reduce(torch.tensor(loss, dtype=torch.float64)).item()
        self._done += 1
        self._mean = _BETA * self._mean + (1 - _BETA) * loss
        smoothed = self._mean / (1 - _BETA**self._done)
        self.losses.append(smoothed)
        threshold = self._finder.early_stop_threshold
        # Above so many times the best one; of losses below zero, as far above it.
        limit = math.inf if threshold is None else self._best + (threshold - 1) * abs(self._best)
        if not math.isfinite(smoothed) or (self._done > 1 and smoothed > limit):
            trainer.should_stop = True
        self._best = min(self._best, smoothed)


def _positive(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value) and value > 0
