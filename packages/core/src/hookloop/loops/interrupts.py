"""Ctrl-C while a run is being unwound: it waits until everybody has been torn down."""

import signal
import sys
import threading
from types import FrameType
from typing import Any


class DeferredInterrupts:
    """Between `defer` and `restore`, the first Ctrl-C is remembered rather than raised.

    A teardown that is interrupted half-way leaves what it should have given back. Whoever presses again means it: the
    second one raises KeyboardInterrupt in the part that takes so long, and the others are still torn down. A handler
    that the user installed is not replaced, and off the main thread there is nothing to replace.

    Attributes:
        pressed: how often Ctrl-C was pressed in that time.
    """

    def __init__(self) -> None:
        self.pressed = 0
        self._before: Any = None

    def defer(self) -> None:
        """Begin to remember."""
        on_main_thread = threading.current_thread() is threading.main_thread()
        if on_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before = signal.signal(signal.SIGINT, self._press)

    def restore(self) -> None:
        """Put back the handler that was there before."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _press(self, number: int, frame: FrameType | None) -> None:
        self.pressed += 1
        if self.pressed > 1:
            raise KeyboardInterrupt
        print("Finishing up. Press Ctrl-C again to interrupt what takes so long.", file=sys.stderr, flush=True)
