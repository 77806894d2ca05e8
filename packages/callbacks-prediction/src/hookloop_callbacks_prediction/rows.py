"""Predictions as rows: a column for each value that predict_step returns, a row for each sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hookloop.errors import MisconfigurationError

Column: TypeAlias = Tensor | list[Any]
"""A tensor of shape (rows, ...), or a list of strings or numbers."""

WHOLE = "prediction"
"""The column of a prediction that is one tensor, and has no name of its own."""


@dataclass(frozen=True)
class Batch:
    """The prediction of a batch.

    Attributes:
        index: of the batch in its loader.
        samples: the indices of its samples; None where nobody can tell.
        prediction: what predict_step returned, on the CPU.
    """

    index: int
    samples: list[int] | None
    prediction: Any


def columns_of(batch: Batch) -> dict[str, Column]:
    """The columns of a batch by name: "logits", "boxes.0", "prediction".

    Raises:
        MisconfigurationError: a part of the prediction has no row for each sample.
    """
    columns: dict[str, Column] = {}
    _collect(batch.prediction, "", columns)
    rows = {name: len(column) for name, column in columns.items()}
    expected = len(batch.samples) if batch.samples is not None else next(iter(rows.values()), 0)
    wrong = [f"{name} has {count}" for name, count in rows.items() if count != expected]
    if wrong or not columns:
        raise MisconfigurationError(
            f"Batch {batch.index} has {expected} samples, and its prediction has no row for each of them: "
            f"{', '.join(wrong) or 'it is empty'}. Return tensors of shape (samples, ...) from predict_step, or use "
            'PredictionWriter(format="pt"), which keeps what it returns as it is.'
        )
    return columns


def _collect(value: Any, name: str, columns: dict[str, Column]) -> None:
    if isinstance(value, Tensor):
        columns[name or WHOLE] = value.reshape(1) if value.ndim == 0 else value
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _collect(one, _below(name, key), columns)
    elif hasattr(value, "_fields"):
        for key in value._fields:
            _collect(getattr(value, key), _below(name, key), columns)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            _collect(getattr(value, field.name), _below(name, field.name), columns)
    elif isinstance(value, list | tuple) and value and all(isinstance(one, str | int | float) for one in value):
        columns[name or WHOLE] = list(value)
    elif isinstance(value, list | tuple):
        for index, one in enumerate(value):
            _collect(one, _below(name, index), columns)
    elif value is not None:
        raise MisconfigurationError(
            f"predict_step returned {'' if not name else f'under {name!r} '}a {type(value).__name__}, of which no rows "
            'can be made. Return tensors, or use PredictionWriter(format="pt").'
        )


def _below(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def joined(parts: Sequence[Mapping[str, Column]], where: str) -> dict[str, Column]:
    """The columns of several batches, one below the other.

    Raises:
        MisconfigurationError: they have different columns, or rows of different shapes.
    """
    if not parts:
        return {}
    names = list(parts[0])
    result: dict[str, Column] = {}
    for part in parts:
        if list(part) != names:
            raise MisconfigurationError(
                f"{where}: one batch has the columns {', '.join(names)}, another one {', '.join(part)}. Return the "
                'same from every predict_step, or use PredictionWriter(format="pt").'
            )
    for name in names:
        columns = [part[name] for part in parts]
        tensors = [one for one in columns if isinstance(one, Tensor)]
        if len(tensors) == len(columns):
            shapes = {tuple(one.shape[1:]) for one in tensors}
            if len(shapes) > 1:
                raise MisconfigurationError(
                    f"{where}: the rows of {name} have several shapes, {' and '.join(map(str, sorted(shapes)))}. Pad "
                    'them in predict_step, or use PredictionWriter(format="pt").'
                )
            result[name] = torch.cat(tensors)
        else:
            result[name] = [value for one in columns for value in _listed(one)]
    return result


def _listed(column: Column) -> list[Any]:
    if isinstance(column, Tensor):
        listed: list[Any] = column.tolist()
        return listed
    return column
