"""Timing by wrapping: what is not timed pays nothing."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from hookloop.profilers.profiler import Profiler

P = ParamSpec("P")
R = TypeVar("R")


def listens(profiler: Profiler | None) -> bool:
    """Whether the profiler overrides `start` or `stop`, on its class or on the instance. False for None."""
    return profiler is not None and (
        getattr(profiler.start, "__func__", None) is not Profiler.start
        or getattr(profiler.stop, "__func__", None) is not Profiler.stop
    )


def timed(call: Callable[P, R], name: str, profiler: Profiler | None) -> Callable[P, R]:
    """Wraps a call in an action of the profiler.

    Args:
        call: what is to be timed.
        name: of the action, as "[Callback]EarlyStopping.on_validation_end".
        profiler: who measures.

    Returns:
        `call` itself if nobody listens (`profiler` is None, or overrides neither `start` nor `stop`). Otherwise a
        function with the same arguments and result; the action stops when the call raises, too.
    """
    if profiler is None or not listens(profiler):
        return call
    start, stop = profiler.start, profiler.stop

    @wraps(call)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        start(name)
        try:
            return call(*args, **kwargs)
        finally:
            stop(name)

    return run
