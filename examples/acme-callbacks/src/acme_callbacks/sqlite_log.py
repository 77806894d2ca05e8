"""`SQLiteLog`: the numbers of all runs in one local SQLite file."""

import os
import sqlite3
import time
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from torch import Tensor

from acme_callbacks.sqlite_file import Moment, begin_attempt, end_attempt, prepare, write


class SQLiteLog(Callback):
    """Writes what is logged, and the hyperparameters, to a SQLite file that any number of runs may share.

    The tables are described in `acme_callbacks.sqlite_file`. What is written when:

        training    every `log_every_n_steps` steps, and at the end of an epoch, what the running epoch has logged
        validation  at its end, inside a fit and by itself
        test        at its end

    with the names that loggers see; what was logged with logger=False is left out. Nothing is read from the device in
    between. Rows are collected and written in one transaction: after `buffer` moments, at the end of each epoch,
    before each checkpoint, and when the run ends, by an exception too.

    A resumed run goes on in its file as if it had never been stopped. Neither the sanity check nor a `fast_dev_run`
    writes anything, and of several processes the first one alone does.

    Args:
        path: the file; None is acme_runs.sqlite in the trainer's `default_root_dir`.
        name: what the run is called in the table of runs.
        buffer: moments that are collected at most.

    Attributes:
        run: which run of the file this is; "" before it has begun.
        file: where it writes; None before the first entry point.

    Raises:
        MisconfigurationError: `buffer` is below 1; and at the beginning of a run, if the file cannot be used.
    """

    order = Order.MONITOR  # after the module, which logs in the same hooks

    def __init__(self, path: str | os.PathLike[str] | None = None, name: str = "", buffer: int = 100) -> None:
        if buffer < 1:
            raise MisconfigurationError(f"SQLiteLog(buffer={buffer!r}): it must be at least 1.")
        self.path = None if path is None else os.fspath(path)
        self.name = name
        self.buffer = buffer
        self.run = ""
        self.file: Path | None = None
        self._moment = 0
        self._attempt: int | None = None
        self._stage: str | None = None
        self._writes = False
        self._pending: list[Moment] = []
        self._of_training: set[str] = set()
        self._before: dict[str, Tensor] = {}

    @property
    def state_key(self) -> str:
        return "SQLiteLog" if self.path is None else f"SQLiteLog[{self.path}]"

    # the life of a run

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self._stage = stage
        self._writes = trainer.is_global_zero and not trainer.fast_dev_run and stage != "predict"
        if not self._writes:
            return
        self.file = Path(self.path or Path(trainer.default_root_dir, "acme_runs.sqlite"))
        try:
            prepare(self.file)
        except (OSError, sqlite3.Error) as error:
            self._writes = False
            raise self._unusable(error) from error

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._writes and self._attempt is None:
            settings = dict(pl_module.hparams) | dict(getattr(trainer.datamodule, "hparams", {}))
            self._begin(self._moment, settings)

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        self._end(type(exception).__name__)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self._end("finished")
        self._writes, self._stage, self._before = False, None, {}

    # what is written

    def on_train_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        if self._writes and trainer.should_update_logs:
            self._add(trainer, "train", self._running(trainer))

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if not self._writes:
            return
        found = self._running(trainer)
        # What is logged by step and by epoch has a name for each; the step's was written with the step.
        steps = {f"{name.removesuffix('_epoch')}_step" for name in found if name.endswith("_epoch")}
        self._add(trainer, "train", {name: value for name, value in found.items() if name not in steps})
        self._flush()

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._writes and not trainer.sanity_checking:
            self._of_training |= trainer.running_metrics.keys()
            self._before = trainer.logged_metrics

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if not self._writes or trainer.sanity_checking:
            return
        # Inside a fit, the last values of training are there as well.
        before, self._before = self._before, {}
        found = {
            name: value
            for name, value in trainer.logged_metrics.items()
            if name not in self._of_training or (value is not before.get(name) and value != before.get(name))
        }
        self._add(trainer, "validate", found)

    def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if self._writes:
            self._add(trainer, "test", trainer.logged_metrics)

    # its state

    def on_save_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._flush()  # who resumes from that file counts on what was written before it

    def state_dict(self) -> dict[str, Any]:
        return {"run": self.run, "moment": self._moment, "of_training": sorted(self._of_training)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._stage not in (None, "fit"):
            # Weights of an earlier moment are looked at: what that says belongs to the run, after all that is there.
            if self._attempt is None:
                self.run = state_dict["run"]
            return
        self._attempt = None
        self.run = state_dict["run"]
        self._moment = state_dict["moment"]
        self._of_training = set(state_dict["of_training"])

    # how it is done

    def _running(self, trainer: TrainerView) -> dict[str, Tensor]:
        """What the running epoch of training has logged, with the names that loggers see."""
        running = trainer.running_metrics
        found = {name: value for name, value in trainer.logged_metrics.items() if name in running}
        self._of_training |= found.keys()
        return found

    def _add(self, trainer: TrainerView, stage: str, values: Mapping[str, Tensor]) -> None:
        if not values:
            return
        if self._attempt is None:
            self._begin(None, {})
        place = (stage, trainer.current_epoch, trainer.global_step)
        self._pending.append(Moment(self._moment, time.time(), *place, _numbers(values)))
        self._moment += 1
        if len(self._pending) >= self.buffer:
            self._flush()

    def _begin(self, first: int | None, settings: Mapping[str, Any]) -> None:
        assert self.file is not None
        self.run = self.run or uuid.uuid4().hex
        try:
            self._attempt, self._moment = begin_attempt(self.file, self.run, self.name, first, settings)
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> MisconfigurationError:
        return MisconfigurationError(
            f"SQLiteLog cannot use {self.file} ({type(error).__name__}: {error}). Give it the path of a file that it "
            "may make, or of one that it has made: SQLiteLog(path), or ACME_RUNS. HOOKLOOP_DISABLE_CALLBACKS=acme goes "
            "on without it."
        )

    def _flush(self, last: bool = False) -> None:
        if not self._pending or self._attempt is None or self.file is None:
            return
        try:
            write(self.file, self.run, self._attempt, self._pending)
        except sqlite3.Error as error:
            # Numbers are not worth the training that they are about.
            what = "are lost" if last else "are kept, and it tries again later"
            warnings.warn(
                f"SQLiteLog could not write to {self.file} ({error}): {len(self._pending)} rows {what}.", stacklevel=2
            )
            return
        self._pending = []

    def _end(self, status: str) -> None:
        if self._attempt is None or self.file is None or not self._writes:
            return
        self._writes = False
        self._flush(last=True)
        self._pending = []
        try:
            end_attempt(self.file, self.run, self._attempt, status)
        except sqlite3.Error as error:
            warnings.warn(f"SQLiteLog could not write to {self.file} ({error}) that the run has ended.", stacklevel=2)


def _numbers(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The values as floats. However many they are, the host waits once for each device."""
    found: dict[str, float] = {}
    for device in {value.device for value in values.values()}:
        names = [name for name, value in values.items() if value.device == device]
        stacked = torch.stack([values[name].detach().to(torch.float64).reshape(()) for name in names])
        found.update(zip(names, stacked.tolist(), strict=True))
    return {name: found[name] for name in values}
