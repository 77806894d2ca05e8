"""Ctrl-C: it is never lost, and while a run is being unwound it waits until everybody has been torn down."""

import _thread
import logging
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

AGAIN_AFTER = 0.005
"""Seconds after which a Ctrl-C is tried again that came while a record was being logged."""


class DeferredInterrupts:
    """From `watch` to `defer`, Ctrl-C is raised as ever, and noted; from there to `restore` the first one waits.

    It is noted, because Python swallows a KeyboardInterrupt that is raised inside a `__del__` (an iterator of a
    DataLoader has one): the run would end with the error of a worker that got the same signal.

    A teardown that is interrupted half-way leaves what it should have given back. Whoever presses again means it: the
    second one raises KeyboardInterrupt in the part that takes so long, and the others are still torn down. A handler
    that the user installed is not replaced, and off the main thread there is nothing to replace.

    Attributes:
        raised: whether Ctrl-C was pressed before `defer`.
        pressed: how often it was pressed since.
    """

    def __init__(self) -> None:
        self.raised = False
        self.pressed = 0
        self._deferring = False
        self._before: Any = None

    def watch(self) -> None:
        """Begin to take notes."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        around = getattr(handler, "__func__", None) is DeferredInterrupts._press  # a run inside of another one
        if handler is signal.default_int_handler or around:
            self._before = signal.signal(signal.SIGINT, self._press)

    def defer(self) -> None:
        """Begin to keep back what is pressed."""
        self._deferring = True

    def restore(self) -> None:
        """Put back the handler that was there before, unless somebody else has installed another one meanwhile."""
        if self._before is not None and signal.getsignal(signal.SIGINT) == self._press:
            signal.signal(signal.SIGINT, self._before)
        self._before = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring:
            if _is_logging(frame):
                # Raised there, it can leave logging's lock held, and then whoever logs next waits forever. A thread of
                # `threading` takes locks of its own when it is started, which this frame may hold too.
                _thread.start_new_thread(_press_again, ())
                return
            self.raised = True
            raise KeyboardInterrupt
        self.pressed += 1
        if self.pressed > 1:
            raise KeyboardInterrupt
        print("Finishing up. Press Ctrl-C again to interrupt what takes so long.", file=sys.stderr, flush=True)


def _is_logging(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == logging.__file__:
            return True
        frame = frame.f_back
    return False


def _press_again() -> None:
    time.sleep(AGAIN_AFTER)
    os.kill(os.getpid(), signal.SIGINT)
