"""What cProfile sees of each action."""

import cProfile
import os
import pstats
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from io import StringIO
from pathlib import Path
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, TypeAlias

from hookloop.errors import MisconfigurationError
from hookloop.profilers.profiler import Profiler, make_folder_of

_Key: TypeAlias = tuple[str, int, str]
_Rows: TypeAlias = dict[_Key, tuple[Any, ...]]

_REPLACES = sys.version_info < (3, 12)
"""Whether one profile may be enabled over another one, which goes on where it was when it is enabled again. From
Python 3.12 on it has to be disabled before, which closes the functions that it is inside of."""

_RESUMABLE = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
_OWN_FOLDER = str(Path(__file__).parent)


def _switch(enters: bool) -> Any:
    """`start` and `stop`: two functions of one code.

    The profile of an outer action sees `start` being called and, when it goes on, `stop` returning. As both are the
    same code to it, that is one ordinary call which took as long as the inner action, and the functions around it get
    their right times. So the last thing that happens inside has to be the switch of profiles, and it must not be seen:
    calls of a `partial` are not.
    """

    def switch(self: "AdvancedProfiler", action_name: str) -> None:
        self._exchange(action_name, enters)()

    switch.__name__ = "start" if enters else "stop"
    switch.__doc__ = (
        "An action starts on this thread." if enters else "The action of this name that started last stops."
    )
    return switch


def _cross(enters: bool) -> Any:
    """`__enter__` and `__exit__`, for the same reason."""

    def cross(self: "_Action", *raised: object) -> None:
        self.switches[enters](self.name)

    cross.__name__ = "__enter__" if enters else "__exit__"
    return cross


