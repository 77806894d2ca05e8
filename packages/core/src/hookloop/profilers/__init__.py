"""Where the time of a run goes.

`Profiler` is what the trainer asks of a profiler; `PassThroughProfiler` measures nothing and costs nothing;
`SimpleProfiler` sums up seconds per action, `AdvancedProfiler` what cProfile sees of each action, and `PyTorchProfiler`
records torch's operators. `timed` puts a profiler around a call. Names are imported when they are first used, so that
importing this package loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookloop.profilers.advanced import AdvancedProfiler
    from hookloop.profilers.base import PassThroughProfiler
    from hookloop.profilers.profiler import Profiler
    from hookloop.profilers.pytorch import PyTorchProfiler
    from hookloop.profilers.simple import ActionTime, SimpleProfiler
    from hookloop.profilers.timing import timed

__all__ = [
    "ActionTime",
    "AdvancedProfiler",
    "PassThroughProfiler",
    "Profiler",
    "PyTorchProfiler",
    "SimpleProfiler",
    "timed",
]

_HOMES = {
    "ActionTime": "hookloop.profilers.simple",
    "AdvancedProfiler": "hookloop.profilers.advanced",
    "PassThroughProfiler": "hookloop.profilers.base",
    "Profiler": "hookloop.profilers.profiler",
    "PyTorchProfiler": "hookloop.profilers.pytorch",
    "SimpleProfiler": "hookloop.profilers.simple",
    "timed": "hookloop.profilers.timing",
}


def __getattr__(name: str) -> object:
    if f"{__name__}.{name}" in _HOMES.values():
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        from hookloop.absent import absent  # for a name that is not here

        raise absent(__name__, name, f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
