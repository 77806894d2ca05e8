"""`Terminal`: tqdm's bars, one below the other."""

import math
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TextIO

from tqdm import tqdm

from hookloop_callbacks_progress.display import Display, Metrics
from hookloop_callbacks_progress.task import Task
from hookloop_callbacks_progress.text import format_metrics

if TYPE_CHECKING:
    _Tqdm = tqdm[NoReturn]
else:
    _Tqdm = tqdm

SECONDS_BETWEEN_DRAWINGS = 0.1

# Drawings that were called for too early are made up for, so that on average there are never more than ten a second.
_MOST_AHEAD = 0.5

# A terminal shows a Ctrl-C as ^C where the cursor is. In the last column it would begin a new line.
_COLUMNS_LEFT_FREE = 2


def is_terminal(stream: TextIO) -> bool:
    """Whether bars can be drawn on the stream: a terminal that understands control codes."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class _Bar(_Tqdm):
    """A bar for a task. tqdm draws; when to, and at which rate the batches go by, is not left to it."""

    # Without this, tqdm starts a thread that looks after bars which are updated too rarely.
    monitor_interval = 0

    def __init__(self, task: Task, stream: TextIO, position: int) -> None:
        self._task = task
        self._postfix = ""
        super().__init__(
            desc=task.name,
            total=None if task.total == math.inf else int(task.total),
            initial=task.done,
            file=stream,
            position=position,
            leave=False,
            dynamic_ncols=True,
            delay=1,
        )
        # With a delay it did not draw yet: what is drawn must be known to the display, which cleans up after a Ctrl-C.
        self.delay = 0

    def show(self, postfix: str) -> None:
        self._postfix = postfix
        self.n = self._task.done
        # tqdm's refresh() would keep the lock if a Ctrl-C came while it draws.
        with self.get_lock():  # type: ignore[no-untyped-call]
            self.display()

    @property
    def format_dict(self) -> dict[str, Any]:
        values = {**super().format_dict, "rate": self._task.rate, "postfix": self._postfix}
        if values["ncols"]:
            values["ncols"] -= _COLUMNS_LEFT_FREE
        return values


class Terminal(Display):
    """Draws on a terminal.

    Args:
        stream: the terminal.
        position: lines to leave free above the first bar.
        clock: gives the time in seconds.
    """

    live: ClassVar[bool] = True

    def __init__(self, stream: TextIO, position: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream, clock)
        self._position = position
        self._bars: dict[Task, _Bar] = {}

    def draw(self, task: Task, metrics: Metrics) -> None:
        """Draw the task's bar, below those that are there already if it has none yet."""
        if task not in self._bars:
            self._bars[task] = _Bar(task, self._stream, self._position + len(self._bars))
        self._bars[task].show(format_metrics(metrics))
        now = self._clock()
        self._due_at = min(max(self._due_at, now) + SECONDS_BETWEEN_DRAWINGS, now + _MOST_AHEAD)

    def close(self, task: Task, keep: bool) -> None:
        """Take the task's bar away, or leave it where it is, as it is now, and go to the next line."""
        bar = self._bars.pop(task, None)
        if bar is not None:
            bar.leave = keep
            bar.n = task.done
            bar.close()

    def write(self, text: str, file: TextIO | None, flush: bool) -> None:
        """Write above the bars."""
        stream = file or self._stream
        tqdm.write(text, file=stream, end="")
        if flush:
            stream.flush()
