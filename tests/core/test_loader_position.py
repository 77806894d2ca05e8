"""An epoch that begins at a later batch: what the whole epoch would have given from there, and nothing else is read."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    get_worker_info,
)

from hookloop.loaders.position import Positions, generators_of, positioned
from hookloop.random_state import random_state, set_random_state

from .fitting import equal

SAMPLES = 11


class Augmented(Dataset[Tensor]):
    """Each sample: its index, a draw from each global generator, and what was read is written down."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> Tensor:
        self.read.append(index)
        return torch.tensor([index, torch.rand(()).item(), random.random(), numpy.random.rand()])


def plain(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2)


def shuffled(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, shuffle=True)


def with_a_generator(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(5))


def with_replacement(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, sampler=RandomSampler(data, replacement=True, num_samples=SAMPLES))


def weighted(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, sampler=WeightedRandomSampler([1.0] * SAMPLES, SAMPLES))


def of_a_subset(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, sampler=SubsetRandomSampler(range(3, SAMPLES)))


def with_a_batch_sampler(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 2, drop_last=True))


def without_batches(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=None, shuffle=True)


class Pythonic(Sampler[int]):
    """Shuffles with Python's generator."""

    def __len__(self) -> int:
        return SAMPLES

    def __iter__(self) -> Iterator[int]:
        return iter(random.sample(range(SAMPLES), SAMPLES))


def of_one_s_own(data: Any) -> DataLoader[Any]:
    return DataLoader(data, batch_size=2, sampler=Pythonic())


KINDS = [
    plain,
    shuffled,
    with_a_generator,
    with_replacement,
    weighted,
    of_a_subset,
    with_a_batch_sampler,
    without_batches,
    of_one_s_own,
]


def with_workers(make: Callable[[Any], DataLoader[Any]], persistent: bool = False) -> Callable[[Any], DataLoader[Any]]:
    def made(data: Any) -> DataLoader[Any]:
        loader = make(data)
        vars(loader).update(num_workers=2, persistent_workers=persistent, prefetch_factor=2)
        return loader

    return made


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number)


def states_of(loader: DataLoader[Any]) -> list[Tensor]:
    return [generator.get_state() for generator in generators_of(loader)]


def opened_and_read(loader: Any, saved: dict[str, Any]) -> list[Tensor]:
    """As the loops do it: opening a DataLoader draws a seed, which the saved run had drawn before."""
    iterator = iter(loader)
    set_random_state(saved)
    return list(iterator)


def rest_of(loader: Any) -> list[Tensor]:
    batches: list[Tensor] = []
    for batch in loader:
        torch.rand(3)
        random.random()
        batches.append(batch)
    return batches


def made_for(make: Callable[[Any], DataLoader[Any]]) -> tuple[DataLoader[Any], Positions, Augmented]:
    data = Augmented()
    found = positioned(make(data))
    assert found is not None
    return *found, data


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("epoch", [0, 1])
def test_in_this_process_the_rest_of_an_epoch_is_the_same_from_every_batch_on(
    kind: Callable[[Any], DataLoader[Any]], epoch: int
) -> None:
    for k in range(1, len(kind(Augmented()))):
        seed(1)
        loader, positions, _ = made_for(kind)
        for _ in range(epoch):
            rest_of(loader)
        whole_epoch = iter(loader)
        for _ in range(k):
            next(whole_epoch)
            torch.rand(3)
        order, saved, drawn = positions.order, random_state(), states_of(loader)
        expected = list(whole_epoch)

        seed(99)
        again, begins, data = made_for(kind)
        assert order is not None
        begins.begin_at(k, order, drawn)
        resumed = opened_and_read(again, saved)

        assert equal(resumed, expected)
        assert len(data.read) == sum(1 if batch.dim() == 1 else len(batch) for batch in expected)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("kind", [shuffled, with_a_generator, without_batches], ids=lambda kind: kind.__name__)
