"""Measuring: every subject in turn, round after round, each against the plain loop of its own round."""

import gc
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import torch

from .column import COLUMNS, Column
from .probe import STRETCH, CallCounter, Probe, Stopwatch
from .screen import blank_screen
from .subjects.subject import Subject
from .turns import Turns, take_turns
from .work import loader

CALLS_COUNTED_OVER = 100
"""Steps. Divisible by 50, the interval at which loggers get a row, and by the accumulation window."""

Run: TypeAlias = Callable[[Any], None]


@dataclass(frozen=True)
class Cell:
    """One thing that one subject does.

    Attributes:
        title: the column.
        subject: the row.
        run: does it, on a loader.
    """

    title: str
    subject: str
    run: Run


@dataclass
class Measured:
    """What was measured of one cell.

    Attributes:
        microseconds: CPU time of a step, one value for each round.
        stretches: the same, one value for each stretch of all rounds.
        python_calls: of a step.
        c_calls: of a step.
    """

    microseconds: list[float] = field(default_factory=list)
    stretches: list[float] = field(default_factory=list)
    python_calls: float = 0.0
    c_calls: float = 0.0


Results: TypeAlias = dict[str, dict[str, Measured]]
"""By title, then by subject."""


def cells(subjects: Sequence[Subject]) -> list[list[Cell]]:
    """What is measured: a list for each column, with the subjects that have it."""
    training = [[_training(subject, column) for subject in subjects if subject.supports(column)] for column in COLUMNS]
    validation = [Cell("validate", subject.name, subject.validate) for subject in subjects]
    prediction = [Cell("predict", subject.name, subject.predict) for subject in subjects]
    return [*training, validation, prediction]


def _training(subject: Subject, column: Column) -> Cell:
    return Cell(column.title, subject.name, lambda batches: subject.train(column, batches))


def measure(subjects: Sequence[Subject], rounds: int, steps: int, report: Callable[[str], None]) -> Results:
    """Measure every cell.

    Args:
        subjects: the plain loop first.
        rounds: how often each cell is timed.
        steps: how many steps are timed each time.
        report: is told how far it is.
    """
    warnings.simplefilter("ignore")
    columns = cells(subjects)
    results: Results = {column[0].title: {cell.subject: Measured() for cell in column} for column in columns}
    for column in columns:
        for cell in column:
            _count_calls(cell, results[cell.title][cell.subject])
    # What the frameworks brought with them is as good as forgotten: it does not make anybody's collections slower.
    gc.collect()
    gc.freeze()
    for index in range(rounds):
        report(f"round {index + 1} of {rounds}")
        for column in columns:
            _time(column, steps, first=index, into=results[column[0].title])
    return results


def _time(column: Sequence[Cell], steps: int, first: int, into: dict[str, Measured]) -> None:
    """Time all cells of a column side by side: a stretch each, in turn, so that a disturbance meets all of them."""
    turns = Turns(len(column), first)
    watches = [Stopwatch(partial(turns.hand_over, me)) for me in range(len(column))]
    with blank_screen():
        take_turns(turns, [partial(_run, cell, watch, steps) for cell, watch in zip(column, watches, strict=True)])
    for cell, watch in zip(column, watches, strict=True):
        into[cell.subject].microseconds.append(sum(watch.laps) / steps * 1e6)
        into[cell.subject].stretches += [seconds / STRETCH * 1e6 for seconds in watch.laps]


def _count_calls(cell: Cell, measured: Measured) -> None:
    counter = CallCounter()
    with blank_screen():
        _run(cell, Stopwatch(), CALLS_COUNTED_OVER)  # what is done once in a process
        _run(cell, counter, CALLS_COUNTED_OVER)
    measured.python_calls = counter.python / CALLS_COUNTED_OVER
    measured.c_calls = counter.c / CALLS_COUNTED_OVER


def _run(cell: Cell, probe: Probe, steps: int) -> None:
    torch.set_num_threads(1)  # a setting of each thread
    torch.manual_seed(0)
    batches = loader(probe, steps)
    gc.collect()
    cell.run(batches)
