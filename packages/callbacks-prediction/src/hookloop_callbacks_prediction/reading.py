"""Reading what a `PredictionWriter` wrote."""

from os import PathLike
from typing import Any

import torch
from torch import Tensor

from hookloop.errors import HookloopError
from hookloop_callbacks_prediction.folder import Folder, checked_folder, prefix
from hookloop_callbacks_prediction.formats import FORMATS, UNKNOWN
from hookloop_callbacks_prediction.rows import Column, joined


def read_predictions(
    folder: str | PathLike[str], dataloader_idx: int = 0, *, incomplete: bool = False
) -> dict[str, Any]:
    """All predictions of a loader, in the order of its dataset.

    Those of several processes are put together. A sample that was predicted twice, because samplers of several
    processes repeat some to have equally many, comes once. Where nobody could tell the samples, rows are in the order
    of processes, and in each of batches.

    Args:
        folder: what the writer was given.
        dataloader_idx: index of the loader.
        incomplete: also read a prediction that was interrupted.

    Returns:
        By column: a tensor of shape (samples, ...), or a list of strings. "sample" has the indices, of shape (samples,)
        and int64, -1 where nobody could tell; a prediction that was one tensor is called "prediction". Read from "csv",
        each number of a row is a column of its own, in float64 or int64.

    Raises:
        HookloopError: there is no prediction, none of this loader, or it is not complete.
        MisconfigurationError: the rows of a prediction in format "pt" cannot be put together.
    """
    files = Folder(checked_folder(folder))
    found = files.plan()
    if found is None:
        raise HookloopError(f"{folder} has no predictions.json, so no PredictionWriter has written there.")
    plan, complete = found
    if not complete and not incomplete:
        raise HookloopError(
            f"{folder} holds a prediction that was interrupted. Run it again to complete it, or pass incomplete=True "
            "for what is there."
        )
    if not 0 <= dataloader_idx < len(plan.batches):
        raise HookloopError(
            f"dataloader_idx={dataloader_idx} must be from 0 to {len(plan.batches) - 1}: {folder} holds the "
            f"predictions of {len(plan.batches)} loader(s)."
        )
    tables: list[dict[str, Column]] = []
    for rank in range(plan.ranks):
        own = [part for part in files.parts() if (part.loader, part.rank) == (dataloader_idx, rank)]
        tables += [FORMATS[plan.format].read(files.path_of(part)) for part in prefix(own)[0]]
    typed = FORMATS[plan.format].typed
    columns: dict[str, Any] = {name: typed(column) for name, column in joined(tables, str(folder)).items()}
    columns.pop("batch", None)
    return _in_order(columns)


def _in_order(columns: dict[str, Any]) -> dict[str, Any]:
    samples = columns.get("sample")
    if not isinstance(samples, Tensor) or bool((samples == UNKNOWN).any()):
        return columns
    order = torch.argsort(samples, stable=True)
    ordered = samples[order]
    once = torch.ones(len(ordered), dtype=torch.bool)
    once[1:] = ordered[1:] != ordered[:-1]
    rows = order[once]
    return {
        name: column[rows] if isinstance(column, Tensor) else [column[row] for row in rows.tolist()]
        for name, column in columns.items()
    }
