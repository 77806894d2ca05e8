"""A job in a process of its own, which is forked, listened to, and killed.

Importing torch takes seconds of computing, so the job is not started as a program each time: a process that has torch
forks. What comes of it is a real process, with a pid, a process group and workers of its own, and what ends it is a
real signal. Forking is sound as long as the process that forks has one thread, which is checked each time.
"""

import multiprocessing
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .job import Tell

Job = Callable[[Tell], None]

LOOKS_EVERY_S = 0.05


class Process:
    """One start of the job.

    Args:
        job: what to run; it is handed a function that tells an event.
        log: what the job prints is added to this file.

    Attributes:
        began: when it was forked, as `time.perf_counter` has it, which is one clock for all processes.
        events: what it has told, and when it was heard.
    """

    def __init__(self, job: Job, log: Path) -> None:
        assert threading.active_count() == 1, "a process with threads cannot be forked soundly"
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "a library has started a thread"
        self._pipe, theirs = os.pipe()
        os.set_blocking(self._pipe, False)
        self._heard = b""
        self.began = time.perf_counter()
        self.events: list[tuple[float, str]] = []
        self._process = multiprocessing.get_context("fork").Process(target=_run, args=(job, theirs, log))
        self._process.start()
        os.close(theirs)
        assert self._process.pid is not None
        self._pid = self._process.pid
        with suppress(OSError):  # here as well as there: whichever is first, a signal finds the group
            os.setpgid(self._pid, self._pid)

    @property
    def exit_code(self) -> int | None:
        """Its exit code, or minus the number of the signal that killed it; None while it runs."""
        return self._process.exitcode

    def listen(self, until: float) -> str | None:
        """The next event; None if there was none until then (`time.perf_counter`), or if the process has ended.

        Whoever listens waits in `select`, which an event ends.
        """
        while True:
            ended = self.exit_code is not None  # asked before what it told is read to its end
            self._read()
            event, found, rest = self._heard.partition(b"\n")
            if found:
                self._heard = rest
                self.events.append((time.perf_counter(), event.decode()))
                return self.events[-1][1]
            left = until - time.perf_counter()
            if ended or left <= 0:
                return None
            # Not until the pipe's end: workers whose parent was killed hold it open for some seconds.
            select.select([self._pipe], [], [], min(left, LOOKS_EVERY_S))

    def _read(self) -> None:
        with suppress(BlockingIOError):
            self._heard += os.read(self._pipe, 1 << 16)

    def send(self, signum: int, *, to_group: bool) -> None:
        """Send it a signal, to its workers too or to it alone; nothing if it has ended."""
        if self.exit_code is None:  # as long as it was not waited for, its number is nobody else's
            (os.killpg if to_group else os.kill)(self._pid, signum)

    def wait(self, timeout_s: float) -> int:
        """Wait for its end, hearing what it tells; returns the exit code.

        Raises:
            TimeoutError: it goes on; it is killed then.
        """
        until = time.perf_counter() + timeout_s
        while self.listen(until) is not None:
            pass
        if self.exit_code is None:
            self.send(signal.SIGKILL, to_group=True)
            self._process.join()
            raise TimeoutError(f"The process did not end in {timeout_s} s after {self.events[-1:]}.")
        while self.listen(0) is not None:
            pass
        os.close(self._pipe)
        return self.exit_code

    def told(self, kind: str) -> list[list[str]]:
        """The events of a kind, in words, the first of which is the kind."""
        return [event.split() for _, event in self.events if event.split()[0] == kind]

    @property
    def is_saving(self) -> bool:
        """Whether, by the last that was heard, it is in the middle of a save."""
        kinds = [event.split()[0] for _, event in self.events]
        return [kind for kind in kinds if kind in ("saving", "saved")][-1:] == ["saving"]


def _run(job: Job, pipe: int, log: Path) -> None:
    os.setpgid(0, 0)
    with log.open("ab") as file:
        for standard in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), standard.fileno())

    def tell(event: str) -> None:
        os.write(pipe, f"{event}\n".encode())

    job(tell)
