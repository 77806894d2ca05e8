"""What was measured, in tables and in JSON."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from _table import table

from .column import COLUMNS
from .measure import Measured, Results

PLAIN = "plain loop"
TARGETS = {**{column.title: column.target for column in COLUMNS}, "validate": 8, "predict": 8}
CALL_TARGETS = {"bare": 165, "10 x 2 hooks": 190, "10 idle": 165, "log": 185}


def overhead(of: Measured, plain: Measured) -> list[float]:
    """Microseconds over the plain loop, round by round."""
    return [mine - base for mine, base in zip(of.microseconds, plain.microseconds, strict=True)]


def overhead_table(results: Results) -> str:
    """Microseconds of CPU time a step over the plain loop: median, and half the distance between the quartiles."""
    return _times(
        results,
        lambda plain: _median(plain.microseconds),
        lambda measured, plain: _median(overhead(measured, plain)),
    )


def quiet_table(results: Results) -> str:
    """The same from the lower end of the stretches of each cell, where other programs disturb least."""
    return _times(
        results,
        lambda plain: f"{quiet(plain):.0f}",
        lambda measured, plain: f"{quiet(measured) - quiet(plain):.0f}",
    )


def quiet(measured: Measured) -> float:
    """Microseconds a step below which a tenth of the stretches stayed."""
    values = sorted(measured.stretches)
    return values[len(values) // 10]


def _times(results: Results, base: Callable[[Measured], str], over: Callable[[Measured, Measured], str]) -> str:
    rows = [["", *results]]
    rows.append([f"{PLAIN} (absolute)", *(base(by_subject[PLAIN]) for by_subject in results.values())])
    for subject in _subjects(results):
        if subject != PLAIN:
            rows.append(
                [
                    subject,
                    *(
                        over(by_subject[subject], by_subject[PLAIN]) if subject in by_subject else ""
                        for by_subject in results.values()
                    ),
                ]
            )
    rows.append(["hookloop's target", *(str(TARGETS[title]) for title in results)])
    return table(rows)


def calls_table(results: Results) -> str:
    """Python + C calls of a step."""
    titles = list(results)
    rows = [["", *titles]]
    for subject in _subjects(results):
        rows.append([subject, *(_calls_cell(results[title].get(subject)) for title in titles)])
    limits = (CALL_TARGETS.get(title) for title in titles)
    rows.append(["hookloop's target", *("" if limit is None else str(limit) for limit in limits)])
    return table(rows)


def as_dict(results: Results) -> dict[str, Any]:
    """Everything that was measured, by column and subject."""
    return {
        title: {
            subject: {
                "microseconds": measured.microseconds,
                "median_overhead": statistics.median(overhead(measured, by_subject[PLAIN])),
                "quiet_overhead": quiet(measured) - quiet(by_subject[PLAIN]),
                "python_calls": measured.python_calls,
                "c_calls": measured.c_calls,
            }
            for subject, measured in by_subject.items()
        }
        for title, by_subject in results.items()
    }


def _subjects(results: Results) -> list[str]:
    return list(dict.fromkeys(subject for by_subject in results.values() for subject in by_subject))


def _median(values: Sequence[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.0f}"
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return f"{statistics.median(values):.0f} ±{(upper - lower) / 2:.0f}"


def _calls_cell(measured: Measured | None) -> str:
    return "" if measured is None else f"{measured.python_calls:.0f} + {measured.c_calls:.0f}"
