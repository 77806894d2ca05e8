"""Ctrl-C: the batch that is running is finished first, and nobody is kept from being torn down."""

import _thread
import logging
import os
import selectors
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from torch.utils.data import dataloader

from hookloop.stage import TrainerState

SAME_PRESS_S = 0.5
"""Seconds within which another SIGINT is the same press: a key that is held down repeats, and programs that start
others (`uv run`, `torchrun`, `make`) pass one on that the terminal has sent to the whole group already."""

TELL_AFTER_S = 1.0
"""Seconds after which it is said that a Ctrl-C was heard: most runs have ended by then."""

AGAIN_AFTER_S, TRIES = 0.005, 100
"""Seconds after which an interrupt is tried again that came where a lock is held, and how often it may be put off."""


class Interrupts:
    """What Ctrl-C does from `watch` to `restore`.

    - Until the first batch, and wherever no batches are run: KeyboardInterrupt is raised at once, as ever.
    - Among batches (`state.finishes_batches`): a note is taken, and the loops honour it after the running batch. An
      exception raised between any two instructions could leave a lock held that a loader's workers or a logger need
      later, half a save, or counters that do not agree with the weights. A second press means it, and is raised at
      once. While a batch is only waited for, there is nothing to finish, and the first is raised at once too.
    - From `defer` on, while the run is being unwound: a note is taken, so that everybody is torn down. A second press
      raises KeyboardInterrupt in the part that takes so long, and the others are still torn down.

    A handler that the user installed is not replaced, and off the main thread there is nothing to replace. A worker of
    a DataLoader, which a terminal interrupts too, leaves it to the main process to end it.

    Args:
        state: where the note goes, and says whether batches are being run.

    Attributes:
        pressed: whether Ctrl-C was pressed at all.
        deferred: whether it was pressed since `defer`.
    """

    def __init__(self, state: TrainerState) -> None:
        self.pressed = False
        self.deferred = False
        self._state = state
        self._deferring = False
        self._pressed_at = -SAME_PRESS_S
        self._tries = 0
        self._process = os.getpid()
        self._before: Any = None
        self._restoring = threading.Lock()
        state.interrupt_noted = False
        state.finishes_batches = False

    def watch(self) -> None:
        """Begin to handle what is pressed."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        around = getattr(handler, "__func__", None) is Interrupts._press  # a run inside of another one
        if handler is signal.default_int_handler or around:
            self._before = signal.signal(signal.SIGINT, self._press)

    def defer(self) -> None:
        """Begin to keep back what is pressed."""
        self._deferring = True

    def restore(self) -> None:
        """Put back the handler that was there before, unless somebody else has installed another one meanwhile."""
        with self._restoring:
            if self._before is not None and signal.getsignal(signal.SIGINT) == self._press:
                signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            if not _is_in_a_worker(frame):
                raise KeyboardInterrupt  # another child of the user's, which knows nothing of batches
            return
        now = time.monotonic()
        if now - self._pressed_at < SAME_PRESS_S:
            return
        if self._deferring and not self.deferred:
            self.deferred = True
            self._tell_later("Finishing up. Press Ctrl-C again to interrupt what takes so long.")
        elif self._is_put_off(frame):
            self._state.interrupt_noted = self._state.attention = True
            self._tell_later("Ctrl-C: the run ends after this batch. Press again to end it at once.")
        elif _holds_a_lock(frame) and self._tries < TRIES:
            self._tries += 1
            _thread.start_new_thread(self._press_again, ())
            return
        else:
            self._pressed_at, self._tries, self.pressed = now, 0, True
            raise KeyboardInterrupt
        self._pressed_at, self.pressed = now, True

    def _is_put_off(self, frame: FrameType | None) -> bool:
        first_among_batches = self._state.finishes_batches and not self._state.interrupt_noted
        return not self._deferring and first_among_batches and not _waits_for_workers(frame)

    def _press_again(self) -> None:
        # Not a thread of `threading`: starting one takes locks too, which the interrupted frame may hold.
        time.sleep(AGAIN_AFTER_S)
        with self._restoring:  # or it would come when nobody expects it any more
            if self._before is not None:
                os.kill(os.getpid(), signal.SIGINT)

    def _tell_later(self, line: str) -> None:
        # In a thread: the frame that was interrupted may be writing, and a stream takes no second writer from there.
        _thread.start_new_thread(self._tell, (line, self._deferring))

    def _tell(self, line: str, deferring: bool) -> None:
        time.sleep(TELL_AFTER_S)
        if self._before is not None and self._deferring is deferring:  # still at it
            print(line, file=sys.stderr, flush=True)


def _holds_a_lock(frame: FrameType | None) -> bool:
    """Whether an exception might leave a lock held that somebody needs afterwards.

    Those are a logging handler's, for which the next who logs would wait forever, and that of a queue to a loader's
    workers, for which their end would.
    """
    queues = sys.modules.get("multiprocessing.queues")
    while frame is not None:
        file = frame.f_code.co_filename
        if file == logging.__file__ or (
            queues is not None and file == queues.__file__ and frame.f_code.co_name == "put"
        ):
            return True
        frame = frame.f_back
    return False


def _is_in_a_worker(frame: FrameType | None) -> bool:
    """Whether this process was forked by a DataLoader, which stands in its stack from the first instruction on."""
    while frame is not None:
        if frame.f_code.co_filename == dataloader.__file__:
            return True
        frame = frame.f_back
    return False


def _waits_for_workers(frame: FrameType | None) -> bool:
    """Whether nothing happens but that a batch is waited for, in a place where all locks are given back."""
    if frame is None or frame.f_code.co_filename not in (selectors.__file__, threading.__file__):
        return False
    while frame is not None:
        if frame.f_code.co_filename == dataloader.__file__:
            return frame.f_code.co_name == "_try_get_data"
        frame = frame.f_back
    return False
