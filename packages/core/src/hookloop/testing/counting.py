"""Counts Python calls, which are the same in every run: what a step costs, without a clock."""

import gc
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any

SETTLED = 10
"""Steps after which what happens once in a run (compiling hooks, making the optimizer's state) is over."""


def calls_between(boundary: Callable[..., Any], run: Callable[[], object]) -> list[int]:
    """Python calls from each call of `boundary` to the next one, both of them the first and the last left out.

    Args:
        boundary: a function, or the method of a class, that is called once in each step.
        run: takes the steps.

    Returns:
        A number for each pair of neighbouring calls of `boundary`: whatever happens between, in this thread.
    """
    code: CodeType = boundary.__code__
    total = 0
    totals_at_boundary: list[int] = []

    def listen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal total
        if event == "call":
            total += 1
            if frame.f_code is code:
                totals_at_boundary.append(total)

    before = sys.getprofile()
    with _no_collection():
        sys.setprofile(listen)
        try:
            run()
        finally:
            sys.setprofile(before)
    return [after - before for before, after in pairwise(totals_at_boundary)]


def calls_of(function: Callable[..., Any], run: Callable[[], object]) -> int:
    """How often `run` calls a Python function, or the method of a class, in this thread."""
    code: CodeType = function.__code__
    calls = 0

    def listen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call" and frame.f_code is code

    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        run()
    finally:
        sys.setprofile(before)
    return calls


def calls_per_step(boundary: Callable[..., Any], run: Callable[[], object]) -> int:
    """Python calls of an ordinary step: what most of the steps after the first ones make.

    Raises:
        AssertionError: fewer than half of the steps make exactly as many calls, so no number speaks for them.
    """
    steps = calls_between(boundary, run)[SETTLED:]
    ordinary = statistics.mode(steps)
    assert steps.count(ordinary) > len(steps) / 2, steps
    return ordinary


@contextmanager
def _no_collection() -> Iterator[None]:
    # A collection calls finalizers, and whoever listens in gc.callbacks, in the middle of some step or other.
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
