"""`TQDMProgressBar`: bars on a terminal, a plain line now and then everywhere else."""

import io
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from torch import Tensor

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_progress.display import Display
from hookloop_callbacks_progress.plain import PlainLines
from hookloop_callbacks_progress.progress_bar import ProgressBar
from hookloop_callbacks_progress.task import Task
from hookloop_callbacks_progress.terminal import Terminal, is_terminal

# How much earlier than its turn a bar is drawn when an epoch or an evaluation begins or ends: what comes next may take
# long, and would not be seen. The display makes up for it.
_AHEAD = 0.4


class TQDMProgressBar(ProgressBar):
    """Shows how far the run is, on standard output.

    On a terminal: a tqdm bar for the training epoch with its metrics, and below it one for a validation; one bar each
    for the sanity check, `validate`, `test` and `predict`. They are drawn at most ten times a second, however fast the
    batches come, and metrics are read and formatted only then.

    Where standard output is no terminal (a file, a pipe, TERM=dumb): one plain line every `line_interval` seconds, and
    one at the end of each training epoch and of `validate`, `test` and `predict`, flushed at once.

    The rate counts only batches of this process, and leaves out the time of validations.

    Args:
        refresh_rate: draw after this many batches at the earliest; 0 shows nothing. Default 1.
        process_position: lines to leave free above the bars, where several processes share a terminal. Default 0.
        leave: whether the bar of each training epoch stays on the screen; by default only the last one does.
        line_interval: seconds between plain lines. Default 30.

    Raises:
        MisconfigurationError: refresh_rate or process_position is no whole number of at least 0, or line_interval no
            number of at least 0.
    """

    def __init__(
        self,
        refresh_rate: int = 1,
        process_position: int = 0,
        leave: bool = False,
        *,
        line_interval: float = 30.0,
    ) -> None:
        _check_whole("refresh_rate", refresh_rate, "0 shows nothing, 1 draws as often as is useful")
        _check_whole("process_position", process_position, "the number of lines above the bars")
        _check_seconds(line_interval)
        self._refresh_rate = refresh_rate
        self._process_position = process_position
        self._leave = leave
        self._line_interval = line_interval
        # All three only during an entry point, and only where something is shown.
        self._display: Display | None = None
        self._training: Task | None = None
        self._evaluation: Task | None = None

    @property
    def refresh_rate(self) -> int:
        """Batches between two drawings at the least; 0 shows nothing."""
        return self._refresh_rate

    @property
    def process_position(self) -> int:
        """Lines that are left free above the bars."""
        return self._process_position

    @property
    def is_enabled(self) -> bool:
        """Whether anything is shown: not after `disable`, nor with refresh_rate=0."""
        return super().is_enabled and self._refresh_rate > 0

    def disable(self) -> None:
        """Show nothing from now on; the bar of the running epoch stays as it is."""
        super().disable()
        self._close_everything()

    def print(
        self, *args: Any, sep: str | None = " ", end: str | None = "\n", file: TextIO | None = None, flush: bool = False
    ) -> None:
        """Print like the built-in function, on rank zero alone; the text appears above the bars."""
        if self._display is None:
            super().print(*args, sep=sep, end=end, file=file, flush=flush)
            return
        text = io.StringIO()
        print(*args, sep=sep, end=end, file=text)
        self._display.write(text.getvalue(), file, flush)

    # the run

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Look at standard output, which may have changed since the last run."""
        super().setup(trainer, pl_module, stage)
        self._close_everything()
        # There is none in a process without a console.
        stream: TextIO | None = sys.stdout
        if stream is None or not self._on_rank_zero or self.is_disabled:
            return
        if is_terminal(stream):
            self._display = Terminal(stream, self._process_position)
        else:
            self._display = PlainLines(stream, self._line_interval)

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the training bar where it is, and the cursor below it, before anybody reports the error."""
        self._close_everything()

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Let go of the screen."""
        self._close_everything()

    # training

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """In a run that is resumed inside an epoch, show that epoch, which begins without a hook."""
        if trainer.batch_idx > 0:
            self._begin_epoch(trainer, pl_module)

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Show the new epoch in place of the one before, or below it."""
        self._begin_epoch(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count, and draw if it is time."""
        task = self._training
        if task is not None and self._display is not None:
            task.done = batch_idx + 1
            if task.done % self._refresh_rate == 0 and self._display.due():
                self._draw_training(trainer, pl_module)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Show the epoch's metrics; as a line of their own where lines stay."""
        if self._display is not None and (self._leave or not self._display.live or self._display.due(_AHEAD)):
            self._draw_training(trainer, pl_module)

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Leave the last epoch's bar on the screen, with its last metrics."""
        if self._training is not None and self._display is not None:
            if self._display.live:
                self._draw_training(trainer, pl_module)
            self._display.close(self._training, keep=True)
            self._training = None

    def _begin_epoch(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._display is None:
            return
        if self._training is not None:
            self._display.close(self._training, keep=self._leave)
        last = f"/{trainer.max_epochs - 1}" if trainer.max_epochs > 0 else ""
        name = f"Epoch {trainer.current_epoch}{last}"
        self._training = Task(name, trainer.num_training_batches, trainer.batch_idx)
        self._draw_training_at_a_turn(trainer, pl_module)

    def _draw_training_at_a_turn(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._display is not None and self._display.live and self._display.due(_AHEAD):
            self._draw_training(trainer, pl_module)

    def _draw_training(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._training is not None and self._display is not None:
            self._display.draw(self._training, self.get_metrics(trainer, pl_module))

    # validation, the sanity check included

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Show the evaluation; training's clock stands still."""
        if self._training is not None:
            self._training.pause()
            self._draw_training_at_a_turn(trainer, pl_module)
        if trainer.sanity_checking:
            self._begin_evaluation("Sanity checking", trainer.num_sanity_val_batches)
        else:
            self._begin_evaluation("Validating", trainer.num_val_batches)

    def on_validation_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count, and draw if it is time."""
        self._advance_evaluation()

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Inside a fit, go back to the training bar, with the metrics of the validation."""
        self._end_evaluation(keep=trainer.state.fn == "validate")
        if self._training is not None:
            self._training.resume()
            self._draw_training_at_a_turn(trainer, pl_module)

    # test and predict

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Show the test."""
        self._begin_evaluation("Testing", trainer.num_test_batches)

    def on_test_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count, and draw if it is time."""
        self._advance_evaluation()

    def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Leave the bar on the screen."""
        self._end_evaluation(keep=True)

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Show the prediction."""
        self._begin_evaluation("Predicting", trainer.num_predict_batches)

    def on_predict_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count, and draw if it is time."""
        self._advance_evaluation()

    def on_predict_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Leave the bar on the screen."""
        self._end_evaluation(keep=True)

    # One bar for all the loaders of an evaluation. Its metrics are known when it is over, and are reported elsewhere.

    def _begin_evaluation(self, name: str, batches: Sequence[float]) -> None:
        if self._display is not None:
            self._evaluation = Task(name, sum(batches))
            if self._display.live and self._display.due(_AHEAD):
                self._display.draw(self._evaluation, {})

    def _advance_evaluation(self) -> None:
        task = self._evaluation
        if task is not None and self._display is not None:
            task.done += 1
            if task.done % self._refresh_rate == 0 and self._display.due():
                self._display.draw(task, {})

    def _end_evaluation(self, keep: bool) -> None:
        if self._evaluation is not None and self._display is not None:
            if keep:
                self._display.draw(self._evaluation, {})
            self._display.close(self._evaluation, keep)
            self._evaluation = None

    def _close_everything(self) -> None:
        display, self._display = self._display, None
        training, self._training = self._training, None
        evaluation, self._evaluation = self._evaluation, None
        if display is not None:
            if evaluation is not None:
                display.close(evaluation, keep=training is None)
            if training is not None:
                display.close(training, keep=True)


def _check_whole(name: str, value: object, meaning: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise MisconfigurationError(
            f"TQDMProgressBar({name}={value!r}) must be a whole number of at least 0 ({meaning})."
        )


def _check_seconds(value: object) -> None:
    # Written so that NaN is refused too.
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise MisconfigurationError(
            f"TQDMProgressBar(line_interval={value!r}) must be a number of seconds of at least 0; leave it out for a "
            "line every 30 seconds."
        )
