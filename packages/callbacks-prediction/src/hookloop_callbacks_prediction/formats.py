"""The formats of a part: how batches are written to a file, and read again.

Every format keeps of each row the batch that it belongs to and the index of its sample, under "batch" and "sample".
"""

import csv
import io
from collections.abc import Callable, Iterable
from importlib import import_module
from itertools import groupby, product
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from hookloop.checkpoint_file.loadable import check_loadable
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_prediction.rows import Batch, Column, columns_of, joined

UNKNOWN = -1
"""The sample of a row of which nobody can tell which it is."""

PLACE = ("batch", "sample")


class Format(NamedTuple):
    """How parts are written and read.

    Attributes:
        write: writes batches to an open file.
        read: the columns of a part, "batch" and "sample" first.
        samples: the indices of the samples of each batch, by the batch's index.
        needs: the module that it needs beyond torch, and the extra that installs it.
        typed: what a column is when all parts are read; of texts, what they all are texts of.
    """

    write: Callable[[list[Batch], IO[bytes]], None]
    read: Callable[[Path], dict[str, Column]]
    samples: Callable[[Path], dict[int, list[int] | None]]
    needs: tuple[str, str] | None = None
    typed: Callable[[Column], Column] = lambda column: column


def checked_format(name: object) -> str:
    """The name of a format whose library is installed.

    Raises:
        MisconfigurationError: it is none, or its library is missing.
    """
    if not isinstance(name, str) or name not in FORMATS:
        raise MisconfigurationError(
            f"PredictionWriter(format={name!r}) must be one of {', '.join(map(repr, FORMATS))}."
        )
    if (needs := FORMATS[name].needs) is not None:
        _library(name, *needs)
    return name


def _library(name: str, module: str, extra: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise MisconfigurationError(
            f"PredictionWriter(format={name!r}) needs {module}, which cannot be imported ({error}). Run "
            f'`pip install "hookloop-callbacks-prediction[{extra}]"`, or choose another format: '
            f"{', '.join(repr(one) for one, form in FORMATS.items() if form.needs is None)}."
        ) from error


# rows


def table_of(batches: list[Batch]) -> dict[str, Column]:
    """The columns of batches, with "batch" and "sample" first.

    Raises:
        MisconfigurationError: a prediction cannot be written as rows, or has a column of one of these names.
    """
    parts: list[dict[str, Column]] = []
    for batch in batches:
        columns = columns_of(batch)
        taken = [name for name in PLACE if name in columns]
        if taken:
            raise MisconfigurationError(
                f"predict_step returned something called {taken[0]!r}, and that is the name of a column which says "
                "where a row belongs. Give it another name."
            )
        rows = len(next(iter(columns.values())))
        samples = [UNKNOWN] * rows if batch.samples is None else batch.samples
        place: dict[str, Column] = {"batch": torch.full((rows,), batch.index), "sample": torch.tensor(samples)}
        parts.append(place | columns)
    return joined(parts, f"batches {batches[0].index} to {batches[-1].index}")


def _samples_of_rows(rows: Iterable[tuple[int, int]]) -> dict[int, list[int] | None]:
    found: dict[int, list[int] | None] = {}
    for batch, group in groupby(rows, key=lambda row: row[0]):
        samples = [sample for _, sample in group]
        found[batch] = None if UNKNOWN in samples else samples
    return found


# pt


def _write_pt(batches: list[Batch], file: IO[bytes]) -> None:
    contents = {
        "batches": [one.index for one in batches],
        "samples": [one.samples for one in batches],
        "predictions": [one.prediction for one in batches],
    }
    check_loadable(contents)
    torch.save(contents, file)


def read_batches_pt(path: Path) -> list[Batch]:
    """The batches of a part as they were written."""
    contents = torch.load(path, map_location="cpu", weights_only=True)
    everything = zip(contents["batches"], contents["samples"], contents["predictions"], strict=True)
    return [Batch(*one) for one in everything]


def _read_pt(path: Path) -> dict[str, Column]:
    return table_of(read_batches_pt(path))


def _samples_pt(path: Path) -> dict[int, list[int] | None]:
    contents = torch.load(path, map_location="cpu", weights_only=True, mmap=True)  # predictions are not read
    return dict(zip(contents["batches"], contents["samples"], strict=True))


# csv


def _write_csv(batches: list[Batch], file: IO[bytes]) -> None:
    names: list[str] = []
    values: list[list[Any]] = []
    for name, column in table_of(batches).items():
        if not isinstance(column, Tensor) or column.ndim == 1:
            names.append(name)
            values.append(column.tolist() if isinstance(column, Tensor) else column)
            continue
        places = product(*(range(size) for size in column.shape[1:]))
        for place, values_there in zip(places, column.flatten(1).unbind(1), strict=True):
            names.append(".".join([name, *map(str, place)]))
            values.append(values_there.tolist())
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(zip(*values, strict=True))
    text.flush()
    text.detach()


def _read_csv(path: Path) -> dict[str, Column]:
    with path.open(encoding="utf-8", newline="") as file:
        names, *rows = csv.reader(file)
    return {name: [row[index] for row in rows] for index, name in enumerate(names)}


def _typed(column: Column) -> Column:
    texts = column if isinstance(column, list) else column.tolist()
    for kind, dtype in ((int, torch.int64), (float, torch.float64)):
        try:
            return torch.tensor([kind(text) for text in texts], dtype=dtype)
        except ValueError:
            continue
    if set(texts) <= {"True", "False"}:
        return torch.tensor([text == "True" for text in texts])
    return texts


def _samples_csv(path: Path) -> dict[int, list[int] | None]:
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file)
        next(reader)
        return _samples_of_rows((int(row[0]), int(row[1])) for row in reader)