def test_workers_draw_the_same_numbers_from_every_batch_on(
    kind: Callable[[Any], DataLoader[Any]], persistent: bool
) -> None:
    make = with_workers(kind, persistent)
    seed(1)
    loader, positions, _ = made_for(make)
    rest_of(loader)
    k = 2
    epoch = iter(loader)
    for _ in range(k):
        next(epoch)
        torch.rand(3)
    order, saved, drawn = positions.order, random_state(), states_of(loader)
    expected = list(epoch)
    del epoch, loader

    seed(99)
    again, begins, _ = made_for(make)
    assert order is not None
    begins.begin_at(k, order, drawn)
    resumed = opened_and_read(again, saved)

    assert equal(resumed, expected)
    following = rest_of(again)
    assert not equal(following, [*resumed])


def test_workers_draw_other_numbers_in_every_batch_and_every_epoch() -> None:
    seed(1)
    loader, _, _ = made_for(with_workers(plain, persistent=True))
    draws = [batch[:, 1:] for epoch in range(2) for batch in rest_of(loader)]
    flat = torch.cat(draws)
    assert len(torch.unique(flat[:, 0])) == 2 * SAMPLES
    assert len(torch.unique(flat[:, 1])) == 2 * SAMPLES
    assert len(torch.unique(flat[:, 2])) == 2 * SAMPLES


def test_what_workers_draw_does_not_depend_on_their_number() -> None:
    runs = []
    for workers in (1, 2):
        seed(1)
        data = Augmented()
        found = positioned(DataLoader(data, batch_size=2, shuffle=True, num_workers=workers))
        assert found is not None
        runs.append(list(found[0]))
    assert equal(*runs)


def test_without_a_position_the_batches_are_those_of_the_loader_itself() -> None:
    for kind in KINDS:
        seed(3)
        itself = list(kind(Augmented()))
        seed(3)
        loader, _, _ = made_for(kind)
        assert equal(list(loader), itself), kind.__name__


def test_a_position_concerns_one_epoch() -> None:
    seed(1)
    loader, positions, _ = made_for(shuffled)
    list(loader)
    order = positions.order
    assert order is not None
    positions.begin_at(4, order, [])
    assert len(list(loader)) == 2
    assert len(list(loader)) == 6


def test_the_given_loader_is_left_as_it_is() -> None:
    loader = shuffled(Augmented())
    before = dict(vars(loader))
    found = positioned(loader)
    assert found is not None
    list(found[0])
    assert vars(loader) == before
    assert len(found[0]) == len(loader)


def test_the_state_of_the_order_can_be_saved_and_loaded(tmp_path: Any) -> None:
    seed(1)
    loader, positions, _ = made_for(with_a_generator)
    list(loader)
    torch.save(positions.order, tmp_path / "order.pt")
    assert equal(torch.load(tmp_path / "order.pt", weights_only=True), positions.order)


class Endless(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


@pytest.mark.parametrize("other", [DataLoader(Endless()), [1, 2], range(3)], ids=["iterable", "list", "range"])
def test_what_has_no_index_has_no_position(other: Any) -> None:
    assert positioned(other) is None


def test_generators_are_found_once_each() -> None:
    shared = torch.Generator()
    data = TensorDataset(torch.arange(4))
    assert generators_of(DataLoader(data)) == []
    assert generators_of(DataLoader(data, shuffle=True, generator=shared)) == [shared]
    assert generators_of(DataLoader(data, sampler=RandomSampler(data, generator=shared))) == [shared]


def test_indices_arrive_in_workers_as_they_were() -> None:
    class Telling(Dataset[Any]):
        def __len__(self) -> int:
            return 4

        def __getitems__(self, indices: Any) -> Any:
            return [(type(indices).__name__, index, get_worker_info() is not None) for index in indices]

    found = positioned(DataLoader(Telling(), batch_size=2, num_workers=1, collate_fn=list))
    assert found is not None
    assert list(found[0]) == [[("list", 0, True), ("list", 1, True)], [("list", 2, True), ("list", 3, True)]]
