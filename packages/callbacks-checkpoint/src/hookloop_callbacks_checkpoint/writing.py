"""`Writing`: has the trainer write files, and does what is to be done when each of them is there."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hookloop import Callback
from hookloop.errors import CheckpointError
from hookloop.plugins import TorchCheckpointIO
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import files

P = TypeVar("P")


@dataclass(frozen=True, slots=True, eq=False)
class _Coming:
    path: str
    then: Callable[[], None]


class Writing(Generic[P]):
    """The files of one callback that are being written; `P` is what a file says of itself and the others.

    Args:
        background: whether a thread writes them.
        on_error: "raise", or "warn" to go on without a file.

    Attributes:
        promise: while a file's contents are put together, what will be true once it is there; else None.
        failed: whether the last write raised an error.
    """

    def __init__(self, background: bool = False, on_error: str = "raise") -> None:
        self.background = background
        self.on_error = on_error
        self.promise: P | None = None
        self.failed = False
        self._coming: list[_Coming] = []

    def begin(self) -> None:
        """A fit begins; what came of the last one is settled."""
        self._coming, self.promise, self.failed = [], None, False

    def settle(self, trainer: TrainerView) -> None:
        """Wait for the file that is being written. What has not come by then has failed, and somebody said so."""
        if self.background and self._coming:
            trainer.wait_for_checkpoints()
        self._coming = []

    def write(
        self,
        trainer: TrainerView,
        path: str,
        promise: P,
        then: Callable[[], None],
        weights_only: bool = False,
        at_once: bool = False,
    ) -> None:
        """Write a file.

        Args:
            trainer: the trainer.
            path: where to.
            promise: what will be true then.
            then: called as soon as the file is complete; never, if it does not become so.
            weights_only: as for `trainer.save_checkpoint`.
            at_once: whether the file is to be complete when this returns.
        """
        self.settle(trainer)
        options: dict[str, Any] = {}
        if self.background and not at_once:
            options["background"] = True
        if self.on_error != "raise":
            options["on_error"] = self.on_error
        coming = _Coming(path, then)
        self._coming = [coming]
        self.promise, self.failed = promise, True
        try:
            trainer.save_checkpoint(path, weights_only, **options)
            self.failed = False
        finally:
            self.promise = None
            if self.failed or "background" not in options:
                self._coming = []

    def saved(self, path: str) -> None:
        """A file is complete: it may be one of these."""
        for coming in self._coming:
            if coming.path == path:
                self._coming, self.promise = [], None
                coming.then()
                return

    def give_second_name(self, trainer: TrainerView, path: str, name: str, link: bool, owner: Callback) -> bool:
        """Give a complete file a second name, and let everybody know of it, but for its owner.

        Returns:
            Whether it was done; not after a failure that is to be a warning.

        Raises:
            CheckpointError: it could not be done; what was there before is unchanged.
        """
        cause: str | None = None
        if trainer.is_global_zero:
            try:
                cause = None if files.duplicate(path, name, link) else "it is not there"
            except OSError as error:
                cause = f"{type(error).__name__}: {error}"
        cause = trainer.strategy.broadcast(cause)
        if cause is None:
            for callback in list(trainer.callbacks):
                if callback is not owner:
                    callback.on_checkpoint_saved(trainer, trainer.lightning_module, name)
            return True
        text = (
            f"The checkpoint {path} is complete, and could not be given the name {name} too ({cause}). What was there "
            "before is unchanged. Check the folder's permissions and free space."
        )
        if self.on_error == "raise":
            raise CheckpointError(text)
        warnings.warn(text, stacklevel=2)
        return False


def writes_files(trainer: TrainerView) -> bool:
    """Whether checkpoints become local files at their paths, and not something of a plugin's."""
    checkpoint_io = trainer.strategy.checkpoint_io
    return (
        isinstance(checkpoint_io, TorchCheckpointIO)
        and type(checkpoint_io).save_checkpoint is TorchCheckpointIO.save_checkpoint
    )
