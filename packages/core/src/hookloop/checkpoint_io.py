"""`CheckpointIO`: where checkpoints are written and read, for those who keep them in another place or form."""

import shutil
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from hookloop.checkpoint_file import check_is_there, read_checkpoint, write_checkpoint
from hookloop.disk_errors import explained
from hookloop.errors import CheckpointError, MisconfigurationTypeError
from hookloop.storage import is_remote, local_path, remove


class CheckpointIO(ABC):
    """Writes, reads and removes checkpoints. Pass one to the Trainer: `Trainer(plugins=MyCheckpointIO())`.

    The trainer asks it for every checkpoint that it saves, resumes from or evaluates; to write and to remove one, on
    rank zero alone. What it raises reaches whoever asked for the checkpoint.

    Attributes:
        saves_in_background: whether `save_checkpoint` copies what it is given, and returns while it is being written.
    """

    saves_in_background: ClassVar[bool] = False

    @abstractmethod
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> "Future[None] | None":
        """Write a checkpoint.

        Args:
            checkpoint: tensors, numbers, strings and containers of them; some are those of the running model, so copy
                what is not written before this returns.
            path: where to, as whoever saves calls it.
            storage_options: what was passed to `trainer.save_checkpoint`.

        Returns:
            None if it is written. Else a Future, which is done when it is: the trainer announces the checkpoint then,
            or raises the Future's error.
        """

    @abstractmethod
    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: where it is, as whoever loads calls it.
            map_location: the device of its tensors, in any form that `torch.load` takes; None is the CPU.
            weights_only: False may read other objects than tensors, numbers, strings and containers of them, which runs
                whatever code is in the file; None and True may not.

        Returns:
            What was saved: a dict with "state_dict".
        """

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that is no longer needed; nothing happens if it is gone."""

    def check_is_there(self, path: str | Path) -> None:
        """Raise an error if there is no checkpoint at `path`; asked before anything else is given up for it.

        Whoever cannot tell at once does nothing, and lets `load_checkpoint` find out.
        """

    def teardown(self) -> None:
        """Wait for, and close, whatever saving has opened; called when an entry point ends, after errors too."""


class TorchCheckpointIO(CheckpointIO):
    """What a trainer uses by default: one file for each checkpoint, written beside its target and renamed.

    Paths may be local ones or have a protocol (`s3://bucket/last.ckpt`); see `hookloop.storage`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write a file.

        Raises:
            MisconfigurationTypeError: there are storage_options, which it has no use for.
            CheckpointError: it could not be written; a file of that name is unchanged.
        """
        if storage_options is not None:
            raise MisconfigurationTypeError(
                f"save_checkpoint(storage_options={storage_options!r}): {type(self).__name__} writes files and has no "
                "options; what a protocol such as s3:// needs to know stands in fsspec's own configuration or in the "
                "environment. Leave them out, or pass a CheckpointIO of your own in Trainer(plugins=...)."
            )
        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a file.

        Raises:
            CheckpointError: there is none, it is damaged, or it holds what weights_only refuses.
        """
        return read_checkpoint(path, weights_only is not False, "cpu" if map_location is None else map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file, or the folder with everything in it.

        Raises:
            CheckpointError: the file system does not allow it.
        """
        if is_remote(path):
            remove(path)
            return
        target = local_path(path)
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                with suppress(FileNotFoundError):
                    target.unlink()
        except OSError as error:
            raise CheckpointError(f"The checkpoint {target} could not be removed. {explained(error)}") from error

    def check_is_there(self, path: str | Path) -> None:
        """Check that there is a file, unless a subclass reads from elsewhere.

        Raises:
            CheckpointError: there is none; the message lists the checkpoints in its folder.
        """
        if type(self).load_checkpoint is TorchCheckpointIO.load_checkpoint:
            check_is_there(path)
