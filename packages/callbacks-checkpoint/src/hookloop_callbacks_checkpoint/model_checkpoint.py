"""`ModelCheckpoint`: keeps the best files of a run, and the last one."""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import MethodType
from typing import Any, ClassVar, Literal, SupportsFloat

from torch import Tensor
from torch.optim import Optimizer

from hookloop import Callback, LightningModule, Order
from hookloop.errors import SIGTERMException
from hookloop.monitor import Monitor
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import files
from hookloop_callbacks_checkpoint.arguments import check_arguments, check_links
from hookloop_callbacks_checkpoint.attributes import CheckpointAttributes
from hookloop_callbacks_checkpoint.moments import Moments
from hookloop_callbacks_checkpoint.names import SUFFIX, FileName
from hookloop_callbacks_checkpoint.ownership import Ownership
from hookloop_callbacks_checkpoint.places import default_folder, folders_of_run
from hookloop_callbacks_checkpoint.positions import Position, position_of, same_weights
from hookloop_callbacks_checkpoint.record import Record
from hookloop_callbacks_checkpoint.reports import as_yaml, report
from hookloop_callbacks_checkpoint.triggers import Triggers
from hookloop_callbacks_checkpoint.writing import Writing, writes_files


class ModelCheckpoint(CheckpointAttributes):
    """Saves, and keeps the files that are worth keeping.

    When: after so many optimizer steps (`every_n_train_steps`), so much time (`train_time_interval`) or so many epochs
    (`every_n_epochs`), one of them; without any of them, in every epoch. In epochs the place is the end of training
    epochs, after their validation, so that the metrics of both are there; in a run that validates more often or less
    often than once an epoch, the end of every validation. `save_on_train_epoch_end` changes that. When the process is
    asked to end (SIGTERM), last.ckpt is written in any case, with everything that is needed to go on. Nothing is saved
    in a fast_dev_run, in the sanity check, nor outside of `fit`.

    What: with `save_top_k=k` the k files with the best scores, or the newest one if nothing is monitored. A score is
    that of the weights it is saved with: a save that needs a metric (as its score or in its name) which these weights
    do not have yet waits until it is there, most often for the next validation. last.ckpt does not wait, unless that
    validation is the very next thing. A metric that training logs counts with its latest value of the running epoch.

    A new file is complete on disk before one that it replaces is deleted, and before an attribute names it. Only files
    that this callback wrote are deleted, in this process or in one that this run was resumed from, and never the one
    that was named as `ckpt_path`; one that "last" or "auto" found is a file like the others. A file of somebody else in
    the way is left alone; the new one's name then ends in "-v1", "-v2", ....

    Args:
        dirpath: folder for the files. Default: the folder "checkpoints" in the first logger's folder, or without one in
            the trainer's default_root_dir.
        filename: template for their names, without the suffix ".ckpt". Default "{epoch}-{step}", which gives
            "epoch=3-step=12.ckpt". Metrics may be named, with a format: "{epoch}-{val_loss:.2f}".
        monitor: key of the metric that tells which file is best. Default None: the newest is.
        verbose: whether to print a line when a file was saved for its score.
        save_last: True: every save also gives last.ckpt, a second name for the same bytes where the file system can do
            that. "link": a symbolic link to the newest file, where that is kept. Default None: no last.ckpt.
        save_top_k: how many files are kept; -1 keeps all, 0 none (but last.ckpt). More than 1 needs a monitor.
        save_on_exception: whether an exception, KeyboardInterrupt included, ends with last.ckpt written, with
            everything that is needed to go on; not if it came from a save or in the middle of an optimizer's step.
        save_weights_only: leave optimizers, progress and callbacks out of the files.
        mode: "min" if smaller scores are better, "max" if larger ones are. NaN is better than nothing, and worse than
            every number.
        auto_insert_metric_name: whether a field of `filename` stands for "name=value"; False: for the value alone.
        every_n_train_steps: save after so many optimizer steps, as `trainer.global_step` counts them, whatever is
            accumulated. Default None, and 0: not by steps.
        train_time_interval: save after the first optimizer step that ends when so much time has passed since training
            began or the last save. A resumed run goes on measuring. Default None: not by time.
        every_n_epochs: save in every n-th epoch only. Default None: 1 without another trigger. 0: not by epochs.
        save_on_train_epoch_end: for saves in epochs: True saves at the end of training epochs, False right after
            validations. Default None: as described above.
        enable_version_counter: False replaces a file of somebody else that is in the way.
        background: whether a thread writes the files while training goes on.
        on_save_error: "raise" ends the run with the error of a save; "warn" goes on training without the file.
        clock: gives seconds, for `train_time_interval`.

    Raises:
        MisconfigurationError: an argument that is not among those described here, or a filename that cannot be read.
    """

    CHECKPOINT_JOIN_CHAR: ClassVar[str] = "-"
    """Between the default name's parts, and before a version."""
    CHECKPOINT_EQUALS_CHAR: ClassVar[str] = "="
    """Between a metric's name and its value."""
    CHECKPOINT_NAME_LAST: ClassVar[str] = "last"
    """Name of the last file; it may have fields, as `filename`."""
    FILE_EXTENSION: ClassVar[str] = SUFFIX
    """What names of files end with."""
    STARTING_VERSION: ClassVar[int] = 1
    """The first version of a name that is taken."""

    order: ClassVar[Order] = Order.LAST
    family: ClassVar[str | None] = "checkpoint"

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
        *,
        background: bool = False,
        on_save_error: Literal["raise", "warn"] = "raise",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_arguments(monitor, save_last, save_top_k, mode, on_save_error)
        self._triggers = Triggers.of(every_n_train_steps, train_time_interval, every_n_epochs)
        self.monitor = monitor
        self.mode = mode
        self.filename = filename
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        self.auto_insert_metric_name = auto_insert_metric_name
        self.train_time_interval = train_time_interval
        self.enable_version_counter = enable_version_counter
        self._save_on_train_epoch_end = save_on_train_epoch_end
        self._clock = clock
        self._monitor = None if monitor is None else Monitor(monitor, mode)
        self._name = self._template(filename)
        self._name_of_last = self._template(self.CHECKPOINT_NAME_LAST)
        self._given_dirpath = None if dirpath is None else files.checked(dirpath, "dirpath")
        self._dirpath = None if self._given_dirpath is None else files.absolute(self._given_dirpath)
        check_links(self.save_last, self._dirpath)
        # The files: as far as they are there, being written, and whose they are.
        self._record = Record()
        self._writing: Writing[Record] = Writing(background, on_save_error)
        self._ownership = Ownership()
        # What triggers and scores need to know of the run.
        self._moments = Moments()
        self._steps_seen = 0
        self._time_of_save: float | None = None
        self._seconds_before = 0.0
        self._saved_at: Position | None = None
        self._waits = False
        self._validated_at: Position | None = None
        self._validation_names: frozenset[str] = frozenset()
        self._saved = False
        self._stage = ""
        self._trainer: TrainerView | None = None
        self._told_by_another = False
        self._offered: frozenset[str] = frozenset()
        self._leave_out_hooks()

    def _template(self, filename: str | None) -> FileName:
        template = filename or f"{{epoch}}{self.CHECKPOINT_JOIN_CHAR}{{step}}"
        return FileName(template, self.auto_insert_metric_name, self.CHECKPOINT_EQUALS_CHAR, self.FILE_EXTENSION)

    def _leave_out_hooks(self) -> None:
        """Give up the hooks of a step that this instance has no use for: they would be called for nothing."""
        unused = [] if self._triggers.within_epochs else ["on_train_batch_end"]
        unused += [] if self.save_on_exception else ["on_before_optimizer_step"]
        for hook in unused:
            if getattr(type(self), hook) is getattr(ModelCheckpoint, hook):  # a subclass may have a use for it
                setattr(self, hook, MethodType(getattr(Callback, hook), self))

    def __getstate__(self) -> object:
        state = super().__getstate__()
        if isinstance(state, dict):
            state = {**state, "_trainer": None, "_writing": Writing(self.background, self.on_save_error)}
            for hook in ("on_train_batch_end", "on_before_optimizer_step"):
                state.pop(hook, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._leave_out_hooks()

    # where it is

    def resolve_checkpoint(self, which: str, trainer: TrainerView | None = None) -> str | Sequence[str] | None:
        """The files that "best", "last" or "auto" stands for, in the order in which they are to be tried.

        Args:
            which: "best": the best file of this process, or of the one that it was resumed from. "last": this run's
                last.ckpt, then its other files, the newest first; before anything was saved, what is in the folder.
                "auto": what a job that was started again goes on with: whatever is in the folder, the newest first, or
                nothing.
            trainer: where to look without a `dirpath` before the first fit: in the folders "checkpoints" of all
                versions (version_0, version_1, ...) of its first logger.

        Returns:
            One path, several, or none in an empty list; None if this cannot be told: for "best" and "last" where there
            is no file, for "auto" where the folder is not known yet.
        """
        if which == "best":
            return self._record.best if files.is_there(self._record.best, self._trainer) else None
        found = self._newest(which, trainer) if which in ("last", "auto") else None
        self._offered = frozenset(found or ())
        return found

    def _newest(self, which: str, trainer: TrainerView | None) -> list[str] | None:
        folders = [] if self._dirpath is None else [self._dirpath]
        if self._given_dirpath is None and trainer is not None:
            folders = list(dict.fromkeys([*folders, *folders_of_run(trainer)]))
        elif not folders:
            return None
        if which == "last" and (known := self._known()):
            return known
        found = files.checkpoints_in(folders, self.FILE_EXTENSION)
        if which == "last":
            found = sorted(found, key=lambda path: not self._is_last(path))  # stable: each kind the newest first
            return found or None
        return list(dict.fromkeys([*found, *self._known()]))

    def _known(self) -> list[str]:
        """This run's files that are there, as far as this process knows them, the newest first."""
        newest_first = [self._record.last, *(one.path for one in reversed(self._record.kept))]
        return [path for path in dict.fromkeys(newest_first) if files.is_there(path, self._trainer)]

    def _is_last(self, path: str) -> bool:
        stem = path.rpartition("/")[2].removesuffix(self.FILE_EXTENSION)
        name, _, version = stem.rpartition(f"{self.CHECKPOINT_JOIN_CHAR}v")
        return self.CHECKPOINT_NAME_LAST in (stem, name if version.isdigit() else stem)

    def format_checkpoint_name(
        self,
        metrics: Mapping[str, SupportsFloat],
        filename: str | None = None,
        ver: int | None = None,
        prefix: str | None = None,
    ) -> str:
        """The path of a file with these values in its name; in `dirpath` if that is known.

        Args:
            metrics: the values of the fields, "epoch" and "step" among them where they are used.
            filename: a template; default: this callback's.
            ver: a version to put at the end.
            prefix: what to put in front.

        Raises:
            MisconfigurationError: a value is missing, or the template cannot be read.
        """
        template = self._name if filename is None else self._template(filename)
        counters = {name: int(float(metrics.get(name, 0))) for name in ("epoch", "step")}
        name = template.fill_in(counters["epoch"], counters["step"], metrics)
        parts = [*([] if prefix is None else [prefix]), name, *([] if ver is None else [f"v{ver}"])]
        return self._place(self.CHECKPOINT_JOIN_CHAR.join(parts))

    def file_exists(self, filepath: str | os.PathLike[str], trainer: TrainerView) -> bool:
        """Whether there is a file, as rank zero sees it."""
        there = files.exists(os.fspath(filepath)) if trainer.is_global_zero else False
        return bool(trainer.strategy.broadcast(there))

    def to_yaml(self, filepath: str | os.PathLike[str] | None = None) -> None:
        """Write `best_k_models` to a local YAML file, one line each; default: best_k_models.yaml in `dirpath`."""
        target = Path(self._place("best_k_models", ".yaml") if filepath is None else filepath)
        target.write_text(as_yaml(self._record.scores()), encoding="utf-8")

    def _place(self, name: str, suffix: str | None = None) -> str:
        name += self.FILE_EXTENSION if suffix is None else suffix
        return name if self._dirpath is None else files.join(self._dirpath, name)

    # state

    @property
    def state_key(self) -> str:
        """Names what tells instances apart, where it is not the default."""
        arguments = {
            "monitor": (self.monitor, None),
            "mode": (self.mode, "min"),
            "dirpath": (self._given_dirpath, None),
            "filename": (self.filename, None),
            "save_top_k": (self.save_top_k, 1),
            "save_last": (self.save_last or None, None),
            "save_weights_only": (self.save_weights_only, False),
            "save_on_exception": (self.save_on_exception, False),
            "auto_insert_metric_name": (self.auto_insert_metric_name, True),
            "every_n_train_steps": (self.every_n_train_steps, 0),
            "train_time_interval": (self.train_time_interval, None),
            "every_n_epochs": (self.every_n_epochs, 0 if self._triggers.within_epochs else 1),
            "save_on_train_epoch_end": (self._save_on_train_epoch_end, None),
            "enable_version_counter": (self.enable_version_counter, True),
        }
        named = ", ".join(f"{name}={value!r}" for name, (value, default) in arguments.items() if value != default)
        return f"{type(self).__qualname__}[{named}]"

    def state_dict(self) -> dict[str, Any]:
        """The record as it will be when the file is complete, and where the triggers are: plain values.

        Paths are relative to `dirpath`, so that a folder which is moved still knows its files.
        """
        record = self._writing.promise or self._record
        return {
            "monitor": self.monitor,
            "mode": self.mode,
            "dirpath": self._dirpath,
            "run": self._ownership.run,
            "writes": self._writing.promise is not None,
            "seconds": self._seconds(),
            "saved_at": None if self._saved_at is None else list(self._saved_at),
            "waits": self._waits,
            "saved": self._saved,
            **record.mapped(lambda path: files.relative(path, self._dirpath)).state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another process stopped; a file that was the best by another metric is not the best by this.

        Outside of a fit, what this process knows of its files stays.
        """
        if self._stage not in ("", "fit") and self._record != Record():
            return
        self._ownership.run = str(state_dict.get("run") or "") or self._ownership.run
        self._told_by_another = not state_dict.get("writes", True)
        saved_at = state_dict.get("saved_at")
        self._saved_at = None if saved_at is None else (int(saved_at[0]), int(saved_at[1]), int(saved_at[2]))
        self._waits = bool(state_dict.get("waits"))
        self._saved = bool(state_dict.get("saved"))
        self._seconds_before = float(state_dict.get("seconds") or 0.0)
        record = Record.from_state(state_dict)
        if (state_dict.get("monitor"), state_dict.get("mode")) != (self.monitor, self.mode):
            record = Record(last=record.last)
        before = state_dict.get("dirpath")
        if self._trainer is None or self._dirpath is None:
            # In a test or a prediction, where the files of the fit are only named.
            self._record = record.mapped(lambda path: files.join(before, path) if before and path else path)
        else:
            self._record = self._ownership.take_over(self._trainer, record, self._dirpath, before)

    # when to save

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Find the folder for the files, the same on all ranks. It is made with the first file."""
        self._stage = stage
        self._moments.end()
        if stage != "fit":
            return
        self._trainer = trainer
        self._writing.begin()
        self._told_by_another = False
        self._saved = self._waits = False
        self._saved_at, self._validated_at, self._validation_names = None, None, frozenset()
        self._seconds_before, self._time_of_save = 0.0, None
        self._ownership.begin(trainer)
        if self._given_dirpath is None:
            self._dirpath = trainer.strategy.broadcast(default_folder(trainer))
            check_links(self.save_last, self._dirpath)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """The trainer is not needed any longer."""
        self._moments.end()
        self._stage = ""
        self._offered = frozenset()

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Begin to count and to measure; forget files that are gone; delete what a save did not come to delete."""
        self._steps_seen = trainer.global_step
        self._time_of_save = self._clock() - self._seconds_before
        self._moments.begin()
        if self._told_by_another and self._dirpath is not None:
            # Another callback wrote the file that the run was resumed from, and this one may have saved right after it.
            self._told_by_another = False
            if (state := self._ownership.later_state(trainer, self._dirpath, self.FILE_EXTENSION)) is not None:
                self.load_state_dict(state)
        self._finish_last(trainer)
        gone: list[str] = []
        if trainer.is_global_zero:
            gone = [path for path in self._record.paths() if not files.is_there(path, trainer)]
        gone = trainer.strategy.broadcast(gone)
        lost = [one.path for one in self._record.kept if one.path in gone]
        if lost:
            warnings.warn(
                f"Of the resumed run's checkpoints, {', '.join(map(repr, lost))} {'do' if len(lost) > 1 else 'does'} "
                "not exist any more; the next ones to be saved are compared with what is left. Put the files back and "
                "resume again to keep their scores.",
                stacklevel=2,
            )
        self._record = self._record.without(gone, self._monitor)
        self._clear_away(trainer)

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if enough steps were taken or enough time has passed. Left out where neither is asked for."""
        if self._triggers.steps:
            before, self._steps_seen = self._steps_seen, trainer.global_step
            due = self._triggers.steps_due(before, self._steps_seen)
        elif self._triggers.seconds is not None and not trainer.is_accumulating:
            # The clocks of several machines differ, and all ranks have to take part in a save.
            now = self._clock()
            due = trainer.strategy.broadcast(self._triggers.time_due(now - (self._time_of_save or 0.0)))
            self._time_of_save = now if due else self._time_of_save
        else:
            return
        if due and not self._idle(trainer):
            self._save_what_is_due(trainer, follows=trainer.state.validation_follows)

    def on_validation_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Note which of the metrics that are needed come from this validation: what it logged is complete."""
        if not self._idle(trainer):
            logged = trainer.running_metrics
            self._validation_names = frozenset(name for name in self._wanted if name in logged)

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Save, if this is the place for it, or if a save has waited for this validation."""
        if self._idle(trainer):
            return
        self._validated_at = position_of(trainer)
        here = not self._saves_at_epoch_end(trainer)
        if (here and self._triggers.epoch_due(trainer.current_epoch)) or self._waits:
            self._save_what_is_due(trainer, complains=here and not self._triggers.within_epochs)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Save, if this is the place for it, or if a save has waited for the metrics of the epoch."""
        if self._idle(trainer):
            return
        here = self._saves_at_epoch_end(trainer)
        if (here and self._triggers.epoch_due(trainer.current_epoch)) or self._waits:
            self._save_what_is_due(trainer, complains=self._validated_at is not None or not trainer.enable_validation)

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Write last.ckpt if no save was due in all of this training, and say so if a score was waited for in vain."""
        self._moments.end()
        if self._idle(trainer):
            return
        missing = [name for name in self._needed if name not in trainer.callback_metrics]
        if self._waits and missing:
            what = f"the monitored metric {missing[0]!r}" if self.monitor in missing else ", ".join(map(repr, missing))
            warnings.warn(
                f"Training ended before the first validation, and {what} was not logged: no best checkpoint is saved. "
                "Train for longer, or validate earlier with val_check_interval.",
                stacklevel=2,
            )
        self._waits = False
        if self.save_last and not self._saved:
            self._save(trainer, {}, keep=False)

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        """Write last.ckpt, from which training goes on where it stopped, whatever else is saved and when."""
        if not self._idle(trainer):
            self._save_place(trainer)

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Note that the weights are about to change. Left out where save_on_exception is not asked for."""
        self._moments.stepping_in = trainer.current_epoch, trainer.batch_idx

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """Write last.ckpt if that is asked for and training can go on from it; else say why not."""
        if not self.save_on_exception or self._idle(trainer) or isinstance(exception, SIGTERMException):
            return
        reason = "it came from a save" if self._writing.failed else self._moments.why_not_now(trainer)
        if reason is None:
            self._save_place(trainer)
        else:
            before = f"the newest is {self._record.last}" if self._record.last else "and there is no last.ckpt yet"
            trainer.print(f"No checkpoint is saved for this {type(exception).__name__}: {reason}; {before}.")

    def _idle(self, trainer: TrainerView) -> bool:
        return bool(trainer.fast_dev_run) or trainer.sanity_checking or trainer.state.fn != "fit"

    def _saves_at_epoch_end(self, trainer: TrainerView) -> bool:
        if self._save_on_train_epoch_end is not None:
            return self._save_on_train_epoch_end
        interval = trainer.val_check_interval
        once_an_epoch = isinstance(interval, float) and interval == 1.0 and trainer.check_val_every_n_epoch == 1
        return once_an_epoch or not trainer.enable_validation

    def _seconds(self) -> float:
        """How long it is since the last save by time, for a resumed run."""
        if self._triggers.seconds is None or self._time_of_save is None:
            return 0.0
        return self._clock() - self._time_of_save

    # which metrics belong to the weights

    @property
    def _wanted(self) -> tuple[str, ...]:
        """The metrics that the score and the name of a file are made of."""
        return tuple(dict.fromkeys([*([] if self.monitor is None else [self.monitor]), *self._name.metrics]))

    @property
    def _needed(self) -> tuple[str, ...]:
        """Those for which a save waits: without them no file can be ranked and named."""
        return () if self.save_top_k == 0 else self._wanted

    def _fresh(self, trainer: TrainerView) -> dict[str, Tensor]:
        """The metrics that were logged for the weights as they are now, or last in the running epoch's training."""
        fresh = trainer.running_metrics
        if self._validation_names and self._validated_at and same_weights(self._validated_at, position_of(trainer)):
            known = trainer.callback_metrics
            fresh |= {name: known[name] for name in self._validation_names if name in known}
        return fresh

    def _save_what_is_due(self, trainer: TrainerView, follows: bool = False, complains: bool = False) -> None:
        """Save a state whose moment has come, or wait for the metrics that it needs.

        Args:
            trainer: the trainer.
            follows: whether a validation is the very next thing.
            complains: whether a metric that was never logged until now is a mistake.
        """
        if self._saved_at is not None and same_weights(self._saved_at, position_of(trainer)):
            self._waits = False
            return
        fresh = self._fresh(trainer)
        missing = [name for name in self._needed if name not in fresh]
        if complains:
            self._check_logged(trainer, missing)
        named = not any(name in self._name.metrics for name in missing)
        if not missing or (self.save_top_k == -1 and named and not follows):
            self._waits = False
            self._saved_at = position_of(trainer)
            self._save(trainer, fresh, keep=True)
            return
        self._waits = True
        if self.save_last and not follows:
            self._save(trainer, fresh, keep=False)

    def _check_logged(self, trainer: TrainerView, names: Sequence[str]) -> None:
        """Raise an error that lists what was logged, if one of the names never was."""
        metrics = trainer.callback_metrics
        for name in names:
            if name not in metrics and name == self.monitor:
                Monitor(name, self.mode).read(metrics)
            if name not in metrics:
                self._name.fill_in(trainer.current_epoch, trainer.global_step, metrics)

    # how to save

    def _save(self, trainer: TrainerView, metrics: Mapping[str, Tensor], keep: bool) -> None:
        """Save the run as it is now.

        Args:
            trainer: the trainer.
            metrics: those of these weights.
            keep: whether the file may be kept for its score or as the newest; otherwise last.ckpt alone is written.
        """
        self._writing.settle(trainer)
        score = float(metrics[self.monitor]) if self.monitor is not None and self.monitor in metrics else None
        score = trainer.strategy.broadcast(score)
        before = self._record
        after = before if score is None else replace(before, current_score=score)
        path = last = ""
        if keep and after.has_room(score, self.save_top_k, self._monitor):
            name = self._name.fill_in(trainer.current_epoch, trainer.global_step, metrics)
            leaves = after.displaced(self.save_top_k, self._monitor)
            path, _ = self._free_path(trainer, name, [one.path for one in after.kept if one.path not in leaves])
            after = after.with_file(path, score, self.save_top_k, self._monitor)
        with_file = after
        if self.save_last:
            last = self._path_of_last(trainer, after)
            after = after.with_last(last)
        if not path and not last:
            self._record = after
            return
        self._saved = True
        # One write for both names, where files are what is written.
        twins = bool(path and last) and not files.is_remote(path) and writes_files(trainer)

        def file_there() -> None:
            self._commit(trainer, with_file, path)
            if self.verbose:
                trainer.print(report(self.monitor, self.save_top_k, before, with_file))
            if not last:
                self._clear_away(trainer)
            elif twins and self._writing.give_second_name(trainer, path, last, self.save_last == "link", self):
                last_there()

        def last_there() -> None:
            self._commit(trainer, after, last)
            self._clear_away(trainer)

        if path:
            self._writing.write(trainer, path, after, file_there, self.save_weights_only)
        if last and not twins:
            self._writing.write(trainer, last, after, last_there, self.save_weights_only)

    def _save_place(self, trainer: TrainerView) -> None:
        """Write last.ckpt with all that is needed to go on: from the weights alone nothing can be resumed."""
        self._writing.settle(trainer)
        path = self._path_of_last(trainer, self._record)
        after = self._record.with_last(path)

        def there() -> None:
            self._commit(trainer, after, path)
            self._clear_away(trainer)
            trainer.print(f"Saved {path}")

        self._writing.write(trainer, path, after, there, at_once=True)

    def _finish_last(self, trainer: TrainerView) -> None:
        """Write last.ckpt, if the former process was killed when the file before it was there and this one was not."""
        last, behind = self._record.last, False
        newest = self._record.kept[-1].path if self._record.kept else ""
        if trainer.is_global_zero and self.save_last and last and newest in self._ownership.own:
            ours = self._dirpath is not None and all(files.inside(path, self._dirpath) for path in (last, newest))
            resumed_from = trainer.ckpt_path is not None and files.same(trainer.ckpt_path, newest)
            behind = ours and files.is_behind(last, newest, if_missing=resumed_from)
        if not trainer.strategy.broadcast(behind):
            return
        if files.is_remote(newest) or not writes_files(trainer):
            self._saved = False  # the next save writes it, or the end of training
        elif self._writing.give_second_name(trainer, newest, last, self.save_last == "link", self):
            self._commit(trainer, self._record, last)

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        """Remember a file, now that it is complete."""
        self._writing.saved(path)

    def _commit(self, trainer: TrainerView, record: Record, path: str) -> None:
        """A file is there: the attributes name it from here on. Loggers that upload files look for it there."""
        self._record = record
        self._ownership.own.add(path)
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)

    def _clear_away(self, trainer: TrainerView) -> None:
        """Delete what was replaced; but nothing of others, nor of other folders, nor what a user named by its path."""
        stay = set(self._record.paths())
        named = trainer.ckpt_path if str(trainer.ckpt_path) not in self._offered else None
        for path in self._record.leaving:
            if path in stay or (named is not None and files.same(named, path)) or path not in self._ownership.own:
                continue
            if self._dirpath is not None and files.inside(path, self._dirpath):
                trainer.strategy.remove_checkpoint(path)
        self._record = replace(self._record, leaving=())

    def _path_of_last(self, trainer: TrainerView, record: Record) -> str:
        name = self._name_of_last.fill_in(trainer.current_epoch, trainer.global_step, trainer.callback_metrics)
        path, in_the_way = self._free_path(trainer, name, [one.path for one in record.kept])
        siblings = [one for one in trainer.callbacks if isinstance(one, ModelCheckpoint) and one is not self]
        if (
            in_the_way is not None
            and record.last != path
            and not any(in_the_way in sibling._ownership.own for sibling in siblings)
        ):
            warnings.warn(
                f"{in_the_way} is there already and was written by another run: it is left alone, and this run writes "
                f'{path}. ckpt_path="last" takes the newer one; to go on with the other run, pass its path as '
                "ckpt_path. Give each run a dirpath of its own to keep them apart.",
                stacklevel=2,
            )
        return path

    def _free_path(self, trainer: TrainerView, name: str, stay: Sequence[str]) -> tuple[str, str | None]:
        assert self._dirpath is not None, "setup has found one"
        return self._ownership.free_path(
            trainer,
            self._dirpath,
            (name, self.FILE_EXTENSION),
            (f"{self.CHECKPOINT_JOIN_CHAR}v", self.STARTING_VERSION),
            stay,
            replaces=not self.enable_version_counter,
        )
