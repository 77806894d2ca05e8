"""Probes: what is read between two batches."""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

STRETCH = 8
"""Steps that are timed in one piece: two accumulation windows, two milliseconds, in which mostly nobody disturbs."""

SETTLING = 4
"""Steps before each stretch, not timed: an accumulation window, after which the caches are the subject's own again."""


class Probe(Protocol):
    """Is started when one batch is fetched, and stopped when a later one is; once, or for each stretch.

    Attributes:
        in_stretches: whether it is started and stopped for each stretch.
    """

    in_stretches: bool

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Stopwatch:
    """CPU time of this process in seconds, all of its threads together: a wait, or another process, does not count.

    Args:
        hand_over: called after each stretch: the others have their turn.

    Attributes:
        laps: the time of each stretch.
    """

    in_stretches = True

    def __init__(self, hand_over: Callable[[], None] = lambda: None) -> None:
        self.laps: list[float] = []
        self._hand_over = hand_over
        self._started = 0.0

    def start(self) -> None:
        self._started = time.process_time()

    def stop(self) -> None:
        self.laps.append(time.process_time() - self._started)
        self._hand_over()


class CallCounter:
    """Calls of Python functions and of C functions in this thread, as sys.setprofile reports them."""

    in_stretches = False

    def __init__(self) -> None:
        self.python = 0
        self.c = 0

    def start(self) -> None:
        sys.setprofile(self._listen)

    def stop(self) -> None:
        sys.setprofile(None)

    def _listen(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1
