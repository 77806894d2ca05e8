"""`CombinedLoader`: several iterables as one, in one of four modes."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, TypeAlias

from hookloop.errors import MisconfigurationError
from hookloop.loaders.iterate import keeps_its_length, length
from hookloop.loaders.structure import Structure
from hookloop.loaders.workers import shut_down

Mode: TypeAlias = Literal["min_size", "max_size_cycle", "max_size", "sequential"]
Opened: TypeAlias = list[Iterator[Any]]


class CombinedLoader(Iterable[tuple[Any, int, int]]):
    """Several iterables as one.

    Iterating gives triples `(batch, batch_idx, dataloader_idx)`. In the first three modes, the batch is a collection
    like `iterables` with one batch of each of them, and `dataloader_idx` is 0:

    - "min_size" ends with the shortest;
    - "max_size_cycle" ends with the longest, and those that are over before begin again;
    - "max_size" ends with the longest, and those that are over before give None;
    - "sequential" goes through one after the other: the batch is that of one of them, `dataloader_idx` says which, and
      `batch_idx` begins at 0 in each.

    Args:
        iterables: an iterable, or lists, tuples and mappings of iterables inside each other. A list of nothing but
            numbers or strings is an iterable; so is, inside a collection, a list of arrays.
        mode: one of the four.

    Attributes:
        iterables: the collection as it was passed.
        mode: as it was passed.

    Raises:
        MisconfigurationError: another mode.

    Source: the class of this name in PyTorch Lightning 2.6, whose surface it keeps.
    """

    def __init__(self, iterables: Any, mode: Mode = "min_size") -> None:
        if mode not in MODES:
            raise MisconfigurationError(f"mode={mode!r} is not known. Use {', '.join(map(repr, MODES))}.")
        self.mode = mode
        self._flattened: list[Any] = []
        self._iterables = iterables
        self._structure = Structure.take_apart(iterables, self._flattened)
        self._limits: list[int | float] | None = None
        self._opened: Opened = []
        self._running: Iterator[tuple[Any, int, int]] | None = None

    @property
    def iterables(self) -> Any:
        """The collection of iterables."""
        return self._iterables

    @property
    def flattened(self) -> list[Any]:
        """The iterables in a list, in the order of reading.

        Setting it replaces them, in the same collection.

        Raises:
            MisconfigurationError: another number of iterables.
        """
        return self._flattened

    @flattened.setter
    def flattened(self, iterables: list[Any]) -> None:
        self._check_count("iterables", len(iterables))
        self._flattened = list(iterables)
        self._iterables = self._structure.put_together(iterables)

    @property
    def sampler(self) -> Any:
        """The sampler of each iterable, None where there is none, in a collection like `iterables`."""
        return self._structure.put_together([getattr(one, "sampler", None) for one in self._flattened])

    @property
    def batch_sampler(self) -> Any:
        """The batch sampler of each iterable, None where there is none, in a collection like `iterables`."""
        return self._structure.put_together([getattr(one, "batch_sampler", None) for one in self._flattened])

    @property
    def limits(self) -> list[int | float] | None:
        """Batches that are used of each iterable at most, None for all of them.

        Set a list, or one number for each of them. In the modes that put batches together they limit how many there are
        in all, as the mode has it, and not after how many batches an iterable begins again.

        Raises:
            MisconfigurationError: not one limit for each iterable.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: int | float | list[int | float] | None) -> None:
        if isinstance(limits, int | float):
            limits = [limits] * len(self._flattened)
        if limits is not None:
            self._check_count("limits", len(limits))
        self._limits = limits

    def _check_count(self, what: str, count: int) -> None:
        if count != len(self._flattened):
            raise MisconfigurationError(
                f"{count} {what} were given to a CombinedLoader of {len(self._flattened)} iterables. "
                "Give one for each of them."
            )

    def length(self, lengths: Sequence[int | float] | None = None) -> float:
        """Number of batches, `math.inf` if it is not known.

        Args:
            lengths: of each iterable; None asks them, and takes `limits` into account.
        """
        if lengths is None:
            limits = self._limits or [math.inf] * len(self._flattened)
            lengths = [min(length(one), limit) for one, limit in zip(self._flattened, limits, strict=True)]
        if self.mode == "max_size_cycle" and 0 in lengths:
            return 0  # what is empty gives nothing however often it begins again
        return MODES[self.mode][0](lengths) if lengths else 0

    @property
    def keeps_its_length(self) -> bool:
        """Whether as many batches are sure to come as `length` says."""
        return all(keeps_its_length(one) for one in self._flattened)

    def __len__(self) -> int:
        number = self.length()
        if number == math.inf:
            raise TypeError("This CombinedLoader has no length, because not all of its iterables have one.")
        return int(number)

    def __iter__(self) -> "CombinedLoader":
        self._running = self.triples()
        return self

    def __next__(self) -> tuple[Any, int, int]:
        if self._running is None:
            self._running = self.triples()
        return next(self._running)

    def triples(
        self,
        begin: int = 0,
        ready: Callable[[], None] | None = None,
        opening: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[Any, int, int]]:
        """An iteration that belongs to the caller: when it is let go of, the workers that it started end.

        Args:
            begin: batches that are done. The iterables begin after them by themselves; here they only count.
            ready: called when the iterables are open, and nothing is read yet.
            opening: called before each iterable of a sequence is opened, with its index.
        """
        opened: Opened = []
        self._opened = opened
        try:
            if self.mode == "sequential":
                yield from self._in_sequence(opened, begin, ready or _nothing, opening)
            else:
                yield from self._together(opened, begin, ready or _nothing)
        except GeneratorExit:
            opened.clear()  # not after another exception: its traceback holds them, and `reset` has to find them
            raise
        opened.clear()

    def _in_sequence(
        self, opened: Opened, begin: int, ready: Callable[[], None], opening: Callable[[int], None] | None
    ) -> Iterator[tuple[Any, int, int]]:
        limits = self._limits or [math.inf] * len(self._flattened)
        for dataloader_idx, (iterable, limit) in enumerate(zip(self._flattened, limits, strict=True)):
            done = int(min(begin, limit, length(iterable))) if begin else 0
            begin -= done
            if limit - done <= 0:
                continue  # no workers are started for nothing
            if opening is not None:
                opening(dataloader_idx)
            opened[:] = [iter(iterable)]
            if done:
                ready()  # the loaders after it begin as they would have begun
            stop = None if limit == math.inf else int(limit) - done
            for batch_idx, batch in enumerate(islice(opened[0], stop), start=done):
                yield batch, batch_idx, dataloader_idx

    def _together(self, opened: Opened, begin: int, ready: Callable[[], None]) -> Iterator[tuple[Any, int, int]]:
        total = self.length() if self._limits is not None else math.inf
        stop = None if total == math.inf else int(total) - begin
        together, put_together = MODES[self.mode][1], self._structure.put_together
        for iterable in self._flattened:
            # What was over before is over. A loader that knows by itself where it is would begin again.
            is_over = self.mode == "max_size" and length(iterable) < begin
            opened.append(iter(()) if is_over else iter(iterable))
        ready()
        for batch_idx, values in enumerate(islice(together(self._flattened, opened), stop), start=begin):
            yield put_together(values), batch_idx, 0

    @classmethod
    def iterates_as_written(cls) -> bool:
        """Whether this class goes through its iterables as this file says, and not in a way of its own."""
        return cls.__iter__ is CombinedLoader.__iter__ and cls.__next__ is CombinedLoader.__next__

    def reset(self) -> None:
        """Forget the running iteration, and end the workers of every DataLoader, persistent ones included."""
        opened, self._opened, self._running = self._opened, [], None
        for one in [*opened, *self._flattened]:
            shut_down(one)

    def __getstate__(self) -> dict[str, Any]:
        # A running iteration cannot be copied, and belongs to whoever began it.
        return self.__dict__ | {"_running": None, "_opened": []}