class AdvancedProfiler(Profiler):
    """Runs each action under cProfile.

    An action's statistics are of everything that ran between its start and its stop on its thread, other actions inside
    it included. Functions around a nested action have the time that they took, nested actions included, if that starts
    and stops in the same function, as a `with` does. Measurements go on over several runs.

    Python lets one profile run at a time in a thread, and from 3.12 on in a process. hookloop is tested with 3.11,
    where several threads can be profiled at once. In later versions, actions on other threads than the first one to
    start are left out, and functions that a nested action interrupts lose the time after it.

    Args:
        dirpath: see `Profiler`.
        filename: see `Profiler`.
        line_count_restriction: how many functions of each action the summary lists: a whole number, or a fraction of
            them between 0.0 and 1.0.
        dump_stats: `describe` also writes a file for each action, `<stage>-<filename>-<action>.prof`,
            which `pstats.Stats` and viewers such as snakeviz read; into dirpath, or the run's log_dir.

    Raises:
        MisconfigurationError: line_count_restriction or dump_stats is out of range.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike[str] | None = None,
        filename: str | None = None,
        line_count_restriction: int | float = 1.0,
        dump_stats: bool = False,
    ) -> None:
        super().__init__(dirpath, filename)
        limit = line_count_restriction
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not _is_a_count(limit):
            raise MisconfigurationError(
                f"AdvancedProfiler(line_count_restriction={limit!r}): it must be a whole number of functions, or a "
                "fraction between 0.0 and 1.0."
            )
        if not isinstance(dump_stats, bool):
            raise MisconfigurationError(f"AdvancedProfiler(dump_stats={dump_stats!r}): it must be True or False.")
        self.line_count_restriction = limit
        self.dump_stats = dump_stats
        self._threads: dict[int, _Thread] = {}
        self._names: dict[str, None] = {}  # in the order of their first start
        self._left_out: set[str] = set()

    start = _switch(True)
    stop = _switch(False)

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """The body of the `with` is the action. It stops when the body raises, too."""
        return _Action(action_name, (self.stop, self.start))

    def _exchange(self, action_name: str, enters: bool) -> Callable[[], object]:
        """Note the start or the stop; returns what switches to the profile that sees what comes next."""
        thread = self._threads.get(get_ident())
        if thread is None:
            thread = self._threads[get_ident()] = _Thread()
        caller = _caller()
        if enters:
            self._names.setdefault(action_name)
            return self._enter(thread, action_name, caller)
        return self._leave(thread, action_name, caller)

    def _enter(self, thread: "_Thread", name: str, caller: FrameType) -> Callable[[], object]:
        levels = thread.levels
        if not levels:
            thread.before = sys.getprofile()
        outer = levels[-1] if levels else None
        key = (name,) if outer is None else outer.key if name in outer.key else (*outer.key, name)
        node = thread.node(key)
        levels.append(_Level(name, key, caller))
        if outer is None:
            return self._enabling(node.profile, name)
        if key == outer.key:
            return _nothing  # an action inside itself: the same profile goes on
        node.around |= _codes_between(caller, outer.caller)
        if not _REPLACES:
            thread.nodes[outer.key].profile.disable()
        return self._enabling(node.profile, name)

    def _leave(self, thread: "_Thread", name: str, caller: FrameType) -> Callable[[], object]:
        levels = thread.levels
        index = next((index for index in reversed(range(len(levels))) if levels[index].name == name), None)
        if index is None:
            raise MisconfigurationError(
                f"AdvancedProfiler.stop({name!r}): no action of that name is running on this thread. "
                f"Call start({name!r}) before it, or use `with profiler.profile({name!r}):`, which does both."
            )
        running, stopped = thread.nodes[levels[-1].key], levels[index]
        in_order = index == len(levels) - 1 and stopped.caller is caller and not caller.f_code.co_flags & _RESUMABLE
        del levels[index]
        if not in_order:
            # The functions that the profiles around it are inside of are no longer those that Python is inside of.
            for level in (*levels, stopped):
                thread.nodes[level.key].profile.disable()
            for level, outer in zip(levels[index:], [None, *levels][index:], strict=False):
                key = outer.key if outer else ()
                level.key = key if level.name in key else (*key, level.name)
        if not levels:
            running.profile.disable()
            before, thread.before = thread.before, None
            return partial(before.enable) if isinstance(before, cProfile.Profile) else partial(sys.setprofile, before)
        following = thread.node(levels[-1].key)
        if following is running and in_order:
            return _nothing
        running.profile.disable()
        return self._enabling(following.profile, levels[-1].name)

    def _enabling(self, profile: cProfile.Profile, name: str) -> Callable[[], object]:
        if _REPLACES:
            return partial(profile.enable)

        def enable_if_free() -> None:
            try:
                profile.enable()
            except ValueError:  # another thread is being profiled, or the whole program
                self._left_out.add(name)

        return enable_if_free

    def stats(self, action_name: str) -> pstats.Stats:
        """The statistics of an action so far, all threads together.

        Raises:
            MisconfigurationError: there is no such action; the message lists those there are.
        """
        if action_name not in self._names:
            raise MisconfigurationError(
                f"AdvancedProfiler.stats({action_name!r}): no such action was measured. There are "
                f"{', '.join(self._names) or 'none'}."
            )
        return _as_stats(self._rows(action_name))

    def _rows(self, action_name: str) -> _Rows:
        """Rows of all profiles that ran inside the action, added up."""
        joined: _Rows = {}
        for thread in list(self._threads.values()):
            for key, node in list(thread.nodes.items()):
                if action_name not in key:
                    continue
                # Functions that called into this profile from inside the action have its time already.
                first = key.index(action_name) + 2
                outer = [
                    thread.nodes[key[:end]].around for end in range(first, len(key) + 1) if key[:end] in thread.nodes
                ]
                counted = set().union(*outer) if _REPLACES else set()
                _add(joined, node.rows(), counted)
        return joined

    def running(self) -> list[str]:
        """Names of the actions that have started and not stopped, on any thread, sorted."""
        return sorted({level.name for thread in list(self._threads.values()) for level in thread.levels})

    def summary(self) -> str:
        """A table of functions for each action, by cumulative time; empty if nothing was measured."""
        if not self._names:
            return ""
        parts = ["AdvancedProfiler: each action's functions, by the time between their call and their return"]
        for name in self._names:
            text = StringIO()
            stats = _as_stats(self._rows(name), text)
            stats.sort_stats("cumulative").print_stats(self.line_count_restriction)
            parts.append(f"Action: {name}\n{text.getvalue().rstrip()}")
        if running := self.running():
            parts.append(f"Still running, calls that have not returned are not counted: {', '.join(running)}")
        if self._left_out:
            parts.append(
                "Not measured, or not all of it, because another thread or program was being profiled: "
                f"{', '.join(sorted(self._left_out))}"
            )
        return "\n\n".join(parts)

    def describe(self) -> None:
        """Write or print the summary, and with dump_stats a file for each action."""
        super().describe()
        if not self.dump_stats:
            return
        for name in self._names:
            path = self._file(".prof", name)
            make_folder_of(path)
            _as_stats(self._rows(name)).dump_stats(path)

    def __getstate__(self) -> dict[str, Any]:
        # Profiles cannot be copied; a copy has the settings and begins anew.
        return {**self.__dict__, "_threads": {}, "_names": {}, "_left_out": set()}


@dataclass(slots=True)
class _Node:
    """The profile of the time in which exactly these actions were open.

    Attributes:
        profile: Python's.
        around: codes of the functions between the start of the action before the last one, and that of the last one.
    """

    profile: cProfile.Profile = field(default_factory=cProfile.Profile)
    around: set[CodeType] = field(default_factory=set)

    def rows(self) -> _Rows:
        self.profile.snapshot_stats()  # unlike create_stats, it lets a running profile run
        rows: _Rows = self.profile.stats
        return rows


@dataclass(slots=True)
class _Level:
    """An open action: its name, the key of its node, and the frame that started it."""

    name: str
    key: tuple[str, ...]
    caller: FrameType


@dataclass(slots=True)
class _Thread:
    """What runs and ran on one thread. Nodes are by the names of the open actions, outermost first, each once.

    Attributes:
        levels: the open actions, outermost first.
        nodes: the profiles.
        before: who profiled the thread before the first action, and does again after it.
    """

    levels: list[_Level] = field(default_factory=list)
    nodes: dict[tuple[str, ...], _Node] = field(default_factory=dict)
    before: Any = None

    def node(self, key: tuple[str, ...]) -> _Node:
        if key not in self.nodes:
            self.nodes[key] = _Node()
        return self.nodes[key]


class _Action:
    """What `AdvancedProfiler.profile` returns."""

    def __init__(self, name: str, switches: tuple[Callable[[str], None], Callable[[str], None]]) -> None:
        self.name = name
        self.switches = switches

    __enter__ = _cross(True)
    __exit__ = _cross(False)


class _Snapshot:
    """Rows in the form in which pstats takes them."""

    def __init__(self, rows: _Rows) -> None:
        self.stats = rows

    def create_stats(self) -> None:
        """Nothing is left to do."""


def _as_stats(rows: _Rows, stream: StringIO | None = None) -> pstats.Stats:
    # A profile without a call is refused by pstats, and an action in which nothing was called is none the worse.
    rows = rows or {("~", 0, "<nothing was called>"): (0, 0, 0.0, 0.0, {})}
    snapshot: Any = _Snapshot(rows)
    return pstats.Stats(snapshot, stream=stream)


def _add(joined: _Rows, rows: _Rows, counted: set[CodeType]) -> None:
    """Add rows; of the functions whose time is `counted` already, only what they took themselves."""
    known = {(code.co_filename, code.co_firstlineno, code.co_name) for code in counted}
    for key, (primitive, calls, own, cumulative, callers) in rows.items():
        if _is_ours(key):
            continue
        for caller in [caller for caller in callers if _is_ours(caller)]:
            # What the profiler itself called on its way.
            taken = callers[caller]
            primitive, calls, own = primitive - taken[1], calls - taken[0], own - taken[2]
            cumulative -= taken[3]
        if not calls:
            continue
        callers = {caller: times for caller, times in callers.items() if not _is_ours(caller)}
        if key in known:
            primitive, cumulative = 0, 0.0
        old = joined.get(key, (0, 0, 0.0, 0.0, {}))
        joined[key] = (
            old[0] + primitive,
            old[1] + calls,
            old[2] + own,
            old[3] + cumulative,
            pstats.add_callers(old[4], callers),  # type: ignore[attr-defined]
        )


def _is_ours(key: _Key) -> bool:
    return key[0].rpartition(os.sep)[0] == _OWN_FOLDER or "_lsprof.Profiler" in key[2]


def _caller() -> FrameType:
    """The frame that started or stopped the action: the nearest one that is not in this file."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__ and frame.f_back is not None:
        frame = frame.f_back
    return frame


def _codes_between(inner: FrameType, outer: FrameType) -> set[CodeType]:
    codes: set[CodeType] = set()
    frame: FrameType | None = inner
    while frame is not None and frame is not outer:
        codes.add(frame.f_code)
        frame = frame.f_back
    return codes


def _is_a_count(limit: int | float) -> bool:
    return limit >= 1 if isinstance(limit, int) else 0.0 <= limit <= 1.0


def _nothing() -> None:
    """The profile that runs is the right one."""
