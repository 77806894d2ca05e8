"""`BackgroundWriter`: one thread, which writes what was copied before."""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from hookloop.checkpoint_io.snapshot import Snapshots

YIELDS = 10
"""By how much the thread is nicer than the one that trains: on a core that both want, it gets a tenth of the time."""


class BackgroundWriter:
    """Writes states while their owners go on changing them, one after another.

    Where no core is free, training goes before writing: on Linux, whose threads have priorities of their own, the
    thread has a lower one. Whoever waits for it leaves it the core.

    The thread is there for as long as it writes. It is no daemon: Python does not end before the thread does, after
    sys.exit and after exceptions too.
    """

    def __init__(self) -> None:
        self._snapshots = Snapshots()
        self._thread: threading.Thread | None = None

    def start(self, write: Callable[[Any], object], state: Any, done: "Future[None] | None" = None) -> "Future[None]":
        """Copy a state and begin to write it. A former write is waited for first.

        Args:
            write: called on the thread with the copy.
            state: may be changed as soon as this returns.
            done: what to return; None makes a new one.

        Returns:
            Done when the write is, with the error if it raised one.
        """
        self.wait()
        copy, ready = self._snapshots.take(state)
        done = Future() if done is None else done
        arguments = (done, write, copy, ready)
        thread = threading.Thread(
            target=_write_politely, args=arguments, name="hookloop checkpoint writer", daemon=False
        )
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had: Python is ending, or the system's limit is reached
            _write(*arguments)
        else:
            self._thread = thread
        return done

    def wait(self) -> None:
        """Wait until nothing is being written; an error is left to whoever asks the Future.

        A fork has no threads, so there is nothing to wait for in it: the process that began the write goes on with it.
        """
        if self._thread is not None:
            self._thread.join()
        self._thread = None

    def release(self) -> None:
        """Give back the memory of the last copy, once that is written."""
        self.wait()
        self._snapshots = Snapshots()


def _write_politely(*arguments: Any) -> None:
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            me = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + YIELDS)
    _write(*arguments)


def _write(done: "Future[None]", write: Callable[[Any], object], copy: Any, ready: Callable[[], None]) -> None:
    try:
        ready()
        write(copy)
    except BaseException as error:  # noqa: BLE001 - raised where the Future is asked
        done.set_exception(error)
    else:
        done.set_result(None)
