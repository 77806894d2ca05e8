"""`Saves`: the save of a trainer that is still being written, and who hears of it once it is done."""

import atexit
import os
import warnings
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any, NamedTuple

from hookloop.errors import MisconfigurationError
from hookloop.stage import TrainerState

if TYPE_CHECKING:
    from hookloop.checkpoint_io.writer import BackgroundWriter


class _Pending(NamedTuple):
    path: str
    done: "Future[Any]"
    on_error: str
    announce: Callable[[str], object]
    process: int


class Saves:
    """What one trainer is saving in the background: one file at most.

    The thread that writes only asks for attention. Everything that follows from a file, the announcement or the error,
    happens where the trainer runs: after a batch, before the next save, at the end of an entry point, or when somebody
    waits; for a save outside of any run, when Python ends at the latest.

    Args:
        state: where attention is asked for.
    """

    def __init__(self, state: TrainerState) -> None:
        self._state = state
        self._pending: _Pending | None = None
        self._writer: BackgroundWriter | None = None

    @property
    def writer(self) -> "BackgroundWriter":
        """Who writes copies of states; made when it is first asked for."""
        if self._writer is None:
            from hookloop.checkpoint_io.writer import BackgroundWriter  # only where somebody saves in the background

            self._writer = BackgroundWriter()
        return self._writer

    def expect(self, path: str, done: "Future[Any]", on_error: str, announce: Callable[[str], object]) -> None:
        """Look after a file that is being written. The former one has been waited for.

        Args:
            path: the file, as it is announced.
            done: done when it is written.
            on_error: "raise" or "warn".
            announce: called with the path once the file is there.
        """
        self._pending = _Pending(path, done, on_error, announce, os.getpid())
        atexit.register(self._wait_at_exit)
        done.add_done_callback(self._ask_for_attention)

    def look(self) -> None:
        """Announce the file if it is done, or raise its error; nothing is waited for."""
        if self._pending is not None and self._pending.done.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the file, and announce it.

        Raises:
            Exception: it could not be written, and nobody asked for a warning.
        """
        pending = self._pending
        if pending is None:
            return
        if pending.process != os.getpid():  # a fork has no threads: this is the business of the other process
            self._pending = None
            return
        try:
            error = pending.done.exception()
        except CancelledError as cancelled:
            error = cancelled
        # Only now: whoever was interrupted while waiting can wait again.
        self._pending = None
        atexit.unregister(self._wait_at_exit)
        if error is None:
            pending.announce(pending.path)
            return
        try:
            failed(error, pending.path, pending.on_error)
        finally:
            del error, pending  # an exception whose traceback holds it would keep the whole state alive

    def close(self) -> None:
        """The same at the end of a run; gives the memory back in which copies of states were made."""
        try:
            self.wait()
        finally:
            if self._writer is not None:
                self._writer.release()

    def _ask_for_attention(self, done: "Future[Any]") -> None:
        self._state.attention = True

    def _wait_at_exit(self) -> None:
        self.wait()


def failed(error: BaseException, path: str, on_error: str) -> None:
    """Raise what kept a file from being written, or warn of it.

    Args:
        error: what was raised. One about how saving was asked for is raised in any case.
        path: the file.
        on_error: "raise" or "warn".
    """
    if on_error == "raise" or not isinstance(error, Exception) or isinstance(error, MisconfigurationError):
        raise error
    warnings.warn(f"The run goes on without the checkpoint {path}: {type(error).__name__}: {error}", stacklevel=3)