# npz


def _plain(tensor: Tensor) -> Tensor:
    """The same in a dtype that other libraries have: bfloat16 and smaller floats as float32, which holds them all."""
    return tensor.float() if tensor.is_floating_point() and tensor.dtype not in _COMMON else tensor


_COMMON = (torch.float16, torch.float32, torch.float64)


def _write_npz(batches: list[Batch], file: IO[bytes]) -> None:
    numpy = _library("npz", "numpy", "npz")
    table = table_of(batches)
    arrays = {
        name: _plain(column).numpy() if isinstance(column, Tensor) else numpy.array(column)
        for name, column in table.items()
    }
    numpy.savez(file, **arrays)


def _read_npz(path: Path) -> dict[str, Column]:
    numpy = _library("npz", "numpy", "npz")
    with numpy.load(path, allow_pickle=False) as arrays:
        return {
            name: array.tolist() if array.dtype.kind == "U" else torch.from_numpy(array)
            for name, array in arrays.items()
        }


def _samples_npz(path: Path) -> dict[int, list[int] | None]:
    numpy = _library("npz", "numpy", "npz")
    with numpy.load(path, allow_pickle=False) as arrays:
        return _samples_of_rows(zip(arrays["batch"].tolist(), arrays["sample"].tolist(), strict=True))


# parquet


def _write_parquet(batches: list[Batch], file: IO[bytes]) -> None:
    arrow = _library("parquet", "pyarrow", "parquet")
    parquet = _library("parquet", "pyarrow.parquet", "parquet")
    columns = {
        name: _arrow_array(arrow, _plain(column)) if isinstance(column, Tensor) else arrow.array(column)
        for name, column in table_of(batches).items()
    }
    parquet.write_table(arrow.table(columns), file)


def _arrow_array(arrow: Any, column: Tensor) -> Any:
    array = arrow.array(column.reshape(-1).numpy())
    for size in reversed(column.shape[1:]):
        array = arrow.FixedSizeListArray.from_arrays(array, size)
    return array


def _read_parquet(path: Path) -> dict[str, Column]:
    parquet = _library("parquet", "pyarrow.parquet", "parquet")
    table = parquet.read_table(path, partitioning=None)
    return {name: _tensor_of(table.column(name).combine_chunks()) for name in table.column_names}


def _tensor_of(array: Any) -> Column:
    shape = [len(array)]
    while hasattr(array.type, "list_size"):
        shape.append(array.type.list_size)
        array = array.flatten()
    if str(array.type) == "string":
        texts: list[Any] = array.to_pylist()
        return texts
    return torch.from_numpy(array.to_numpy(zero_copy_only=False).copy()).reshape(shape)


def _samples_parquet(path: Path) -> dict[int, list[int] | None]:
    parquet = _library("parquet", "pyarrow.parquet", "parquet")
    table = parquet.read_table(path, columns=list(PLACE), partitioning=None)
    return _samples_of_rows(zip(*(table.column(name).to_pylist() for name in PLACE), strict=True))


FORMATS = {
    "pt": Format(_write_pt, _read_pt, _samples_pt),
    "csv": Format(_write_csv, _read_csv, _samples_csv, typed=_typed),
    "npz": Format(_write_npz, _read_npz, _samples_npz, ("numpy", "npz")),
    "parquet": Format(_write_parquet, _read_parquet, _samples_parquet, ("pyarrow", "parquet")),
}
"""By the name that a writer is given, which is how the names of its files end."""
