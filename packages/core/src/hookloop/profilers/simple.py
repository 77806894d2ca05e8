"""Seconds per action."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import get_ident

from hookloop.errors import MisconfigurationError
from hookloop.profilers.profiler import Profiler

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ActionTime:
    """What was measured of one action; times in seconds.

    Attributes:
        name: of the action.
        calls: how often it ran to its end.
        outermost: how many of these did not run inside another one of the same name.
        total: time from start to stop, summed over the outermost calls. So time inside a nested call of the same name
            counts once; time inside other actions counts for them, too.
        mean: total / outermost.
        percent: total as a share of the profiled time, 0 to 100, or more where threads ran beside each other.
    """

    name: str
    calls: int
    outermost: int
    total: float
    mean: float
    percent: float


class SimpleProfiler(Profiler):
    """Sums up how long actions take.

    Memory grows with the number of different names, not with the number of calls. Several threads may start and stop
    actions at once; an action stops on the thread on which it started. Measurements go on over several runs.

    Args:
        dirpath: see `Profiler`.
        filename: see `Profiler`.
        extended: False leaves the number of calls and the percentage out of the summary.
        clock: the time in nanoseconds; `time.process_time_ns` measures the CPU's time instead of the wall clock's.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        extended: bool = True,
        *,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self._clock = clock
        self._records: dict[tuple[int, str], _Record] = {}
        self._began: int | None = None
        self._ended = 0

    def start(self, name: str) -> None:
        """Starts an action on this thread."""
        key = (get_ident(), name)
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = _Record()
        record.depth += 1
        if record.depth == 1:
            record.started = now = self._clock()
            if self._began is None:
                self._began = now

    def stop(self, name: str) -> None:
        """Stops the action of this name that started last on this thread.

        Raises:
            MisconfigurationError: none is running.
        """
        now = self._clock()
        record = self._records.get((get_ident(), name))
        if record is None or record.depth == 0:
            raise MisconfigurationError(
                f"SimpleProfiler.stop({name!r}): no action of that name is running on this thread. "
                f"Call start({name!r}) before it, or use `with profiler.profile({name!r}):`, which does both."
            )
        record.calls += 1
        record.depth -= 1
        if record.depth == 0:
            record.outermost += 1
            record.total += now - record.started
        self._ended = max(self._ended, now)

    @property
    def profiled_seconds(self) -> float:
        """Seconds from the first start to the last stop; 0 before."""
        return 0.0 if self._began is None else max(0, self._ended - self._began) / _SECOND

    def actions(self) -> list[ActionTime]:
        """What was measured so far, all threads together, the longest total first. Running calls are not in it."""
        sums: dict[str, _Record] = {}
        for (_, name), record in list(self._records.items()):
            if record.outermost:
                joined = sums.setdefault(name, _Record())
                joined.calls += record.calls
                joined.outermost += record.outermost
                joined.total += record.total
        span = self.profiled_seconds * _SECOND
        return [
            ActionTime(
                name=name,
                calls=record.calls,
                outermost=record.outermost,
                total=record.total / _SECOND,
                mean=record.total / record.outermost / _SECOND,
                percent=100 * record.total / span if span else 0.0,
            )
            for name, record in sorted(sums.items(), key=lambda entry: (-entry[1].total, entry[0]))
        ]

    def running(self) -> list[str]:
        """Names of the actions that have started and not stopped, on any thread, sorted."""
        return sorted({name for (_, name), record in list(self._records.items()) if record.depth})

    def summary(self) -> str:
        """A table with a line for each action, the longest total first; empty if nothing was measured.

        Numbers of calls stand as "5/2" where 5 calls, some inside others, were 2 outermost ones.
        """
        actions = self.actions()
        running = self.running()
        if not actions and not running:
            return ""
        if self.extended:
            rows = [["Action", "Mean (s)", "Calls", "Total (s)", "%"]]
            rows += [[a.name, f"{a.mean:.5g}", _calls(a), f"{a.total:.5g}", f"{a.percent:.1f}"] for a in actions]
        else:
            rows = [["Action", "Mean (s)", "Total (s)"]]
            rows += [[a.name, f"{a.mean:.5g}", f"{a.total:.5g}"] for a in actions]
        title = f"SimpleProfiler: {self.profiled_seconds:.5g} s; an action's time includes the actions inside it"
        lines = [title, *_table(rows)]
        if running:
            lines.append(f"Not in the table, still running: {', '.join(running)}")
        return "\n".join(lines)


class _Record:
    """One action on one thread; times in nanoseconds. Only that thread writes to it."""

    __slots__ = ("calls", "depth", "outermost", "started", "total")

    def __init__(self) -> None:
        self.calls = 0
        self.outermost = 0
        self.total = 0
        self.depth = 0
        self.started = 0


def _calls(action: ActionTime) -> str:
    return str(action.calls) if action.calls == action.outermost else f"{action.calls}/{action.outermost}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned lines, the first column to the left, the others to the right, with a rule under the first row."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        " | ".join(
            cell.rjust(width) if index else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return [lines[0], "-+-".join("-" * width for width in widths), *lines[1:]]
