"""A DataLoader that can begin an epoch at any batch without reading the ones before, with the same random numbers.

Three things make the batches of an epoch: the order, which the sampler draws when the epoch begins; random numbers that
the dataset draws in this process; and those that it draws in workers. The first is repeated from the random state that
it was drawn from. The second is part of the run's random state. The third is made a function of the epoch and of the
batch's position in it, because a worker's own state depends on what it happened to load before.
"""

import copy
import random
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from hookloop.random_state import random_state, set_random_state


class Positions:
    """Stands in for the sampler of a DataLoader: knows how an epoch's order was drawn, and can begin inside it.

    Args:
        sampler: gives the index of each batch, or the indices of its samples.
        generators: the loader's and its samplers' own.
        numbered: whether each index tells the worker that gets it which random numbers to draw.

    Attributes:
        order: the random state from which the running epoch's order was drawn, for `begin_at`; None before the first.
    """

    def __init__(self, sampler: Any, generators: list[torch.Generator], numbered: bool) -> None:
        self.sampler = sampler
        self.order: dict[str, Any] | None = None
        self._generators = generators
        self._numbered = numbered
        self._begin = 0
        self._skipped: Callable[[], None] | None = None

    def begin_at(self, batch: int, order: dict[str, Any], skipped: Callable[[], None]) -> None:
        """Have the next epoch begin at a batch.

        Args:
            batch: its index in the epoch.
            order: the random state from which the epoch's order was drawn.
            skipped: called when the sampler is there, before anything is drawn for that batch.
        """
        self._begin, self.order, self._skipped = batch, order, skipped

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Any]:
        if self._numbered:
            return self._number()
        # torch's samplers draw with the first batch, after the DataLoader has drawn a seed for its workers: that one is
        # drawn again when it is gone through again, so the state is that of this moment.
        if self._skipped is not None:
            self._restore()
            return self._from_position(iter(self.sampler))
        self._remember()
        iterator: Iterator[Any] = iter(self.sampler)
        return iterator

    def _from_position(self, indices: Iterator[Any]) -> Iterator[Any]:
        begin, skipped = self._begin, self._skipped
        self._begin, self._skipped = 0, None
        assert skipped is not None
        for _ in islice(indices, begin):
            pass
        skipped()
        yield from indices

    def _number(self) -> Iterator[Any]:
        # Runs when the first index is asked for. Workers that live on draw no new seed for themselves, so that this is
        # the moment which is the same in every epoch.
        begin = self._begin
        if self._skipped is None:
            self._remember()
        else:
            self._restore()
        seed = _peek_at_a_seed()
        indices = iter(self.sampler) if self._skipped is None else self._from_position(iter(self.sampler))
        for position, index in enumerate(indices, start=begin):
            yield _Numbered(seed, position, index)

    def _remember(self) -> None:
        self.order = {
            "global": random_state(),
            "generators": [generator.get_state() for generator in self._generators],
        }

    def _restore(self) -> None:
        assert self.order is not None
        set_random_state(self.order["global"])
        for generator, state in zip(self._generators, self.order["generators"], strict=True):
            generator.set_state(state)


class _Numbered:
    """An index on its way to a worker, where it arrives as it was, after the worker's generators were seeded."""

    __slots__ = ("index", "position", "seed")

    def __init__(self, seed: int, position: int, index: Any) -> None:
        self.seed = seed
        self.position = position
        self.index = index

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _arrive, (self.seed, self.position, self.index)


def _arrive(seed: int, position: int, index: Any) -> Any:
    """What unpickling an index means in a worker: right after it, the worker fetches the samples."""
    if get_worker_info() is not None:
        own = random.Random(f"{seed} {position}")
        torch.manual_seed(own.getrandbits(63))
        random.seed(own.getrandbits(63))
        if (numpy := sys.modules.get("numpy")) is not None:
            numpy.random.seed(own.getrandbits(32))
    return index


def _peek_at_a_seed() -> int:
    """What torch's global generator would draw next; it is not drawn."""
    generator = torch.Generator()
    generator.set_state(torch.get_rng_state())
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator))


def positioned(loader: Any) -> tuple[DataLoader[Any], Positions] | None:
    """A DataLoader that gives the same batches, and what says where it begins.

    The given one is left as it is: this one is a copy, with workers of its own.

    Returns:
        None for what is no DataLoader over a map-style dataset: only what has an index can be skipped unread.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset):
        return None
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    positions = Positions(getattr(loader, name), generators_of(loader), numbered=loader.num_workers > 0)
    twin = copy.copy(loader)
    # Around DataLoader.__setattr__, which refuses to change a sampler; and no iterator of the given one's.
    vars(twin).update({name: positions, "_iterator": None})
    return twin, positions


def generators_of(loader: DataLoader[Any]) -> list[torch.Generator]:
    """The generators that a loader and its samplers draw from, each once; not the global one."""
    inner = getattr(loader.batch_sampler, "sampler", None)
    found: list[torch.Generator] = []
    for owner in (loader, loader.sampler, loader.batch_sampler, inner):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and not any(generator is known for known in found):
            found.append(generator)
    return found
