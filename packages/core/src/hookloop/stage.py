"""Which entry point runs, in which stage, and how it stands. The values are Lightning's."""

from dataclasses import dataclass
from enum import StrEnum


class TrainerFn(StrEnum):
    """The entry point that the user called; what `setup(stage)` and `teardown(stage)` receive."""

    FITTING = "fit"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def dataloader_prefix(self) -> str:
        """The loaders without which it cannot run: "train", "val", "test" or "predict"."""
        return {TrainerFn.FITTING: "train", TrainerFn.VALIDATING: "val"}.get(self, self.value)

    @property
    def first_stage(self) -> "RunningStage":
        """What it does first, and but for validation inside a fit all the time."""
        return RunningStage("train" if self is TrainerFn.FITTING else self.value)


class RunningStage(StrEnum):
    """What the run does at the moment: a fit alternates between training and validating."""

    TRAINING = "train"
    SANITY_CHECKING = "sanity_check"
    VALIDATING = "validate"
    TESTING = "test"
    PREDICTING = "predict"

    @property
    def evaluating(self) -> bool:
        """Whether the module is being validated or tested, the sanity check included."""
        return self in (RunningStage.VALIDATING, RunningStage.TESTING, RunningStage.SANITY_CHECKING)

    @property
    def dataloader_prefix(self) -> str:
        """The stage in the names of hooks, loaders and limits: "train", "val", "test" or "predict"."""
        if self in (RunningStage.VALIDATING, RunningStage.SANITY_CHECKING):
            return "val"
        return self.value


class TrainerStatus(StrEnum):
    """How the last entry point stands."""

    INITIALIZING = "initializing"
    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"

    @property
    def stopped(self) -> bool:
        """Whether nothing is running any more."""
        return self in (TrainerStatus.FINISHED, TrainerStatus.INTERRUPTED)


@dataclass(slots=True)
class TrainerState:
    """Where the trainer is. `should_stop` is the one thing that others write: a request to end training early.

    Attributes:
        fn: the entry point that runs, or ran last.
        stage: what it does at the moment; None between entry points.
        status: how it stands.
        should_stop: whether somebody asked to end training.
        pause_reason: why a callback asked to end this run, which another one is to go on with; None if nobody did.
        received_signal: number of the signal by which the process was asked to end during the last entry point.
        interrupt_noted: whether Ctrl-C was pressed, and waits for the running batch.
        finishes_batches: whether batches are being run, so that a Ctrl-C waits for the running one.
        attention: whether there is something to see to after the running batch: a signal, a pause, or a file that is
            written.
        validation_follows: in `on_train_batch_end` of Order LAST, whether a validation runs right after this batch.
        watched_signals: the signals by which it can be asked, as far as they are watched.
        lost_worker: what torch raised when a loader's worker died of that signal, if nobody needed it any more.
    """

    fn: TrainerFn | None = None
    stage: RunningStage | None = None
    status: TrainerStatus = TrainerStatus.INITIALIZING
    should_stop: bool = False
    pause_reason: str | None = None
    received_signal: int | None = None
    interrupt_noted: bool = False
    finishes_batches: bool = False
    attention: bool = False
    validation_follows: bool = False
    watched_signals: tuple[int, ...] = ()
    lost_worker: RuntimeError | None = None

    @property
    def finished(self) -> bool:
        """Whether the last entry point ended without an error."""
        return self.status is TrainerStatus.FINISHED

    @property
    def stopped(self) -> bool:
        """Whether no entry point is running and one has run."""
        return self.status.stopped
