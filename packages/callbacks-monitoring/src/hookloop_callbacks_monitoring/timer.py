"""`Timer`: how long each stage has lasted, and an end to training, or to this run of it, when its time is over."""

import math
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.stage import RunningStage
from hookloop.view import TrainerView
from hookloop_callbacks_monitoring.budget import Budget, seconds_of
from hookloop_callbacks_monitoring.declining import Declining
from hookloop_callbacks_monitoring.stopwatch import Stopwatch

_LOOK_AGAIN_WITHIN = 1.0
"""Seconds that may go by between two looks at the clock where processes have to agree, which costs a message."""


class Interval(StrEnum):
    """When `Timer` looks at its clock."""

    step = "step"
    epoch = "epoch"


class Timer(Declining):
    """Measures how long training, validation, test and prediction take, and keeps to two budgets of time.

    `duration` is for training as a whole, over all the runs that it is resumed in, validations inside of it included.
    When it is over, training ends: after the running batch and a last validation, as `trainer.should_stop` ends it, and
    not before `min_epochs` and `min_steps`. A validation that was going on then is cut short: that ends this run, with
    a save, and whoever resumes does the validation anew, as the last one, and is through.

    `per_run` is for this run, from its `setup` on: the time that a job has. When it is over, the run is paused: the
    running batch is done, of training or validation, callbacks that save do so, and `fit` returns, with
    `trainer.interrupted`. It asks for no `min_epochs`. What is resumed goes on with the next batch, or with the
    validation that was cut short.

    `reserve` is the time before either end that is kept for the last save.

    Lengths of time are a number of seconds, "4h", "1d12h" or "90m", "DD:HH:MM:SS", a `datetime.timedelta`, or a dict of
    its arguments. With several processes the first one's clock decides, and all of them end in the same batch.

    `Trainer(max_time=...)` has a `Timer(max_time)` added by the package's factory.

    Args:
        duration: of training as a whole. Default None: no limit.
        interval: "step" looks after every batch, "epoch" at the end of training epochs alone.
        verbose: whether to print a line when it ends something.
        per_run: of this run alone. Default None: no limit.
        reserve: how much earlier it ends what it ends. Default 0.

    Raises:
        MisconfigurationError: an argument that is not among those described here, or a budget that is all reserve.
    """

    family: ClassVar[str | None] = "timer"
    declinable: ClassVar[tuple[str, ...]] = ("on_train_batch_end", "on_validation_batch_end")

    clock: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds since some moment. It never goes back, whatever happens to the time of day."""

    def __init__(
        self,
        duration: str | timedelta | dict[str, int] | float | None = None,
        interval: str = Interval.step,
        verbose: bool = True,
        *,
        per_run: str | timedelta | dict[str, int] | float | None = None,
        reserve: str | timedelta | dict[str, int] | float = 0,
    ) -> None:
        if interval not in tuple(Interval):
            raise MisconfigurationError(
                f'Timer(interval={interval!r}) must be "step", to look at the clock after every batch, or "epoch".'
            )
        kept = seconds_of("reserve", reserve, zero=True)
        for name, given in (("duration", duration), ("per_run", per_run)):
            if given is not None and seconds_of(name, given) <= kept:
                raise MisconfigurationError(
                    f"Timer({name}={given!r}, reserve={reserve!r}): the reserve is the end of {name}, and there is "
                    "nothing before it. Make it shorter."
                )
        self.interval = Interval(interval)
        self.verbose = verbose
        self._duration = Budget(None if duration is None else seconds_of("duration", duration), kept)
        self._per_run = Budget(None if per_run is None else seconds_of("per_run", per_run), kept)
        self._watch = Stopwatch(self._now)
        self._loaded = self._stopped = self._last_validation = False
        self._train_ends = self._run_ends = math.inf
        self._batches_to_look = self._batches_between = 0
        self._looked_at = 0.0
        self._decline_what_is_not_needed()

    def _decline_what_is_not_needed(self) -> None:
        limited = math.inf > min(self._duration.usable, self._per_run.usable)
        self.decline(*([] if limited and self.interval is Interval.step else self.declinable))

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._decline_what_is_not_needed()

    def _now(self) -> float:
        return self.clock()

    # what it has measured

    def start_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """When a stage last began, in seconds of `clock`; None if it did not in this process."""
        return self._watch.started.get(RunningStage(stage).value)

    def end_time(self, stage: str = RunningStage.TRAINING) -> float | None:
        """When a stage last ended, in seconds of `clock`; None if it did not in this process, or is going on."""
        return self._watch.ended.get(RunningStage(stage).value)

    def time_elapsed(self, stage: str = RunningStage.TRAINING) -> float:
        """Seconds that a stage has lasted, in all runs together, the running one included.

        Args:
            stage: "train" (validations in a fit included), "validate", "test", "predict" or "sanity_check".
        """
        return self._watch.elapsed(RunningStage(stage).value)

    def time_remaining(self, stage: str = RunningStage.TRAINING) -> float | None:
        """Seconds of `duration` that a stage has not used; None without a duration, below 0 if it took longer."""
        if self._duration.seconds is None:
            return None
        return self._duration.seconds - self.time_elapsed(stage)

    def run_time_remaining(self) -> float | None:
        """Seconds of `per_run` that are left, the reserve included; None without `per_run`, or before a fit."""
        if self._per_run.seconds is None or self._run_ends == math.inf:
            return None
        return self._run_ends + self._per_run.reserve - self.clock()

    # state

    def state_dict(self) -> dict[str, Any]:
        """The seconds of each stage until now, and whether it was this timer that asked training to end."""
        return {"time_elapsed": self._watch.seconds(), "stopped": self._stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seconds of another process, or of Lightning's timer; the budgets stay those of this one."""
        self._loaded = True
        self._watch.go_on(state_dict["time_elapsed"])
        self._stopped = bool(state_dict.get("stopped", False))

    # the stages

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """The run begins, and `per_run` with it."""
        self._train_ends = self._run_ends = math.inf
        self._last_validation = False
        self._agree_anew()
        if stage == "fit":
            self._loaded = False
            self._run_ends = self._per_run.deadline(self.clock(), 0.0)

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Forget a former run, if this one begins anew."""
        if not self._loaded and trainer.global_step == trainer.current_epoch == trainer.batch_idx == 0:
            self._watch.forget()
            self._stopped = False

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Training begins, or goes on: with what is left of `duration`."""
        self._watch.start("train")
        self._train_ends = self._duration.deadline(self.clock(), self.time_elapsed())
        self._agree_anew()
        over, _ = self._over(trainer)
        if self._stopped and not over:
            trainer.should_stop = self._stopped = False  # it was given more time
        if over:
            self._end_training(trainer, trainer.current_epoch)
        if self._per_run.seconds is not None and not trainer.checkpoint_callbacks and trainer.is_global_zero:
            warnings.warn(
                "Timer(per_run=...) ends a run that another one goes on with, and nothing saves it. Add a callback "
                "that does, such as ModelCheckpoint, and fit with ckpt_path='auto'.",
                stacklevel=2,
            )

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Training has ended."""
        self._watch.stop("train")

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A validation begins."""
        self._watch.start(_stage(trainer))
        self._last_validation = self.clock() >= self._train_ends
        self._agree_anew()

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """It has ended."""
        self._watch.stop(_stage(trainer))
        self._agree_anew()

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A test begins."""
        self._watch.start("test")

    def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """It has ended."""
        self._watch.stop("test")

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A prediction begins."""
        self._watch.start("predict")

    def on_predict_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """It has ended."""
        self._watch.stop("predict")

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Whatever was going on has ended."""
        self._watch.stop()

    # the ends

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock."""
        over, run_over = self._over(trainer)
        if over and not trainer.is_accumulating:
            self._end_training(trainer, trainer.current_epoch)
        if run_over and not trainer.should_stop:
            self._end_run(trainer, "per_run", self._per_run)

    def on_validation_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Look at the clock: a validation may be longer than what is left."""
        over, run_over = self._over(trainer)
        if run_over:
            self._end_run(trainer, "per_run", self._per_run)
        elif over and not self._last_validation and _may_end(trainer, trainer.current_epoch + trainer.is_last_batch):
            self._end_run(trainer, "duration", self._duration)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Look at the clock, whatever the interval is."""
        self._agree_anew()
        over, run_over = self._over(trainer)
        if over:
            self._end_training(trainer, trainer.current_epoch + 1)
        if run_over and not trainer.should_stop:
            self._end_run(trainer, "per_run", self._per_run)

    def _over(self, trainer: TrainerView) -> tuple[bool, bool]:
        """Whether the time of training is over, and that of this run; the same in all processes."""
        if trainer.world_size > 1:
            return self._over_for_all(trainer)
        now = self.clock()
        return now >= self._train_ends, now >= self._run_ends

    def _agree_anew(self) -> None:
        """Batches take another time from here on: look after the next one."""
        self._batches_to_look = self._batches_between = 1
        self._looked_at = self.clock()

    def _over_for_all(self, trainer: TrainerView) -> tuple[bool, bool]:
        self._batches_to_look -= 1
        if self._batches_to_look > 0:
            return False, False
        now = self.clock()
        until = min(_LOOK_AGAIN_WITHIN, max(0.0, min(self._train_ends, self._run_ends) - now) / 2)
        each = (now - self._looked_at) / self._batches_between
        said = now >= self._train_ends, now >= self._run_ends, min(int(until / each), 10_000) if each > 0 else 1
        over, run_over, ahead = trainer.strategy.broadcast(said)
        self._batches_to_look = self._batches_between = max(1, ahead)
        self._looked_at = now
        return over, run_over

    def _end_training(self, trainer: TrainerView, epochs_done: int) -> None:
        if trainer.should_stop or not _may_end(trainer, epochs_done):
            return
        trainer.should_stop = self._stopped = True
        if self.verbose:
            trainer.print(
                f"Timer: training ends in epoch {trainer.current_epoch}, after {trainer.global_step} steps: "
                f"{_said('duration', self._duration)} is over."
            )

    def _end_run(self, trainer: TrainerView, name: str, budget: Budget) -> None:
        reason = (
            f"this run ends in epoch {trainer.current_epoch}, after {trainer.global_step} steps: "
            f"{_said(name, budget)} is over. What is saved now can be resumed."
        )
        trainer.pause(reason)
        if self.verbose:
            trainer.print(f"Timer: {reason}")
        self._train_ends = self._run_ends = math.inf  # it is said once


def _stage(trainer: TrainerView) -> str:
    stage = trainer.state.stage
    assert stage is not None
    return stage.value


def _may_end(trainer: TrainerView, epochs_done: int) -> bool:
    return epochs_done >= trainer.min_epochs and trainer.global_step >= trainer.min_steps


def _said(name: str, budget: Budget) -> str:
    assert budget.seconds is not None
    kept = f" (less {timedelta(seconds=budget.reserve)})" if budget.reserve else ""
    return f"{name}={timedelta(seconds=budget.seconds)}{kept}"
