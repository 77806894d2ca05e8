"""Seconds per action."""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from threading import get_ident

from hookloop.errors import MisconfigurationError
from hookloop.profilers.profiler import Profiler

_SECOND = 1_000_000_000

_OF_A_HOOK = re.compile(r"\[(Callback|LightningModule|LightningDataModule)\](.*)\.(\w+)", re.DOTALL)
"""The names that hooks have: who, and which hook. Everything else is a part."""


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
        own: the time in which no action inside it was running. On one thread, these of all actions add up to the time
            in which any action was running.
    """

    name: str
    calls: int
    outermost: int
    total: float
    mean: float
    percent: float
    own: float


class SimpleProfiler(Profiler):
    """Sums up how long actions take, and tells by part of the loops, by hook, and by callback where the time went.

    Memory grows with the number of different names, not with the number of calls. Several threads may start and stop
    actions at once; an action stops on the thread on which it started. Measurements go on over several runs.

    Args:
        dirpath: see `Profiler`.
        filename: see `Profiler`.
        extended: False leaves the number of calls and the percentages out of the summary.
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
        self._threads: dict[int, _Thread] = {}
        self._began: int | None = None
        self._ended = 0

    def start(self, action_name: str) -> None:
        """Starts an action on this thread."""
        thread = self._threads.get(get_ident())
        if thread is None:
            thread = self._threads[get_ident()] = _Thread()
        record, hook, owner = thread.records_of(action_name)
        open_actions = thread.open
        if open_actions and open_actions[-1] is record:
            now = thread.marked  # inside itself: nothing that is measured begins, so the clock is not read
        else:
            now = self._clock()
            if open_actions:
                open_actions[-1].own += now - thread.marked
            elif self._began is None:
                self._began = now
            thread.marked = now
        record.enter(now)
        if hook is not None and owner is not None:
            hook.enter(now)
            owner.enter(now)
        open_actions.append(record)

    def stop(self, action_name: str) -> None:
        """Stops the action of this name that started last on this thread.

        Raises:
            MisconfigurationError: none is running.
        """
        now = self._clock()
        thread = self._threads.get(get_ident())
        if thread is None or action_name not in thread.records or thread.records[action_name][0].depth == 0:
            raise MisconfigurationError(
                f"SimpleProfiler.stop({action_name!r}): no action of that name is running on this thread. Call "
                f"start({action_name!r}) before it, or use `with profiler.profile({action_name!r}):`, which does both."
            )
        record, hook, owner = thread.records[action_name]
        open_actions = thread.open
        open_actions[-1].own += now - thread.marked
        thread.marked = now
        if open_actions[-1] is record:
            open_actions.pop()
        else:  # actions need not be nested in each other
            del open_actions[max(index for index, other in enumerate(open_actions) if other is record)]
        record.leave(now)
        if hook is not None and owner is not None:
            hook.leave(now)
            owner.leave(now)
        self._ended = max(self._ended, now)

    @property
    def profiled_seconds(self) -> float:
        """Seconds from the first start to the last stop; 0 before."""
        return 0.0 if self._began is None else max(0, self._ended - self._began) / _SECOND

    def actions(self) -> list[ActionTime]:
        """What was measured so far, all threads together, the longest total first. Running calls are not in it."""
        return self._summed(
            (name, record)
            for thread in list(self._threads.values())
            for name, (record, *_) in list(thread.records.items())
        )

    def parts(self) -> list[ActionTime]:
        """The actions that are no hook: parts of the loops, and what users named themselves."""
        return [action for action in self.actions() if _OF_A_HOOK.fullmatch(action.name) is None]

    def hooks(self) -> list[ActionTime]:
        """By hook: what a hook took of everybody who has it, callbacks, module and datamodule."""
        return self._groups("hook")

    def callbacks(self) -> list[ActionTime]:
        """By callback: what all hooks of one took. The module and the datamodule are among them."""
        return self._groups("owner")

    def _groups(self, kind: str) -> list[ActionTime]:
        sums = self._summed(
            (name, record)
            for thread in list(self._threads.values())
            for (of, name), record in list(thread.groups.items())
            if of == kind
        )
        own: dict[str, float] = {}
        for action in self.actions():
            if match := _OF_A_HOOK.fullmatch(action.name):
                group = match[3] if kind == "hook" else f"[{match[1]}]{match[2]}"
                own[group] = own.get(group, 0.0) + action.own
        return [
            ActionTime(each.name, each.calls, each.outermost, each.total, each.mean, each.percent, own[each.name])
            for each in sums
        ]

    def _summed(self, records: "Iterable[tuple[str, _Record]]") -> list[ActionTime]:
        sums: dict[str, _Record] = {}
        for name, record in records:
            if record.outermost:
                joined = sums.setdefault(name, _Record())
                joined.calls += record.calls
                joined.outermost += record.outermost
                joined.total += record.total
                joined.own += record.own
        span = self.profiled_seconds * _SECOND
        return [
            ActionTime(
                name=name,
                calls=record.calls,
                outermost=record.outermost,
                total=record.total / _SECOND,
                mean=record.total / record.outermost / _SECOND,
                percent=100 * record.total / span if span else 0.0,
                own=record.own / _SECOND,
            )
            for name, record in sorted(sums.items(), key=lambda entry: (-entry[1].total, entry[0]))
        ]

    def running(self) -> list[str]:
        """Names of the actions that have started and not stopped, on any thread, sorted."""
        return sorted(
            {
                name
                for thread in list(self._threads.values())
                for name, (record, *_) in list(thread.records.items())
                if record.depth
            }
        )

    def summary(self) -> str:
        """Tables with the longest total first; empty if nothing was measured.

        One of the parts, and where there were hooks, one by hook, one by callback, and one of every hook of every
        callback. Numbers of calls stand as "5/2" where 5 calls, some inside others, were 2 outermost ones.
        """
        actions = self.actions()
        running = self.running()
        if not actions and not running:
            return ""
        parts = self.parts()
        tables = [
            ("Part", parts),
            ("Hook", self.hooks()),
            ("Callback", self.callbacks()),
            ("Hook of a callback", [action for action in actions if action not in parts]),
        ]
        # All tables get the columns of the widest, so that they can be read as one.
        every = [(title, each) for title, each in tables if each] or tables[:1]
        lines = _tables(every, self.extended)
        title = f"SimpleProfiler: {self.profiled_seconds:.5g} s; the total of an action includes the actions inside it"
        lines = [f"{title}, self does not" if self.extended else title, *lines]
        if running:
            lines.append(f"Not in the table, still running: {', '.join(running)}")
        return "\n".join(lines)


