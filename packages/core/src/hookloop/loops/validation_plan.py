"""After which batches of an epoch validation runs."""

import math
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from hookloop.hook_checks import overrides
from hookloop.module import LightningModule
from hookloop.progress import Progress
from hookloop.run import Run


@dataclass(slots=True)
class ValidationClock:
    """Measures the time since training last validated, across epochs and across a resume.

    Attributes:
        progress: what it has measured is written here whenever it is read: a checkpoint holds it.
        since: `time.monotonic()` of the last validation, or as if it had been, in seconds.
    """

    progress: Progress
    since: float

    @classmethod
    def of(cls, progress: Progress) -> "ValidationClock":
        """A clock that goes on where the one of a restored run stopped."""
        return cls(progress, monotonic() - progress.unvalidated_ms / 1000)

    def read(self) -> float:
        """Seconds since the last validation."""
        seconds = monotonic() - self.since
        self.progress.unvalidated_ms = int(seconds * 1000)
        return seconds

    def restart(self) -> None:
        """A validation has ended."""
        self.since = monotonic()
        self.progress.unvalidated_ms = 0


@dataclass(frozen=True, slots=True)
class ValidationPlan:
    """The plan of one training epoch.

    Attributes:
        interval: batches between validations; `math.inf`: at the end of the epoch, None: not in this epoch.
        batches_before: batches that count as done before the epoch's first.
    """

    interval: float | None
    batches_before: int = 0

    @classmethod
    def of(cls, run: Run, clock: ValidationClock) -> "ValidationPlan":
        """The plan of the running epoch."""
        limits, progress = run.limits, run.progress
        every_n_epochs = limits.check_val_every_n_epoch
        if not validates(run):
            return cls(None)
        in_this_epoch = is_epoch_of_validation(run)
        if isinstance(limits.val_check_interval, timedelta):
            seconds = limits.val_check_interval.total_seconds()
            return TimedValidationPlan(seconds, clock=clock, in_this_epoch=in_this_epoch)
        if not in_this_epoch:
            return cls(None)
        interval = limits.batches_between_validations(run.loaders.training_batches)
        return cls(interval, progress.total_batches - progress.batch if every_n_epochs is None else 0)

    def due(self, batches: int, is_last: bool, stopping: bool) -> bool:
        """Whether validation runs now.

        Args:
            batches: batches of the epoch that are done.
            is_last: whether there are no more.
            stopping: whether training ends here because somebody asked for it: then it ends with a validation.
        """
        if self.interval is None:
            return False
        if stopping:
            return True
        if self.interval == math.inf:
            return is_last
        return (self.batches_before + batches) % self.interval == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedValidationPlan(ValidationPlan):
    """The plan of an epoch where the clock decides: after the first batch that ends when the time is over.

    Attributes:
        clock: how long it is since the last validation.
        in_this_epoch: whether validation may run in this epoch; the clock goes on if not. `interval` is in seconds.
    """

    clock: ValidationClock
    in_this_epoch: bool

    def due(self, batches: int, is_last: bool, stopping: bool) -> bool:
        assert self.interval is not None
        over = self.clock.read() >= self.interval
        return self.in_this_epoch and (stopping or over)


def is_epoch_of_validation(run: Run) -> bool:
    """Whether `check_val_every_n_epoch` lets the running epoch validate."""
    every_n_epochs = run.limits.check_val_every_n_epoch
    return every_n_epochs is None or (run.progress.epoch + 1) % every_n_epochs == 0


def validates(run: Run) -> bool:
    """Whether a fit validates: there is a validation_step, and somebody supplies batches for it."""
    return run.loaders.validates and overrides(run.module, LightningModule, "validation_step")
