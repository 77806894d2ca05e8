"""`OnExceptionCheckpoint`: saves where a run was when an exception ended it."""

import os
from collections.abc import Sequence
from typing import Any, ClassVar

from torch.optim import Optimizer

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError, SIGTERMException
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import files
from hookloop_callbacks_checkpoint.moments import Moments
from hookloop_callbacks_checkpoint.names import SUFFIX, FileName
from hookloop_callbacks_checkpoint.ownership import Ownership
from hookloop_callbacks_checkpoint.writing import Writing


class OnExceptionCheckpoint(Callback):
    """Saves one file when an exception, KeyboardInterrupt included, or a SIGTERM ends training.

    From the file training goes on where it was: `trainer.fit(model, ckpt_path=checkpoint.ckpt_path)`, or
    `ckpt_path="last"` or "auto", which take it if it is the newest one. Nothing is resumed that was not asked for.

    Where weights and counters do not agree, after an error in the middle of an optimizer's step, and where the
    exception came before training had begun or from a save of this callback, nothing is saved, and a line says why.
    Nothing is saved in a fast_dev_run, nor outside of `fit`.

    The file stays. A later exception of the same run replaces it; a file of another run in the way is left alone, and
    the new one's name then ends in "-v1". It is a supplement to a ModelCheckpoint, and takes the place of none.

    Args:
        dirpath: folder for the file.
        filename: its name without the suffix ".ckpt"; `{epoch}` and `{step}` in it stand for "epoch=3" and "step=12".

    Raises:
        MisconfigurationError: the filename is empty, names a metric, or no file system takes it.
    """

    FILE_EXTENSION: ClassVar[str] = SUFFIX
    """What the name of the file ends with."""

    order: ClassVar[Order] = Order.LAST
    # Of no family: the default ModelCheckpoint does not step aside for it.
    family: ClassVar[str | None] = None

    def __init__(self, dirpath: str | os.PathLike[str], filename: str = "on_exception") -> None:
        if not filename:
            raise MisconfigurationError(
                f"OnExceptionCheckpoint(filename={filename!r}): a name is needed; leave it out for on_exception.ckpt."
            )
        self.dirpath = files.absolute(files.checked(dirpath, "dirpath"))
        self.filename = filename
        self._name = FileName(filename, suffix=self.FILE_EXTENSION)
        if self._name.metrics:
            raise MisconfigurationError(
                f"OnExceptionCheckpoint(filename={filename!r}) names {', '.join(map(repr, self._name.metrics))}, which "
                "need not be there when an exception comes. Name epoch and step at most."
            )
        self._path = ""
        self._writing: Writing[str] = Writing()
        self._ownership = Ownership()
        self._moments = Moments()

    @property
    def ckpt_path(self) -> str:
        """The file of the last exception; where one would be saved, if there was none yet."""
        if self._path:
            return self._path
        return files.join(self.dirpath, f"{self._name.fill_in(0, 0, {})}{self.FILE_EXTENSION}")

    @property
    def state_key(self) -> str:
        """Names the file, where that is not the default one."""
        named = f"dirpath={self.dirpath!r}, filename={self.filename!r}"
        return f"{type(self).__qualname__}[{named}]"

    def state_dict(self) -> dict[str, Any]:
        """Whose file this is, and where the run's own is: plain values."""
        path = self._writing.promise or self._path
        return {
            "run": self._ownership.run,
            "writes": self._writing.promise is not None,
            "path": files.relative(path, self.dirpath),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the run that wrote this, and take over its file if it is there."""
        self._ownership.run = str(state_dict.get("run") or "") or self._ownership.run
        path = str(state_dict.get("path") or "")
        path = files.join(self.dirpath, path) if path and files.is_relative(path) else path
        self._path = path if path and files.exists(path) and self._ownership.is_own(path) else ""

    def resolve_checkpoint(self, which: str, trainer: TrainerView | None = None) -> str | Sequence[str] | None:
        """The file, for "last" and "auto", if there is one: this run's, or before its first fit the one in the way.

        Without one, "auto" may begin anew if the name is always the same; of another name nobody knows what it was.
        """
        if which not in ("last", "auto"):
            return None
        if files.is_there(self.ckpt_path, None):
            return self.ckpt_path
        always_the_same = self._name.fill_in(0, 0, {}) == self._name.fill_in(1, 1, {})
        return [] if which == "auto" and always_the_same else None

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Begin to keep watch."""
        self._moments.end()
        if stage == "fit":
            self._writing.begin()
            self._ownership.begin(trainer)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """The end; the file stays."""
        self._moments.end()

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Everything is restored: from here on there is something to save."""
        self._moments.begin()

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Training ended as it should."""
        self._moments.end()

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """The weights are about to change."""
        self._moments.stepping_in = trainer.current_epoch, trainer.batch_idx

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        """Save: the process was asked to end."""
        if not self._idle(trainer):
            self._save(trainer)

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """Save, or say why not."""
        if self._idle(trainer) or isinstance(exception, SIGTERMException):
            return
        reason = "it came from a save" if self._writing.failed else self._moments.why_not_now(trainer)
        if reason is None:
            self._save(trainer)
        else:
            trainer.print(f"No checkpoint is saved for this {type(exception).__name__}: {reason}.")

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        """The file is complete."""
        self._writing.saved(path)

    @staticmethod
    def _idle(trainer: TrainerView) -> bool:
        return bool(trainer.fast_dev_run) or trainer.sanity_checking or trainer.state.fn != "fit"

    def _save(self, trainer: TrainerView) -> None:
        name = self._name.fill_in(trainer.current_epoch, trainer.global_step, {})
        path, _ = self._ownership.free_path(trainer, self.dirpath, (name, self.FILE_EXTENSION), ("-v", 1))

        def there() -> None:
            self._path = path
            self._ownership.own.add(path)
            trainer.print(f"Saved {path}")

        self._writing.write(trainer, path, path, there)