@dataclass(slots=True)
class _Record:
    """One action, or a group of them, on one thread; times in nanoseconds. Only that thread writes to it."""

    calls: int = 0
    outermost: int = 0
    total: int = 0
    own: int = 0
    depth: int = 0
    started: int = 0

    def enter(self, now: int) -> None:
        self.depth += 1
        if self.depth == 1:
            self.started = now

    def leave(self, now: int) -> None:
        self.calls += 1
        self.depth -= 1
        if self.depth == 0:
            self.outermost += 1
            self.total += now - self.started


@dataclass(slots=True)
class _Thread:
    """What runs and ran on one thread.

    Attributes:
        records: by name of the action: its own, that of its hook and that of whose hook it is; None where it is none.
        groups: of hooks ("hook", name) and of callbacks ("owner", name).
        open: of the running actions, the last one started is the last.
        marked: when the last action began to be the last one started.
    """

    records: dict[str, tuple[_Record, _Record | None, _Record | None]] = field(default_factory=dict)
    groups: dict[tuple[str, str], _Record] = field(default_factory=dict)
    open: list[_Record] = field(default_factory=list)
    marked: int = 0

    def records_of(self, name: str) -> tuple[_Record, _Record | None, _Record | None]:
        known = self.records.get(name)
        if known is None:
            match = _OF_A_HOOK.fullmatch(name)
            hook = owner = None
            if match is not None:
                hook = self.groups.setdefault(("hook", match[3]), _Record())
                owner = self.groups.setdefault(("owner", f"[{match[1]}]{match[2]}"), _Record())
            known = self.records[name] = _Record(), hook, owner
        return known


def _calls(action: ActionTime) -> str:
    return str(action.calls) if action.calls == action.outermost else f"{action.calls}/{action.outermost}"


def _tables(tables: Sequence[tuple[str, Sequence[ActionTime]]], extended: bool) -> list[str]:
    """One table under the other, with the same columns."""
    if extended:
        columns = ["Mean (s)", "Calls", "Self (s)", "Total (s)", "%"]
    else:
        columns = ["Mean (s)", "Total (s)"]
    rows: list[list[str]] = []
    headings: list[int] = []
    for title, actions in tables:
        headings.append(len(rows))
        rows.append([title, *columns])
        for a in actions:
            total = [f"{a.mean:.5g}", _calls(a), f"{a.own:.5g}", f"{a.total:.5g}", f"{a.percent:.1f}"]
            rows.append([a.name, *(total if extended else [total[0], total[3]])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "-+-".join("-" * width for width in widths)
    lines: list[str] = []
    for index, row in enumerate(rows):
        if index in headings and index:
            lines.append("")
        cells = [
            cell.rjust(width) if n else cell.ljust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(" | ".join(cells))
        if index in headings:
            lines.append(rule)
    return lines
