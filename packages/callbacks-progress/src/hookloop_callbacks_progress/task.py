"""`Task`: how far one loop over batches has come, and how fast it goes."""

import math
import time
from collections.abc import Callable


class Task:
    """One loop over batches, as a display shows it.

    Attributes:
        name: what is shown in front, for example "Epoch 3/9".
        total: batches of the whole loop, `math.inf` if unknown.
        done: batches that are done; set it as they come.

    Args:
        name: see above.
        total: see above.
        done: batches that an earlier process did: they are shown, and do not count for the rate.
        clock: gives the time in seconds.
    """

    __slots__ = ("_before", "_clock", "_running_since", "_seconds", "done", "name", "total")

    def __init__(
        self, name: str, total: float = math.inf, done: int = 0, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.name = name
        self.total = total
        self.done = done
        self._before = done
        self._clock = clock
        self._seconds = 0.0
        self._running_since: float | None = clock()

    def pause(self) -> None:
        """Stop the clock: what comes next is another loop's time."""
        if self._running_since is not None:
            self._seconds += self._clock() - self._running_since
            self._running_since = None

    def resume(self) -> None:
        """Let the clock run again."""
        if self._running_since is None:
            self._running_since = self._clock()

    @property
    def rate(self) -> float | None:
        """Batches per second of this process, pauses left out; None before its first batch."""
        batches = self.done - self._before
        running = 0.0 if self._running_since is None else self._clock() - self._running_since
        seconds = self._seconds + running
        return batches / seconds if batches > 0 and seconds > 0 else None
