"""Probes: what is read between two batches."""

import sys
import time
from types import FrameType
from typing import Protocol


class Probe(Protocol):
    """Is started when one batch is fetched, and stopped when a later one is."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


class Stopwatch:
    """CPU time of this process in seconds, all of its threads together: a wait, or another process, does not count."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def start(self) -> None:
        self.seconds -= time.process_time()

    def stop(self) -> None:
        self.seconds += time.process_time()


class CallCounter:
    """Calls of Python functions and of C functions in this thread, as sys.setprofile reports them."""

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
