"""Probes: what is read between two batches."""

import sys
import time
from types import FrameType
from typing import Protocol

STRETCH = 4
"""Steps of a stretch: an accumulation window, and a millisecond or so, in which mostly nobody disturbs."""


class Probe(Protocol):
    """Is started when one batch is fetched, and stopped when a later one is.

    Attributes:
        takes_laps: whether `lap` is called after each stretch.
    """

    takes_laps: bool

    def start(self) -> None: ...

    def lap(self) -> None: ...

    def stop(self) -> None: ...


class Stopwatch:
    """CPU time of this process in seconds, all of its threads together: a wait, or another process, does not count.

    Attributes:
        seconds: from start to stop.
        laps: the same of each stretch.
    """

    takes_laps = True

    def __init__(self) -> None:
        self.seconds = 0.0
        self.laps: list[float] = []
        self._started = self._lapped = 0.0

    def start(self) -> None:
        self._started = self._lapped = time.process_time()

    def lap(self) -> None:
        now = time.process_time()
        self.laps.append(now - self._lapped)
        self._lapped = now

    def stop(self) -> None:
        self.seconds = time.process_time() - self._started


class CallCounter:
    """Calls of Python functions and of C functions in this thread, as sys.setprofile reports them."""

    takes_laps = False  # a lap is a call too

    def __init__(self) -> None:
        self.python = 0
        self.c = 0

    def start(self) -> None:
        sys.setprofile(self._listen)

    def lap(self) -> None: ...

    def stop(self) -> None:
        sys.setprofile(None)

    def _listen(self, frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            self.python += 1
        elif event == "c_call":
            self.c += 1
