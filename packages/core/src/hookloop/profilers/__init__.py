"""Where the time of a run goes.

`Profiler` is what the trainer asks of a profiler; `PassThroughProfiler` measures nothing and costs nothing;
`SimpleProfiler` sums up seconds per action. `timed` puts a profiler around a call. Names are imported when they are
first used, so that importing this package loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookloop.profilers.passthrough import PassThroughProfiler
    from hookloop.profilers.profiler import Profiler
    from hookloop.profilers.simple import ActionTime, SimpleProfiler
    from hookloop.profilers.timing import timed

__all__ = ["ActionTime", "PassThroughProfiler", "Profiler", "SimpleProfiler", "timed"]

_HOMES = {
    "ActionTime": "hookloop.profilers.simple",
    "PassThroughProfiler": "hookloop.profilers.passthrough",
    "Profiler": "hookloop.profilers.profiler",
    "SimpleProfiler": "hookloop.profilers.simple",
    "timed": "hookloop.profilers.timing",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