def _nothing() -> None:
    """Nobody waits for the iterables to be open."""


def _min_size(iterables: list[Any], opened: Opened) -> Iterator[Sequence[Any]]:
    return zip(*opened, strict=False)


def _max_size(iterables: list[Any], opened: Opened) -> Iterator[Sequence[Any]]:
    over = object()
    running = list(opened)
    while True:
        values: list[Any] = []
        for index, iterator in enumerate(running):
            value = next(iterator, over)
            if value is over:
                running[index] = iter(())
            values.append(value)
        if all(value is over for value in values):
            return
        yield [None if value is over else value for value in values]


def _max_size_cycle(iterables: list[Any], opened: Opened) -> Iterator[Sequence[Any]]:
    over = object()
    unfinished = set(range(len(opened)))
    yielded = False
    while True:
        values = [next(iterator, over) for iterator in opened]
        begin_again = [index for index, value in enumerate(values) if value is over]
        # Asked before any begins again: that may start workers, which nobody needs after the last batch.
        unfinished.difference_update(begin_again)
        if not unfinished:
            return
        for index in begin_again:
            opened[index] = iter(iterables[index])
            values[index] = next(opened[index], over)
            if values[index] is over:
                if not yielded:
                    return  # it is empty
                raise MisconfigurationError(
                    f'Iterable {index} of a CombinedLoader in mode "max_size_cycle" '
                    f"({type(iterables[index]).__name__}) gave no batch when it began again. An iterator or a "
                    "generator can be gone through once: use one that begins anew each time, such as a DataLoader, or "
                    'mode="min_size" or "max_size".'
                )
        yield values
        yielded = True


def _sum(lengths: Iterable[int | float]) -> int | float:
    return sum(lengths)


def _no_batches(iterables: list[Any], opened: Opened) -> Iterator[Sequence[Any]]:
    return iter(())


Together: TypeAlias = Callable[[list[Any], Opened], Iterator[Sequence[Any]]]

MODES: dict[str, tuple[Callable[[Iterable[int | float]], int | float], Together]] = {
    "min_size": (min, _min_size),
    "max_size_cycle": (max, _max_size_cycle),
    "max_size": (max, _max_size),
    "sequential": (_sum, _no_batches),
}
"""For each mode, the length of all from the lengths of each, and what puts one batch of each together."""
