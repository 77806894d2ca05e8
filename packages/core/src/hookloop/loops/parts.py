"""The parts of the loops that a listening profiler times; for a run without one, nothing here wraps anything."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, TypeVar

from hookloop.profilers import Profiler, timed
from hookloop.run import Run

F = TypeVar("F", bound=Callable[..., Any])


def part(run: Run, call: F, name: str) -> F:
    """The call as a part of the run, called `name`; the very same object if no profiler listens.

    Wrapping is decided here, once in a run or an epoch, so that a step which is not profiled makes no call more.
    """
    return call if run.profiler is None else timed(call, name, run.profiler)  # type: ignore[return-value]


def strategy_part(run: Run, call: F, name: str) -> F:
    """The same for what the strategy runs: `[Strategy]SingleDeviceStrategy.training_step`."""
    return part(run, call, f"[Strategy]{type(run.strategy).__name__}.{name}")


def batches_of(run: Run, name: str, loader: Any, batches: float, skip: int = 0) -> Iterator[tuple[int, Any, bool]]:
    """What `Loaders.iterate` gives. A profiler is told of every batch that is waited for, under this name.

    What a loader does before its first batch, such as starting workers, counts for `<name>` with "_next" replaced by
    "_iter".
    """
    iterator = part(run, run.loaders.iterate, name.removesuffix("_next") + "_iter")(loader, batches, skip=skip)
    return iterator if run.profiler is None else _timed_batches(iterator, name, run.profiler)


def _timed_batches(
    iterator: Iterator[tuple[int, Any, bool]], name: str, profiler: Profiler
) -> Iterator[tuple[int, Any, bool]]:
    fetch = timed(partial(next, iterator, None), name, profiler)
    while (item := fetch()) is not None:
        is_last = item[2]
        yield item
        del item  # not kept while the next one is read
        if is_last:
            return  # not asked in vain: every call that is counted is a batch


@contextmanager
def timed_optimizers(run: Run) -> Iterator[None]:
    """The optimizers' own `step` and `zero_grad` are parts, whoever calls them: a loop, a gradient scaler, a module.

    They are wrapped on the instances, as torch's schedulers do it, and given back at the end.
    """
    if run.profiler is None:
        yield
        return
    with ExitStack() as given_back:
        for optimizer in run.optimization.optimizers:
            for method, name in (("step", "optimizer_step"), ("zero_grad", "optimizer_zero_grad")):
                given_back.callback(_put_back, optimizer, method, vars(optimizer).get(method))
                setattr(optimizer, method, part(run, getattr(optimizer, method), name))
        yield


def _put_back(optimizer: Any, method: str, own: Any) -> None:
    if own is None:
        vars(optimizer).pop(method, None)
    else:
        setattr(optimizer, method, own)
