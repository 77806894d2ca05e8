"""`Display`: what a progress bar draws on."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, TextIO, TypeAlias

from hookloop_callbacks_progress.task import Task

Metrics: TypeAlias = Mapping[str, int | float | str]
"""What `ProgressBar.get_metrics` returns."""


class Display(ABC):
    """Shows tasks, and says when it is time to do so again.

    Attributes:
        live: whether a drawing replaces the one before; if not, each one stays as a line.

    Args:
        stream: where to draw.
        clock: gives the time in seconds.
    """

    live: ClassVar[bool]

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._due_at = clock()

    def due(self, ahead: float = 0.0) -> bool:
        """Whether to draw now, or within the next `ahead` seconds."""
        return self._clock() + ahead >= self._due_at

    @abstractmethod
    def draw(self, task: Task, metrics: Metrics) -> None:
        """Show a task as it is now, with these metrics."""

    @abstractmethod
    def close(self, task: Task, keep: bool) -> None:
        """Show a task no more; its last drawing stays if `keep`. Nothing happens if it was never drawn."""

    @abstractmethod
    def write(self, text: str, file: TextIO | None, flush: bool) -> None:
        """Write text to `file`, by default the display's own stream, without damaging what is drawn."""
