"""From recorded values to the loggers: the x axis, and the epoch that every row carries."""

from collections.abc import Sequence
from typing import NamedTuple

from hookloop.loggers import Logger
from hookloop.metrics.results import Values, to_floats


class Row(NamedTuple):
    """What was logged at one moment.

    Attributes:
        values: by name; one named "step" overrides the x axis.
        step: the x axis.
        epoch: added under "epoch" unless a value has that name.
    """

    values: Values
    step: int
    epoch: int


def send(loggers: Sequence[Logger], rows: Sequence[Row]) -> None:
    """Hand rows to every logger. However many they are, the host waits for the device once; without logger, never."""
    if not loggers:
        return
    numbered = {f"{index}:{name}": value for index, row in enumerate(rows) for name, value in row.values.items()}
    floats = iter(to_floats(numbered).values())
    for row in rows:
        metrics = {name: next(floats) for name in row.values}
        step = int(metrics.pop("step")) if "step" in metrics else row.step
        metrics.setdefault("epoch", float(row.epoch))
        for logger in loggers:
            logger.log_metrics(metrics, step)
