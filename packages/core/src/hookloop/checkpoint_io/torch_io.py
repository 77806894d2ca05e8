"""`TorchCheckpointIO`: checkpoints are files, as torch.save writes them."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from hookloop.checkpoint_io.interface import CheckpointIO
from hookloop.errors import CheckpointError, MisconfigurationTypeError


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
        from hookloop.checkpoint_file import write_checkpoint  # loaded by the first save

        write_checkpoint(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a file.

        Raises:
            CheckpointError: there is none, it is damaged, or it holds what weights_only refuses.
        """
        from hookloop.checkpoint_file import read_checkpoint  # not by every run

        return read_checkpoint(path, weights_only is not False, "cpu" if map_location is None else map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove the file, or the folder with everything in it.

        Raises:
            CheckpointError: the file system does not allow it.
        """
        # Not by every import.
        from hookloop.storage.disk_errors import explained
        from hookloop.storage.paths import is_remote, local_path

        if is_remote(path):
            from hookloop.storage.remote import remove

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
            from hookloop.checkpoint_file import check_is_there  # not by every run

            check_is_there(path)
