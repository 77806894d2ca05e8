"""`DataLoaderIter`: what a step gets that fetches its batches itself, `training_step(self, dataloader_iter)`."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from hookloop.errors import MisconfigurationError


class Fetched(NamedTuple):
    """A batch with its place.

    Attributes:
        batch: as the loader gave it; moving it to the device is up to the step.
        batch_idx: its index in the loader, 0-based.
        dataloader_idx: the index of the loader, 0 in training.
        is_last: whether it is the last one of all.
    """

    batch: Any
    batch_idx: int
    dataloader_idx: int
    is_last: bool


class DataLoaderIter(Iterator[tuple[Any, int, int]]):
    """An iterator of `(batch, batch_idx, dataloader_idx)`, the same object in every step of an epoch.

    It reads one batch ahead, so that hooks before a step get the batch that the step will fetch first, and the loop
    knows whether there is anything left for another step.

    Attributes:
        fetched: how many batches steps have taken in this epoch, those that a resumed run skipped included.
        length: batches of the epoch, None if unknown.
        last: the batch that was taken last.
    """

    def __init__(self) -> None:
        self.fetched = 0
        self.length: int | None = None
        self.last: Fetched | None = None
        self._ahead: Fetched | None = None
        self._source: Iterator[Fetched] = iter(())

    def begin(self, source: Iterator[Fetched], length: float, skipped: int = 0) -> None:
        """Begin an epoch."""
        self._source = source
        self.length = None if length == float("inf") else int(length)
        self.fetched = skipped
        self.last = None
        self._ahead = next(source, None)

    @property
    def done(self) -> bool:
        """Whether all batches were taken."""
        return self._ahead is None

    def upcoming(self) -> Iterator[Fetched]:
        """For each step, the batch that it will fetch first; ends when all were taken.

        Raises:
            MisconfigurationError: a step took none, so the epoch would never end.
        """
        while self._ahead is not None:
            before = self.fetched
            yield self._ahead
            if self.fetched == before:
                raise MisconfigurationError(
                    "A step with dataloader_iter took no batch. Fetch at least one in each call: "
                    "batch, batch_idx, dataloader_idx = next(dataloader_iter)."
                )

    def __next__(self) -> tuple[Any, int, int]:
        taken = self._ahead
        if taken is None:
            raise StopIteration
        self.last = taken
        self.fetched += 1
        self._ahead = next(self._source, None)
        return taken.batch, taken.batch_idx, taken.dataloader_idx
