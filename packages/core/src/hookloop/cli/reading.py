"""What is in a checkpoint, read without torch, without its weights and without anybody's code."""

import importlib
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from hookloop.cli.inert import Storage, Structure, Tensor
from hookloop.errors import CheckpointError

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
"""The first thing in a file of the format that torch wrote before version 1.6."""

_FORMATS = {"float16": "e", "float32": "f", "float64": "d", "int8": "b", "uint8": "B", "int16": "h", "int32": "i"}
_FORMATS |= {"int64": "q", "bool": "?"}
_MOST_NUMBERS = 1000
"""Logged values are tensors of one number each; what has more of them than a run logs, is not read."""


@dataclass(frozen=True)
class Saved:
    """What a file holds.

    Attributes:
        contents: what was saved, of plain values and the classes of `inert`.
        size: of the file, in bytes.
        records: how many records it has, each with its checksum; None for the format before torch 1.6, which has none.
        storages: where the numbers of tensors are.
        numbers: of storages that hold one number each, by key.
    """

    contents: Any
    size: int
    records: int | None
    storages: Mapping[str, Storage]
    numbers: Mapping[str, float] = field(default_factory=dict)

    def number(self, tensor: Tensor) -> float | None:
        """The one number in a tensor; None where it has several, or was not read."""
        if tensor.values != 1 or tensor.storage is None:
            return None
        return self.numbers.get(tensor.storage.key)


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A file, or what fsspec finds at a `protocol://`; open for reading, and able to seek.

    Raises:
        CheckpointError: there is none, or it cannot be read.
    """
    try:
        if "://" in path:
            fsspec: Any = importlib.import_module("fsspec")  # it comes with torch
            with fsspec.open(path, "rb") as file:
                yield file
            return
        if not Path(path).is_file():
            from hookloop.checkpoint_file import check_is_there  # it brings torch, and a list of what is there

            check_is_there(path)
        with Path(path).open("rb") as file:
            yield file
    except (OSError, ValueError, ImportError) as error:
        raise CheckpointError(f"The checkpoint {path} cannot be opened ({type(error).__name__}: {error}).") from error


def read(file: IO[bytes], path: str) -> Saved:
    """What is in an open file.

    Args:
        file: at its beginning.
        path: where it is, for messages.

    Raises:
        CheckpointError: it was not written by torch.save, it is damaged, or a record is missing.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                return _of_archive(archive, size, path)
        file.seek(0)
        return _of_former_format(file, size, path)
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes can make zipfile and pickle raise anything
        raise CheckpointError(
            f"The checkpoint {path} cannot be read ({type(error).__name__}: {error}): it is damaged or incomplete. "
            "Choose another one."
        ) from error


def _of_archive(archive: zipfile.ZipFile, size: int, path: str) -> Saved:
    records = {one.filename: one for one in archive.infolist()}
    pickles = [name for name in records if name.count("/") == 1 and name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise CheckpointError(f"{path} is an archive that torch.save did not write: it has no data.pkl.")
    if records[pickles[0]].file_size > size:
        raise CheckpointError(f"{path} has a compressed data.pkl, which torch.save does not write. It is not read.")
    folder = pickles[0].rpartition("/")[0]
    with archive.open(pickles[0]) as file:
        structure = Structure(file)
        contents = structure.load()
    for key, storage in structure.storages.items():
        record = records.get(f"{folder}/data/{key}")
        if record is None:
            raise CheckpointError(
                f"The checkpoint {path} lacks its record {folder}/data/{key}: it is damaged. Choose another one."
            )
        if storage.bytes is not None and record.file_size != storage.bytes:
            raise CheckpointError(
                f"The checkpoint {path} has {record.file_size} bytes in its record {folder}/data/{key}, where "
                f"{storage.bytes} belong: it is damaged. Choose another one."
            )
    return Saved(
        contents, size, len(records), structure.storages, _numbers(archive, folder, structure.storages.values())
    )


def _numbers(archive: zipfile.ZipFile, folder: str, storages: Iterable[Storage]) -> dict[str, float]:
    names = archive.NameToInfo
    order = ">" if f"{folder}/byteorder" in names and archive.read(f"{folder}/byteorder") == b"big" else "<"
    single = [one for one in storages if one.count == 1 and one.dtype in _FORMATS]
    found = {}
    for storage in single[:_MOST_NUMBERS]:
        (found[storage.key],) = struct.unpack(
            order + _FORMATS[storage.dtype], archive.read(f"{folder}/data/{storage.key}")
        )
    return found


def _of_former_format(file: IO[bytes], size: int, path: str) -> Saved:
    try:
        magic_number = Structure(file).load()
    except Exception:  # noqa: BLE001 - a file of any kind
        magic_number = None
    if magic_number != _MAGIC_NUMBER:
        raise CheckpointError(
            f"{path} was not written by torch.save, or its end is missing, where the list of its records stands. "
            "Choose another one."
        )
    Structure(file).load()  # the format's version
    Structure(file).load()  # of which machine
    structure = Structure(file)
    return Saved(structure.load(), size, None, structure.storages)
