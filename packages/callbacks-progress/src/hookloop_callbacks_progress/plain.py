"""`PlainLines`: one line now and then, for files, pipes and whatever else is no terminal."""

import math
import time
from collections.abc import Callable
from typing import ClassVar, TextIO

from hookloop_callbacks_progress.display import Display, Metrics
from hookloop_callbacks_progress.task import Task
from hookloop_callbacks_progress.text import format_metrics, format_rate


class PlainLines(Display):
    """Writes lines, and flushes each of them, so that a log file can be followed. No control codes, ever.

    Args:
        stream: where to write.
        interval: seconds between two lines of a task that goes on.
        clock: gives the time in seconds.
    """

    live: ClassVar[bool] = False

    def __init__(self, stream: TextIO, interval: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._interval = interval
        self._due_at += interval

    def draw(self, task: Task, metrics: Metrics) -> None:
        """Write the task's line: its name, step of total, rate and metrics."""
        total = "" if task.total == math.inf else f"/{task.total:.0f}"
        parts = [task.name, f"step {task.done}{total}"]
        if task.rate is not None:
            parts.append(format_rate(task.rate))
        if metrics:
            parts.append(format_metrics(metrics))
        self.write(" | ".join(parts) + "\n", None, flush=True)
        self._due_at = self._clock() + self._interval

    def close(self, task: Task, keep: bool) -> None:
        """Nothing: lines stay."""

    def write(self, text: str, file: TextIO | None, flush: bool) -> None:
        """Write the text as it is."""
        print(text, end="", file=file or self._stream, flush=flush)
