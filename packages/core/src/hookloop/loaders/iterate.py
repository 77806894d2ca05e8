"""Batches with their index, each knowing whether it is the last one."""

import math
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Start:
    """How an epoch begins of which some batches may be done.

    Attributes:
        inside: the batch at which what is opened begins.
        unread: batches that are to be read and left out.
        opening: called before one of several in sequence is opened, with its index.
        opened: called when it is open.
        left_out: called when they are left out; where one batch is read ahead, when the next one is there.
        look_ahead: called before a batch is read ahead.
        over: called when there are no more batches; tells whether the loader was gone through to its end.
    """

    inside: int = 0
    unread: int = 0
    opening: Callable[[int], None] | None = None
    opened: Callable[[], None] | None = None
    left_out: Callable[[], None] | None = None
    look_ahead: Callable[[], None] | None = None
    over: Callable[[bool], None] | None = None


def iterate(
    loader: Iterable[Any],
    batches: float,
    skip: int = 0,
    sure: bool | None = None,
    start: Start | None = None,
    whole: bool = False,
) -> Iterator[tuple[int, Any, bool]]:
    """Index, batch, and whether it is the last one, for at most `batches` batches.

    Where the length is sure, nothing but the loader's own iterator runs for a batch. Otherwise one batch is read ahead
    to know the last one.

    Args:
        loader: anything that can be iterated.
        batches: how many of its batches to use, `math.inf` for all.
        skip: how many are done already.
        sure: whether so many batches are sure to come; None asks `keeps_its_length`.
        start: what of those that are done the loader still gives, and who is told; None: all of them, nobody.
        whole: whether these are all batches that the loader promises.
    """
    iterator = iter(loader)
    start = Start(unread=skip) if start is None else start
    if batches != math.inf and (keeps_its_length(loader) if sure is None else sure):
        count = int(batches)
        for _ in islice(iterator, start.unread):
            pass
        if start.left_out is not None:
            start.left_out()
        # zip asks the range first: when that is exhausted, no batch too many is read.
        return zip(range(skip, count), iterator, chain(repeat(False, count - skip - 1), (True,)), strict=False)
    limit = None if batches == math.inf else int(batches) - skip + start.unread
    return _read_ahead(iterator, limit, skip, start, whole)


def _read_ahead(
    loader: Iterator[Any], limit: int | None, skip: int, start: Start, whole: bool
) -> Iterator[tuple[int, Any, bool]]:
    nothing = object()
    iterator = islice(loader, limit)
    index = skip - start.unread
    batch = next(iterator, nothing)
    while True:
        if index == skip and start.left_out is not None:
            start.left_out()
        if batch is nothing:
            break
        if start.look_ahead is not None:
            start.look_ahead()
        following = next(iterator, nothing)
        if index >= skip:
            yield index, batch, following is nothing
        index += 1
        batch = following
    if start.over is not None:
        # Asked once more than it has batches, so that it knows that its epoch is over.
        start.over(limit is None or (whole and next(loader, nothing) is nothing))
