"""A DataLoader that can begin an epoch at any batch without reading the ones before, with the same random numbers.

Three things make the batches of an epoch: the order, which the sampler draws when the epoch begins; random numbers that
the dataset draws in this process; and those that it draws in workers. The first is repeated from the random state that
it was drawn from. The second is part of the run's random state. The third is made a function of the epoch and of the
batch's position in it, because a worker's own state depends on what it happened to load before.
"""

import copy
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice
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
        samplers: those that keep a state of their own, with state_dict and load_state_dict.

    Attributes:
        order: the random state from which the running epoch's order was drawn, for `begin_at`; None before that.
    """

    def __init__(
        self, sampler: Any, generators: list[torch.Generator], numbered: bool, samplers: Sequence[Any] = ()
    ) -> None:
        self.sampler = sampler
        self.order: dict[str, Any] | None = None
        self._generators = generators
        self._samplers = samplers
        self._numbered = numbered
        self._begin = 0
        self._drawn: list[Any] | None = None

    def begin_at(self, batch: int, order: dict[str, Any], drawn: list[Any]) -> None:
        """Have the next epoch begin at a batch.

        Args:
            batch: its index in the epoch.
            order: the random state from which the epoch's order was drawn.
            drawn: the states of the loader's own generators at that batch.
        """
        self._begin, self.order, self._drawn = batch, order, drawn

    def begin_anew(self) -> None:
        """Have the next epoch begin at its first batch, in an order of its own."""
        self._begin, self._drawn, self.order = 0, None, None

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        # batch_size, drop_last and whatever else somebody asks the sampler of a loader for.
        if name.startswith("__") or name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def __iter__(self) -> Iterator[Any]:
        # A chain, which asks the sampler itself for each index: this costs a batch nothing.
        return self._number() if self._numbered else chain.from_iterable(self._open())

    def _open(self) -> Iterator[Iterator[Any]]:
        """The sampler's iterator, when the first index is asked for: that is when torch's samplers draw the order.

        Not when the DataLoader is opened: it draws a seed for its workers then, others are opened after it, and
        workers that live on draw no new seed.
        """
        begin, drawn = self._begin, self._drawn
        self._begin, self._drawn = 0, None
        if drawn is None:
            self._remember()
            yield iter(self.sampler)
            return
        now = random_state()
        self._restore()
        indices = iter(self.sampler)
        for _ in islice(indices, begin):
            pass
        set_random_state(now)
        for generator, state in zip(self._generators, drawn, strict=True):
            generator.set_state(state)
        yield indices

    def _number(self) -> Iterator[Any]:
        begin = self._begin
        opening = self._open()
        indices = next(opening)
        assert self.order is not None
        seed = _first_draw_of(self.order["global"]["torch"])
        for position, index in enumerate(indices, start=begin):
            yield _Numbered(seed, position, index)

    def _remember(self) -> None:
        self.order = {
            "global": random_state(),
            "generators": [generator.get_state() for generator in self._generators],
            "samplers": states_of(self._samplers),
        }

    def _restore(self) -> None:
        assert self.order is not None
        set_random_state(self.order["global"])
        for generator, state in zip(self._generators, self.order["generators"], strict=True):
            generator.set_state(state)
        load_states(self._samplers, self.order.get("samplers", []))


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


def _first_draw_of(state: torch.Tensor) -> int:
    """What a generator in this state draws first."""
    generator = torch.Generator()
    generator.set_state(state)
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
    positions = Positions(
        getattr(loader, name), generators_of(loader), loader.num_workers > 0, stateful_samplers(loader)
    )
    twin = copy.copy(loader)
    # Around DataLoader.__setattr__, which refuses to change a sampler; and no iterator of the given one's.
    vars(twin).update({name: positions, "_iterator": None})
    return twin, positions


def stateful_samplers(loader: DataLoader[Any]) -> list[Any]:
    """The samplers of a loader that keep a state of their own and can be asked for it, each once."""
    found: list[Any] = []
    for owner in (loader.sampler, loader.batch_sampler, getattr(loader.batch_sampler, "sampler", None)):
        knows = hasattr(owner, "state_dict") and hasattr(owner, "load_state_dict")
        if knows and not any(owner is known for known in found):
            found.append(owner)
    return found


def states_of(samplers: Sequence[Any]) -> list[Any]:
    """Their states as they are now."""
    return [copy.deepcopy(sampler.state_dict()) for sampler in samplers]


def load_states(samplers: Sequence[Any], states: Sequence[Any]) -> None:
    """Give samplers what `states_of` took."""
    for sampler, state in zip(samplers, states, strict=False):
        sampler.load_state_dict(copy.deepcopy(state))


def generators_of(loader: DataLoader[Any]) -> list[torch.Generator]:
    """The generators that a loader and its samplers draw from, each once; not the global one."""
    inner = getattr(loader.batch_sampler, "sampler", None)
    found: list[torch.Generator] = []
    for owner in (loader, loader.sampler, loader.batch_sampler, inner):
        generator = getattr(owner, "generator", None)
        if isinstance(generator, torch.Generator) and not any(generator is known for known in found):
            found.append(generator)
    return found


def keeps_workers(loader: Any) -> bool:
    """Whether workers of a loader live on from epoch to epoch."""
    return isinstance(loader, DataLoader) and loader.persistent_workers
