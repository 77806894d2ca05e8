"""`EarlyStopping`: ends a run once a metric says that it has learned what it can."""

import math
from copy import deepcopy
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.monitor import Monitor
from hookloop.rank_zero import rank_prefixed_message
from hookloop.view import TrainerView
from hookloop_callbacks_monitoring.criteria import UNITS, Criteria, EarlyStoppingReason, Place, Progress, Unit, Verdict


class EarlyStopping(Callback):
    """Looks at a metric, and asks training to end when it has stopped to improve, is good enough, or is lost.

    When: at the end of training epochs, after their validation; in a run that validates more often or less often than
    once an epoch, at the end of every validation. `check_on_train_epoch_end` changes that. A value that was looked at
    before and not logged again since is not looked at again. In a fast_dev_run nothing is ended.

    Each check, in this order: a value that is not finite; the best value so far; `stopping_threshold`;
    `divergence_threshold`; patience. Training is asked to end once `min_epochs` and `min_steps` of the Trainer are
    done: what a check before that said is not kept, and a run that recovers goes on. With several processes, it ends
    as soon as one of them says so.

    Why it ended is in `stopping_reason` and `stopping_reason_message`, and printed once.

    After a resume it decides as if the run had never stopped. Its arguments are those that it was made with: a
    checkpoint brings back only what it has seen. Several of them can be in a run, and each can end it.

    Args:
        monitor: key of the metric.
        min_delta: by how much a value has to be better than the best one to be an improvement; at least 0.
        patience: how many `unit` without an improvement end the run: the first check that has not improved counts 1.
            0 is as 1.
        verbose: whether to print a line for each improvement too.
        mode: "min" if smaller values are better, "max" if larger ones are.
        strict: whether a metric that was not logged is an error; False: the check is left out.
        check_finite: whether NaN or an infinite value ends the run. False: NaN is no improvement; infinity is one if
            it is on the better side.
        stopping_threshold: a value that is as good as this, or better, ends the run.
        divergence_threshold: a value that is worse than this ends the run.
        check_on_train_epoch_end: True checks at the end of training epochs, False at the end of validations. Default
            None: as described above.
        log_rank_zero_only: with `verbose` and several processes, whether only the first one prints improvements.
        unit: what `patience` and `start_from` count: "checks", training "epochs" or optimizer "steps".
        start_from: how many `unit` go by before the first check; what is logged in them is not looked at.
        baseline: the value that the first improvement has to be better than. Default None: any number.
        restore_best_weights: whether the module gets the weights of the best check when training has ended, whatever
            ended it but an exception. They are copied to the CPU at each improvement, and are in checkpoints. With
            several processes, the first one says which check was best.

    Raises:
        MisconfigurationError: an argument that is not among those described here.

    Attributes:
        wait_count: how many `unit` ago the last improvement was, at the last check.
        stopped_epoch: index of the epoch in which it ended the run; 0 if it did not.
        stopping_reason: an `EarlyStoppingReason`, NOT_STOPPED if it did not end the run.
        stopping_reason_message: the same in a sentence; None if it did not.
    """

    order: ClassVar[Order] = Order.MONITOR
    family: ClassVar[str | None] = "early_stopping"

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Literal["min", "max"] = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
        *,
        unit: Unit = "checks",
        start_from: int = 0,
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise MisconfigurationError(
                f"EarlyStopping(monitor={monitor!r}) must be the name of a metric, as it is passed to self.log: "
                'EarlyStopping("val_loss").'
            )
        if unit not in UNITS:
            raise MisconfigurationError(
                f"EarlyStopping(unit={unit!r}): patience and start_from count {', '.join(map(repr, UNITS))}."
            )
        _check_count("patience", patience, f"how many {unit} without an improvement end the run")
        _check_count("start_from", start_from, f"how many {unit} go by before the first check")
        _check_number("min_delta", min_delta, "by how much a value has to be better to be an improvement")
        if not 0 <= min_delta < math.inf:
            raise MisconfigurationError(
                f"EarlyStopping(min_delta={min_delta!r}) must be at least 0, in both modes: by how much a value has to "
                "be better to be an improvement."
            )
        for name, value in (("stopping_threshold", stopping_threshold), ("divergence_threshold", divergence_threshold)):
            if value is not None:
                _check_number(name, value, "a value of the metric that ends the run")
        if baseline is not None:
            _check_number("baseline", baseline, "a value that the metric has to beat")
        self._monitor = Monitor(monitor, mode)
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self.unit: Unit = unit
        self.start_from = start_from
        self.baseline = baseline
        self.restore_best_weights = restore_best_weights
        self._check_on_train_epoch_end = check_on_train_epoch_end
        self._loaded = False
        self._validated = False
        self._fresh = False
        self._forget()

    def _forget(self) -> None:
        self._progress = Progress()
        self._logged_in: int | None = None
        self._best_weights: dict[str, Any] | None = None
        self._go_on()

    def _go_on(self) -> None:
        self.stopped_epoch = 0
        self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None

    # what it has seen

    @property
    def wait_count(self) -> int:
        """How many `unit` ago the last improvement was, at the last check."""
        return self._progress.waited

    @property
    def best_score(self) -> Tensor:
        """The best value so far; before there is one, infinity of the worse sign."""
        best = self._progress.best
        return torch.tensor(self._monitor.worst if best is None else best, dtype=torch.float64)

    @property
    def best_epoch(self) -> int | None:
        """Index of the epoch with the best value; None before there is one."""
        since = self._progress.since
        return None if self._progress.best is None or since is None else since.epochs - 1

    # state

    @property
    def state_key(self) -> str:
        """Names what tells instances apart, where it is not the default."""
        arguments = {
            "monitor": (self.monitor, None),
            "mode": (self.mode, "min"),
            "min_delta": (self.min_delta, 0.0),
            "patience": (self.patience, 3),
            "unit": (self.unit, "checks"),
            "start_from": (self.start_from, 0),
            "baseline": (self.baseline, None),
            "check_finite": (self.check_finite, True),
            "stopping_threshold": (self.stopping_threshold, None),
            "divergence_threshold": (self.divergence_threshold, None),
            "check_on_train_epoch_end": (self._check_on_train_epoch_end, None),
            "restore_best_weights": (self.restore_best_weights, False),
        }
        named = ", ".join(f"{name}={value!r}" for name, (value, default) in arguments.items() if value != default)
        return f"{type(self).__qualname__}[{named}]"

    def state_dict(self) -> dict[str, Any]:
        """What it has seen, and no argument: plain numbers, and the best weights if they are to be restored."""
        state = {
            **self._progress.state_dict(),
            "stopped_epoch": self.stopped_epoch,
            "stopping_reason": self.stopping_reason.value,
            "stopping_reason_message": self.stopping_reason_message,
            "logged_in": self._logged_in,
        }
        return state if self._best_weights is None else {**state, "best_weights": self._best_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what another process has seen; the arguments stay those of this instance."""
        self._loaded = True
        self._progress = Progress.from_state(state_dict)
        self._logged_in = state_dict.get("logged_in")
        self._best_weights = state_dict.get("best_weights") if self.restore_best_weights else None
        self.stopped_epoch = int(state_dict.get("stopped_epoch") or 0)
        self.stopping_reason = EarlyStoppingReason(state_dict.get("stopping_reason") or 0)
        self.stopping_reason_message = state_dict.get("stopping_reason_message")

    # when to look

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Nothing of this run is known yet."""
        if stage == "fit":
            self._loaded = self._validated = False

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Forget a former run, if this one begins anew."""
        if not self._loaded and trainer.global_step == trainer.current_epoch == trainer.batch_idx == 0:
            self._forget()

    def on_validation_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Note whether the metric comes from this validation, or from this epoch's training."""
        self._fresh = _in_a_fit(trainer) and self.monitor in trainer.running_metrics
        if self._fresh:
            self._logged_in = trainer.current_epoch

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Check, where validations are the place for it."""
        if not _in_a_fit(trainer):
            return
        self._validated = True
        if not self._at_the_end_of_epochs(trainer):
            self._check(trainer, pl_module, self._fresh, epochs_done=trainer.current_epoch + trainer.is_last_batch)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Check, where the ends of epochs are the place for it."""
        if self._at_the_end_of_epochs(trainer):
            fresh = self._logged_in == trainer.current_epoch or self.monitor in trainer.running_metrics
            self._check(trainer, pl_module, fresh, epochs_done=trainer.current_epoch + 1)

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Give the module its best weights, if that was asked for and there are any."""
        if self._best_weights is None:
            return
        trainer.strategy.load_module_state_dict(pl_module, self._best_weights)
        if self.verbose:
            trainer.print(f"EarlyStopping: the weights are those of epoch {self.best_epoch}, by {self.monitor}.")

    def _at_the_end_of_epochs(self, trainer: TrainerView) -> bool:
        if self._check_on_train_epoch_end is not None:
            return self._check_on_train_epoch_end
        if not trainer.enable_validation:
            return True
        every = trainer.val_check_interval
        return isinstance(every, float) and every == 1.0 and trainer.check_val_every_n_epoch == 1

    # what it comes to

    def _check(self, trainer: TrainerView, pl_module: LightningModule, fresh: bool, epochs_done: int) -> None:
        if self.monitor not in trainer.callback_metrics:
            self._miss(trainer)
            return
        if not fresh or trainer.fast_dev_run:
            return
        metric = self._monitor.read(trainer.callback_metrics)
        value = float(metric)
        place = Place(self._progress.checks + 1, trainer.current_epoch + 1, trainer.global_step)
        before = self._progress.best
        self._progress, verdict = self._criteria(metric.dtype).judge(self._progress, value, place)
        if self.restore_best_weights and trainer.strategy.broadcast(verdict.improved):
            self._best_weights = _copied(trainer.strategy.module_state_dict(pl_module))
        if verdict.improved and self.verbose:
            self._tell_of_improvement(trainer, value, before)
        # Asked before what may keep the run from ending, which is the same in all processes.
        stops = trainer.strategy.reduce_boolean_decision(verdict.stops, all=False)
        self._go_on()
        if stops and epochs_done >= trainer.min_epochs and trainer.global_step >= trainer.min_steps:
            self._stop(trainer, verdict)

    def _criteria(self, dtype: torch.dtype) -> Criteria:
        """The arguments; numbers that values are compared with are rounded as the values are: 0.4 has to equal 0.4."""

        def rounded(number: float | None) -> float | None:
            return number if number is None or not dtype.is_floating_point else torch.tensor(number, dtype=dtype).item()

        return Criteria(
            monitor=self._monitor,
            min_delta=self.min_delta,
            patience=self.patience,
            unit=self.unit,
            start_from=self.start_from,
            baseline=rounded(self.baseline),
            check_finite=self.check_finite,
            stopping_threshold=rounded(self.stopping_threshold),
            divergence_threshold=rounded(self.divergence_threshold),
        )

    def _miss(self, trainer: TrainerView) -> None:
        """The metric was never logged: an error, unless it is not its time yet."""
        if not self.strict or (trainer.enable_validation and not self._validated):
            return
        try:
            self._monitor.read(trainer.callback_metrics)
        except MisconfigurationError as error:
            later = (
                ""
                if self._at_the_end_of_epochs(trainer)
                else " One that is logged at the end of training epochs needs check_on_train_epoch_end=True."
            )
            raise MisconfigurationError(
                f"EarlyStopping(monitor={self.monitor!r}): {error}{later} With strict=False the check is left out."
            ) from None

    def _stop(self, trainer: TrainerView, verdict: Verdict) -> None:
        reason, message = verdict.reason, verdict.message
        if trainer.world_size > 1:
            reason, message = self._agreed(trainer, verdict)
        self.stopped_epoch = trainer.current_epoch
        self.stopping_reason = reason
        self.stopping_reason_message = f"Training ends in epoch {trainer.current_epoch}: {message}."
        trainer.should_stop = True
        trainer.print(f"EarlyStopping: {self.stopping_reason_message}")

    def _agreed(self, trainer: TrainerView, verdict: Verdict) -> tuple[EarlyStoppingReason, str]:
        """What the first process that wants to stop says, in all processes."""
        code = torch.tensor(verdict.reason.value, device=trainer.strategy.root_device)
        codes = trainer.strategy.all_gather(code).tolist()
        speaker = next(rank for rank, given in enumerate(codes) if given)
        message = trainer.strategy.broadcast(verdict.message, src=speaker)
        return EarlyStoppingReason(codes[speaker]), rank_prefixed_message(message, speaker)

    def _tell_of_improvement(self, trainer: TrainerView, value: float, before: float | None) -> None:
        was = "" if before is None else f" (was {before:.6g})"
        message = f"EarlyStopping: {self.monitor}={value:.6g} is the best so far{was}."
        if trainer.world_size == 1 or self.log_rank_zero_only:
            trainer.print(message)
        else:
            print(rank_prefixed_message(message, trainer.global_rank))


def _in_a_fit(trainer: TrainerView) -> bool:
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def _check_count(name: str, value: object, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MisconfigurationError(f"EarlyStopping({name}={value!r}) must be a whole number of at least 0: {meaning}.")


def _check_number(name: str, value: object, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise MisconfigurationError(f"EarlyStopping({name}={value!r}) must be a number: {meaning}.")


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, Tensor) else deepcopy(value)
        for name, value in state.items()
    }
