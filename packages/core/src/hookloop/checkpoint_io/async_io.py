"""`AsyncCheckpointIO`: a CheckpointIO that writes in the background whatever it is given."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.checkpoint_io.writer import BackgroundWriter
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError


class AsyncCheckpointIO(CheckpointIO):
    """Makes every save a background one: `Trainer(plugins=AsyncCheckpointIO())`.

    A save copies the state, into memory that is used again by the next one, and returns; a thread writes the copy by
    another CheckpointIO. Everything else waits for that. The same for a single save is
    `trainer.save_checkpoint(path, background=True)`.

    Args:
        checkpoint_io: who writes, reads and removes; None is local files.

    Raises:
        MisconfigurationTypeError: it is no CheckpointIO.
        MisconfigurationError: it saves in the background itself.
    """

    saves_in_background = True

    def __init__(self, checkpoint_io: CheckpointIO | None = None) -> None:
        if checkpoint_io is not None and not isinstance(checkpoint_io, CheckpointIO):
            given = checkpoint_io.__name__ if isinstance(checkpoint_io, type) else repr(checkpoint_io)
            raise MisconfigurationTypeError(
                f"AsyncCheckpointIO(checkpoint_io={given}): pass an instance of CheckpointIO, which writes the files, "
                "or nothing."
            )
        if checkpoint_io is not None and checkpoint_io.saves_in_background:
            raise MisconfigurationError(
                f"AsyncCheckpointIO(checkpoint_io={type(checkpoint_io).__name__}(...)): that one saves in the "
                "background itself. Use it alone."
            )
        self.checkpoint_io = TorchCheckpointIO() if checkpoint_io is None else checkpoint_io
        self._writer = BackgroundWriter()
        self._last: _Write | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> "Future[None]":
        """Copy a checkpoint, and begin to write it. A former one is waited for first.

        Returns:
            Done when it is written. If nobody asks it for its error, the next save raises that, or `teardown`.
        """
        former = self._untold()

        def write(copy: dict[str, Any]) -> None:
            self.checkpoint_io.save_checkpoint(copy, path, storage_options=storage_options)

        self._last = _Write()
        self._writer.start(write, checkpoint, self._last)
        if former is not None:
            raise former
        return self._last

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        self._writer.wait()
        return self.checkpoint_io.load_checkpoint(path, map_location=map_location, weights_only=weights_only)

    def remove_checkpoint(self, path: str | Path) -> None:
        self._writer.wait()
        self.checkpoint_io.remove_checkpoint(path)

    def check_is_there(self, path: str | Path) -> None:
        self._writer.wait()
        self.checkpoint_io.check_is_there(path)

    def teardown(self) -> None:
        """Wait for what is being written, and give the memory of the copies back.

        Raises:
            Exception: the last checkpoint could not be written, and nobody was told.
        """
        self._writer.release()
        self.checkpoint_io.teardown()
        error = self._untold()
        if error is not None:
            raise error

    def _untold(self) -> BaseException | None:
        """What kept the last checkpoint from being written, once, unless its Future was asked."""
        self._writer.wait()
        last, self._last = self._last, None
        return last.exception() if last is not None and last.done() and not last.was_asked else None


class _Write(Future[None]):
    """A Future that knows whether somebody asked how it ended."""

    was_asked = False

    def result(self, timeout: float | None = None) -> None:
        self.was_asked = True
        super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self.was_asked = True
        return super().exception(timeout)
