"""`ModelCheckpoint`: keeps the best file of a run, and the last one."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.monitor import Monitor
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint.filename import SUFFIX, FileName
from hookloop_callbacks_checkpoint.record import Record

_DEFAULT_FILENAME = "{epoch}-{step}"
_LAST = "last"


class ModelCheckpoint(Callback):
    """Saves at the end of epochs, and keeps the files that are worth keeping.

    When: at the end of every training epoch, after its validation, so that the metrics of both are there; in a run that
    validates more often or less often than once an epoch, at the end of every validation. `every_n_epochs` and
    `save_on_train_epoch_end` change that. When the process is asked to end (SIGTERM), last.ckpt is written in any case,
    with everything that is needed to go on. Nothing is saved in a fast_dev_run, in the sanity check, nor outside of
    `fit`.

    What: with `save_top_k=1` the file with the best score, or the newest one if nothing is monitored. A new file is
    complete on disk before the one that it replaces is deleted. Only files that this callback wrote are deleted, and
    never the one that the run was resumed from. A file of somebody else in the way is left alone; the new one's name
    then ends in "-v1", "-v2", ....

    Args:
        dirpath: folder for the files. Default: the folder "checkpoints" in the first logger's folder, or without one in
            the trainer's default_root_dir.
        filename: template for their names, without the suffix ".ckpt". Default "{epoch}-{step}", which gives
            "epoch=3-step=12.ckpt". Metrics may be named, with a format: "{epoch}-{val_loss:.2f}".
        monitor: key of the metric that tells which file is best. Default None: the newest is.
        verbose: whether to print a line when a best file was saved.
        save_last: whether every save also writes last.ckpt. Default None: no.
        save_top_k: 1 keeps the best file, -1 keeps all files, 0 keeps none (but last.ckpt).
        save_weights_only: leave optimizers, progress and callbacks out of the files.
        mode: "min" if smaller scores are better, "max" if larger ones are. NaN is better than nothing, and worse than
            every number.
        every_n_epochs: save in every n-th epoch only. Default None: 1.
        save_on_train_epoch_end: True saves at the end of training epochs, False right after validations. Default None:
            as described above.

    Raises:
        MisconfigurationError: an argument that is not among those described here, or a filename that cannot be read.
    """

    order: ClassVar[Order] = Order.LAST
    family: ClassVar[str | None] = "checkpoint"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | None = None,
        save_top_k: int = 1,
        *,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
    ) -> None:
        if isinstance(save_top_k, bool) or save_top_k not in (-1, 0, 1):
            raise MisconfigurationError(
                f"ModelCheckpoint(save_top_k={save_top_k!r}): supported are 1 (keep the best file), -1 (keep all) and "
                "0 (keep none, for save_last=True alone)."
            )
        if save_last not in (None, False, True):
            raise MisconfigurationError(
                f"ModelCheckpoint(save_last={save_last!r}): supported are True (also write {_LAST}{SUFFIX}), False and "
                "None."
            )
        if every_n_epochs is not None and not _is_positive(every_n_epochs):
            raise MisconfigurationError(
                f"ModelCheckpoint(every_n_epochs={every_n_epochs!r}) must be a whole number of at least 1; "
                "leave it out to save in every epoch."
            )
        if mode not in ("min", "max"):
            raise MisconfigurationError(
                f'ModelCheckpoint(mode={mode!r}) must be "min" (smaller scores are better) or "max" (larger ones are).'
            )
        self.monitor = monitor
        self.mode = mode
        self.filename = filename
        self.verbose = verbose
        self.save_last = bool(save_last)
        self.save_top_k = save_top_k
        self.save_weights_only = save_weights_only
        self.every_n_epochs = every_n_epochs or 1
        self._given_dirpath = None if dirpath is None else os.fspath(dirpath)
        self._dirpath = None if dirpath is None else _absolute(dirpath)
        self._monitor = None if monitor is None else Monitor(monitor, mode)
        self._name = FileName(filename or _DEFAULT_FILENAME)
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._record = Record()
        # What the file that is being written has to say, while the file is not there yet.
        self._promised: Record | None = None
        self._written: set[str] = set()
        self._validated = False

    # what was saved

    @property
    def dirpath(self) -> str | None:
        """The folder of the files, absolute; None without one given and before the first fit."""
        return self._dirpath

    @property
    def best_model_path(self) -> str:
        """The best file, which exists; "" as long as there is none."""
        return self._record.best_model_path

    @property
    def best_model_score(self) -> float | None:
        """The score of the best file; None if there is none or nothing is monitored."""
        return self._record.best_model_score

    @property
    def last_model_path(self) -> str:
        """The file last.ckpt of this run, which exists; "" as long as there is none."""
        return self._record.last_model_path

    @property
    def current_score(self) -> float | None:
        """The score at the newest save; None if there was none or nothing is monitored."""
        return self._record.current_score

    def resolve_checkpoint(self, which: str) -> str | None:
        """The file that "best" or "last" stands for, or None if there is none.

        Before anything was saved, "last" is the newest last.ckpt (last-v1.ckpt, ...) in `dirpath`, so that a job that
        is started again finds where it was.
        """
        if which == "best":
            return _existing(self.best_model_path)
        if which == _LAST:
            return _existing(self.last_model_path) or self._last_on_disk()
        return None

    def _last_on_disk(self) -> str | None:
        if self._dirpath is None:
            return None
        found = [*Path(self._dirpath).glob(f"{_LAST}{SUFFIX}"), *Path(self._dirpath).glob(f"{_LAST}-v*{SUFFIX}")]
        return str(max(found, key=lambda path: path.stat().st_mtime_ns)) if found else None

    # state

    @property
    def state_key(self) -> str:
        """Names what tells instances apart, where it is not the default: changing the rest keeps the state."""
        parts = {
            "monitor": (self.monitor, None),
            "mode": (self.mode, "min"),
            "dirpath": (self._given_dirpath, None),
            "filename": (self.filename, None),
            "save_top_k": (self.save_top_k, 1),
            "every_n_epochs": (self.every_n_epochs, 1),
        }
        named = ", ".join(f"{name}={value!r}" for name, (value, default) in parts.items() if value != default)
        return f"{type(self).__qualname__}[{named}]"

    def state_dict(self) -> dict[str, Any]:
        """The record as it will be when the file is complete, and what was monitored: plain strings and numbers."""
        record = self._promised or self._record
        return {"monitor": self.monitor, "mode": self.mode, **record.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another process stopped; a file that was the best by another metric is not the best by this."""
        record = Record.from_state(state_dict)
        self._written |= {path for path in (record.best_model_path, record.last_model_path) if path}
        if (state_dict.get("monitor"), state_dict.get("mode")) != (self.monitor, self.mode):
            record = replace(record, best_model_path="", best_model_score=None, current_score=None)
        self._record = record

    # when to save

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Find the folder for the files, the same on all ranks. It is made with the first file."""
        if stage != "fit":
            return
        self._validated = False
        if self._given_dirpath is None:
            folder = Path(trainer.log_dir or trainer.default_root_dir, "checkpoints")
            self._dirpath = trainer.strategy.broadcast(_absolute(folder))

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Forget a best file that is gone: it could neither be loaded nor be beaten."""
        gone = self.best_model_path
        if gone and not trainer.strategy.broadcast(Path(gone).exists()):
            self._record = replace(self._record, best_model_path="", best_model_score=None)
            warnings.warn(
                f"The best checkpoint of the resumed run, {gone!r}, does not exist any more; the next one to be saved "
                "counts as the best. Put the file back and resume again to keep its score.",
                stacklevel=2,
            )

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Save, if this is the place for it."""
        if not self._idle(trainer):
            self._validated = True
            if not self._saves_at_epoch_end(trainer):
                self._save_if_due(trainer)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Save, if this is the place for it."""
        if not self._idle(trainer) and self._saves_at_epoch_end(trainer):
            self._save_if_due(trainer)

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        """Write last.ckpt, from which training goes on where it stopped, whatever else is saved and when."""
        if self._idle(trainer):
            return
        path = self._choose_path(trainer, _LAST)
        after = replace(self._record, last_model_path=path)
        with self._promise(after):
            trainer.save_checkpoint(path)  # all of it: from the weights alone nothing can be resumed
            self._announce(trainer, path)
        self._record = after
        trainer.print(f"Saved {path}")

    def _idle(self, trainer: TrainerView) -> bool:
        return bool(trainer.fast_dev_run) or trainer.sanity_checking or trainer.state.fn != "fit"

    def _saves_at_epoch_end(self, trainer: TrainerView) -> bool:
        if self._save_on_train_epoch_end is not None:
            return self._save_on_train_epoch_end
        interval = trainer.val_check_interval
        once_an_epoch = isinstance(interval, float) and interval == 1.0 and trainer.check_val_every_n_epoch == 1
        return once_an_epoch or not trainer.enable_validation

    def _save_if_due(self, trainer: TrainerView) -> None:
        if (trainer.current_epoch + 1) % self.every_n_epochs == 0:
            self._save(trainer)

    # how to save

    def _save(self, trainer: TrainerView) -> None:
        unknown = self._is_score_unknown(trainer)
        score = None if self._monitor is None or unknown else float(self._monitor.read(trainer.callback_metrics))
        before = self._record
        best = self.save_top_k != 0 and not unknown and self._is_best(score)
        after = replace(before, current_score=score)
        path = ""
        if best or (self.save_top_k == -1 and not unknown):
            name = self._name.fill_in(trainer.current_epoch, trainer.global_step, trainer.callback_metrics)
            path = self._choose_path(trainer, name)
        if best:
            after = replace(after, best_model_path=path, best_model_score=score)
        if self.save_last:
            after = replace(after, last_model_path=self._choose_path(trainer, _LAST))

        with self._promise(after):
            if path:
                self._write(trainer, path)
                self._record = replace(after, last_model_path=before.last_model_path)
                self._tell_loggers(trainer)
            if self.save_last:
                self._write(trainer, after.last_model_path)
                self._record = after
                self._tell_loggers(trainer)
        self._record = after
        if best:
            if self.verbose:
                trainer.print(_report(self.monitor, before, after))
            if self.save_top_k == 1:
                self._delete(trainer, before.best_model_path)

    def _is_score_unknown(self, trainer: TrainerView) -> bool:
        """Whether training was cut short before the first validation, which would have logged the metric."""
        if self.monitor is None or self._validated or not trainer.enable_validation:
            return False
        if self.monitor in trainer.callback_metrics:
            return False
        warnings.warn(
            f"The epoch ended before the first validation, and the monitored metric {self.monitor!r} was not logged: "
            "no best checkpoint is saved. Train for longer, or validate earlier with val_check_interval.",
            stacklevel=2,
        )
        return True

    def _is_best(self, score: float | None) -> bool:
        if self._monitor is None or score is None or self.best_model_score is None:
            return True
        return self._monitor.improved(score, self.best_model_score)

    def _choose_path(self, trainer: TrainerView, name: str) -> str:
        """The path for a file, at which there is none but one of this callback's own."""
        path = Path(self._folder, f"{name}{SUFFIX}")
        version = 0
        while path.exists() and str(path) not in self._written:
            version += 1
            path = Path(self._folder, f"{name}-v{version}{SUFFIX}")
        # All ranks take the path of rank zero: another one may look when the file has come into being.
        chosen: str = trainer.strategy.broadcast(str(path))
        return chosen

    @contextmanager
    def _promise(self, record: Record) -> Iterator[None]:
        self._promised = record
        try:
            yield
        finally:
            self._promised = None

    def _write(self, trainer: TrainerView, path: str) -> None:
        trainer.save_checkpoint(path, self.save_weights_only)
        self._announce(trainer, path)

    def _announce(self, trainer: TrainerView, path: str) -> None:
        self._written.add(path)

    def _tell_loggers(self, trainer: TrainerView) -> None:
        """After the record has the file: loggers that upload files look for it there."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    def _delete(self, trainer: TrainerView, path: str) -> None:
        if not path or not trainer.is_global_zero:
            return
        if path in (self.best_model_path, self.last_model_path) or not Path(path).is_relative_to(self._folder):
            return
        if trainer.ckpt_path is not None and Path(trainer.ckpt_path).resolve() == Path(path).resolve():
            return
        trainer.strategy.remove_checkpoint(path)

    @property
    def _folder(self) -> str:
        assert self._dirpath is not None, "setup has found one"
        return self._dirpath


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _absolute(path: str | os.PathLike[str]) -> str:
    return str(Path(path).expanduser().absolute())


def _existing(path: str) -> str | None:
    return path if path and Path(path).exists() else None


def _report(monitor: str | None, before: Record, after: Record) -> str:
    if monitor is None:
        return f"Saved {after.best_model_path}"
    was = "" if before.best_model_score is None else f" (was {before.best_model_score:.4g})"
    return f"{monitor}={after.best_model_score:.4g} is the best so far{was}: saved {after.best_model_path}"
