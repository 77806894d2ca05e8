"""Batches with their index, each knowing whether it is the last one."""

import math
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice, repeat
from typing import Any

from torch.utils.data import DataLoader, IterableDataset


def length(loader: Any) -> float:
    """Number of batches of a loader, `math.inf` if it does not say."""
    try:
        return len(loader) if isinstance(loader, Sized) else math.inf
    except (TypeError, NotImplementedError):
        # A DataLoader has __len__ whatever its dataset and its sampler have.
        return math.inf


def keeps_its_length(loader: Any) -> bool:
    """Whether `len(loader)` batches are sure to come.

    A map-style dataset has its samples; an iterable one only estimates, and may end early.
    """
    if isinstance(loader, DataLoader):
        return not isinstance(loader.dataset, IterableDataset) and length(loader) != math.inf
    return isinstance(loader, list | tuple | range)


def iterate(
    loader: Iterable[Any], batches: float, skip: int = 0, sure: bool | None = None
) -> Iterator[tuple[int, Any, bool]]:
    """Index, batch, and whether it is the last one, for at most `batches` batches.

    Where the length is sure, nothing but the loader's own iterator runs for a batch. Otherwise one batch is read ahead
    to know the last one.

    Args:
        loader: anything that can be iterated.
        batches: how many of its batches to use, `math.inf` for all.
        skip: how many are done already: they are read and left out.
        sure: whether so many batches are sure to come; None asks `keeps_its_length`.
    """
    iterator = iter(loader)
    if batches != math.inf and (keeps_its_length(loader) if sure is None else sure):
        count = int(batches)
        for _ in islice(iterator, skip):
            pass
        # zip asks the range first: when that is exhausted, no batch too many is read.
        return zip(range(skip, count), iterator, chain(repeat(False, count - skip - 1), (True,)), strict=False)
    limit = None if batches == math.inf else int(batches)
    return _read_ahead(islice(iterator, limit), skip)


def _read_ahead(iterator: Iterator[Any], skip: int) -> Iterator[tuple[int, Any, bool]]:
    nothing = object()
    index = 0
    batch = next(iterator, nothing)
    while batch is not nothing:
        following = next(iterator, nothing)
        if index >= skip:
            yield index, batch, following is nothing
        index += 1
        batch = following
