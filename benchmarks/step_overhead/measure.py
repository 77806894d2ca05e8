"""Measuring: every subject in turn, round after round, each against the plain loop of its own round."""

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from .column import COLUMNS, Column
from .probe import STRETCH, CallCounter, Probe, Stopwatch
from .screen import blank_screen
from .subjects.subject import Subject
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
    torch.set_num_threads(1)
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
            for cell in _turned(column, index):
                watch = Stopwatch()
                _run(cell, watch, steps)
                measured = results[cell.title][cell.subject]
                measured.microseconds.append(watch.seconds / steps * 1e6)
                measured.stretches += [seconds / STRETCH * 1e6 for seconds in watch.laps]
    return results


def _turned(column: Sequence[Cell], by: int) -> Iterator[Cell]:
    """The same cells, beginning with another one in each round."""
    by %= len(column)
    yield from column[by:]
    yield from column[:by]


def _count_calls(cell: Cell, measured: Measured) -> None:
    _run(cell, Stopwatch(), CALLS_COUNTED_OVER)  # what is done once in a process
    counter = CallCounter()
    _run(cell, counter, CALLS_COUNTED_OVER)
    measured.python_calls = counter.python / CALLS_COUNTED_OVER
    measured.c_calls = counter.c / CALLS_COUNTED_OVER


def _run(cell: Cell, probe: Probe, steps: int) -> None:
    torch.manual_seed(0)
    batches = loader(probe, steps)
    gc.collect()
    with blank_screen():
        cell.run(batches)
