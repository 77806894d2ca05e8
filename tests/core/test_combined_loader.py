"""`CombinedLoader` by itself: several iterables as one, in four modes."""

import copy
import math
import pickle
from collections import OrderedDict, UserDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, SequentialSampler

from hookloop.errors import MisconfigurationError
from hookloop.loaders.combined import CombinedLoader

MODES = ["min_size", "max_size_cycle", "max_size", "sequential"]


class Two(NamedTuple):
    first: Any
    second: Any


class Endless:
    def __iter__(self) -> Iterator[int]:
        return iter(int, 1)


class Stream(IterableDataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


def data_loader(**arguments: Any) -> DataLoader[Any]:
    return DataLoader(range(4), **arguments)  # type: ignore[arg-type]


# What it gives

A, B = range(2), range(10, 13)

GIVEN: dict[str, list[Any]] = {
    "min_size": [({"a": 0, "b": 10}, 0, 0), ({"a": 1, "b": 11}, 1, 0)],
    "max_size_cycle": [({"a": 0, "b": 10}, 0, 0), ({"a": 1, "b": 11}, 1, 0), ({"a": 0, "b": 12}, 2, 0)],
    "max_size": [({"a": 0, "b": 10}, 0, 0), ({"a": 1, "b": 11}, 1, 0), ({"a": None, "b": 12}, 2, 0)],
    "sequential": [(0, 0, 0), (1, 1, 0), (10, 0, 1), (11, 1, 1), (12, 2, 1)],
}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_gives_its_batches_with_their_indices_as_often_as_one_asks(mode: Any) -> None:
    loader = CombinedLoader({"a": A, "b": B}, mode)
    assert len(loader) == len(GIVEN[mode])
    for _ in range(2):
        assert list(loader) == GIVEN[mode]
    assert next(iter(loader)) == GIVEN[mode][0]


def test_next_begins_an_iteration_where_none_runs_and_goes_on_with_one_that_does() -> None:
    loader = CombinedLoader([A, B], "min_size")
    assert next(loader) == ([0, 10], 0, 0)
    assert next(loader) == ([1, 11], 1, 0)
    with pytest.raises(StopIteration):
        next(loader)


def test_the_mode_is_min_size_unless_it_is_said() -> None:
    assert CombinedLoader([A, B]).mode == "min_size"
    assert [batch for batch, _, _ in CombinedLoader([A, B])] == [[0, 10], [1, 11]]


@pytest.mark.parametrize("mode", ["max", "", None, "MIN_SIZE", 3])
def test_an_unknown_mode_is_refused_with_those_that_there_are(mode: Any) -> None:
    message = r"mode=.* is not known\. Use 'min_size', 'max_size_cycle', 'max_size', 'sequential'"
    with pytest.raises(MisconfigurationError, match=message):
        CombinedLoader([A], mode)


def defaulting(**loaders: Any) -> defaultdict[str, Any]:
    return defaultdict(list, **loaders)


# From two loaders to a collection of them, and from one batch of each to the batch.
STRUCTURES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "a list": (lambda a, b: [a, b], lambda a, b: [a, b]),
    "a tuple": (lambda a, b: (a, b), lambda a, b: (a, b)),
    "a dict": (lambda a, b: {"a": a, "b": b}, lambda a, b: {"a": a, "b": b}),
    "a named tuple": (Two, Two),
    "an OrderedDict": (lambda a, b: OrderedDict(z=a, y=b), lambda a, b: OrderedDict(z=a, y=b)),
    "a defaultdict": (lambda a, b: defaulting(z=a, y=b), lambda a, b: defaulting(z=a, y=b)),
    "a UserDict": (lambda a, b: UserDict({1: a, 2: b}), lambda a, b: UserDict({1: a, 2: b})),
    "a dict of lists": (lambda a, b: {"a": [a], "b": (b,)}, lambda a, b: {"a": [a], "b": (b,)}),
    "a list of dicts": (lambda a, b: [{"a": a}, {"b": {"c": b}}], lambda a, b: [{"a": a}, {"b": {"c": b}}]),
    "one beside a list of one": (lambda a, b: [a, [b]], lambda a, b: [a, [b]]),
    "lists of numbers": (lambda a, b: [list(a), list(b)], lambda a, b: [a, b]),
    "deques": (lambda a, b: [deque(a), deque(b)], lambda a, b: [a, b]),
}


@pytest.mark.parametrize(("collect", "batch"), STRUCTURES.values(), ids=STRUCTURES)
@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle", "max_size"])
def test_a_batch_has_the_structure_of_the_collection(mode: Any, collect: Any, batch: Any) -> None:
    loader = CombinedLoader(collect(A, B), mode)
    firsts: dict[str, list[int | None]] = {
        "min_size": [0, 1],
        "max_size_cycle": [0, 1, 0],
        "max_size": [0, 1, None],
    }
    together = firsts[mode]
    expected = [batch(a, b) for a, b in zip(together, B, strict=False)]
    given = [given for given, _, _ in loader]
    assert given == expected
    assert [type(one) for one in given] == [type(one) for one in expected]


@pytest.mark.parametrize("mode", MODES)
def test_one_iterable_is_the_simplest_collection(mode: Any) -> None:
    loader = CombinedLoader(B, mode)
    assert list(loader) == [(10, 0, 0), (11, 1, 0), (12, 2, 0)]
    assert (loader.flattened, len(loader)) == ([B], 3)


def test_a_list_of_numbers_is_one_iterable_and_a_list_of_tensors_is_one_inside_a_collection() -> None:
    assert CombinedLoader([1, 2, 3]).flattened == [[1, 2, 3]]
    batches = [torch.ones(1), torch.zeros(1)]
    loader = CombinedLoader({"a": batches, "b": [(torch.ones(2), "name")]}, "max_size_cycle")
    assert loader.flattened[0] is batches
    assert [batch["a"] for batch, _, _ in loader] == batches


lengths = st.lists(st.integers(0, 4), min_size=1, max_size=4)


@settings(max_examples=200, deadline=None)
@given(lengths)
def test_any_number_of_iterables_of_any_length_is_combined_as_the_mode_says(counts: list[int]) -> None:
    iterables = [range(count) for count in counts]
    longest = 0 if 0 in counts else max(counts)
    expected: dict[str, list[Any]] = {
        "min_size": [[index] * len(counts) for index in range(min(counts))],
        "max_size_cycle": [[index % count for count in counts] for index in range(longest)],
        "max_size": [[index if index < count else None for count in counts] for index in range(max(counts))],
    }
    for mode, batches in expected.items():
        loader = CombinedLoader(iterables, mode)  # type: ignore[arg-type]
        assert list(loader) == [(batch, index, 0) for index, batch in enumerate(batches)], mode
        assert len(loader) == len(batches)
    triples = [(index, index, which) for which, count in enumerate(counts) for index in range(count)]
    assert list(CombinedLoader(iterables, "sequential")) == triples


# What can be asked of it


def test_the_collection_its_loaders_and_their_samplers_can_be_asked_for() -> None:
    first, second = data_loader(batch_size=2), data_loader(batch_size=None)
    collection = {"a": first, "b": [second, A]}
    loader = CombinedLoader(collection)
    assert loader.iterables is collection
    assert loader.flattened == [first, second, A]
    assert loader.sampler == {"a": first.sampler, "b": [second.sampler, None]}
    assert loader.batch_sampler == {"a": first.batch_sampler, "b": [None, None]}
    assert isinstance(loader.sampler["a"], SequentialSampler)
    assert isinstance(loader.batch_sampler["a"], BatchSampler)


def test_iterables_can_be_replaced_in_the_same_structure() -> None:
    loader = CombinedLoader({"a": A, "b": [B]})
    loader.flattened = [range(5, 7), range(7, 9)]
    assert loader.iterables == {"a": range(5, 7), "b": [range(7, 9)]}
    assert [batch for batch, _, _ in loader] == [{"a": 5, "b": [7]}, {"a": 6, "b": [8]}]
    with pytest.raises(MisconfigurationError, match=r"1 iterables were given to a CombinedLoader of 2 iterables"):
        loader.flattened = [A]


@pytest.mark.parametrize(
    ("mode", "limits", "expected"),
    [
        ("sequential", [1, 2], [(0, 0, 0), (10, 0, 1), (11, 1, 1)]),
        ("sequential", [0, 1], [(10, 0, 1)]),
        ("sequential", [5, 0], [(0, 0, 0), (1, 1, 0)]),
        ("sequential", 1, [(0, 0, 0), (10, 0, 1)]),
        ("sequential", [math.inf, 1.0], [(0, 0, 0), (1, 1, 0), (10, 0, 1)]),
        ("min_size", [1, 3], [([0, 10], 0, 0)]),
        ("max_size", [1, 2], [([0, 10], 0, 0), ([1, 11], 1, 0)]),
        ("max_size_cycle", [1, 3], [([0, 10], 0, 0), ([1, 11], 1, 0), ([0, 12], 2, 0)]),
        ("max_size_cycle", 2, [([0, 10], 0, 0), ([1, 11], 1, 0)]),
    ],
)
def test_limits_end_it_early(mode: Any, limits: Any, expected: list[Any]) -> None:
    loader = CombinedLoader([A, B], mode)
    assert loader.limits is None
    loader.limits = limits
    assert loader.limits == ([limits, limits] if isinstance(limits, int) else limits)
    assert list(loader) == expected
    assert len(loader) == len(expected)
    loader.limits = None
    assert list(loader) == list(CombinedLoader([A, B], mode))


def test_there_has_to_be_one_limit_for_each_iterable() -> None:
    with pytest.raises(MisconfigurationError, match=r"3 limits were given to a CombinedLoader of 2 iterables"):
        CombinedLoader([A, B]).limits = [1, 2, 3]


# Lengths that are not known


@pytest.mark.parametrize(
    ("mode", "length"), [("min_size", 3), ("max_size_cycle", None), ("max_size", None), ("sequential", None)]
)
def test_the_length_is_known_where_the_iterables_that_decide_have_one(mode: Any, length: int | None) -> None:
    loader = CombinedLoader([Endless(), B], mode)
    if length is None:
        with pytest.raises(TypeError, match="has no length, because not all of its iterables have one"):
            len(loader)
    else:
        assert len(loader) == length
    loader.limits = 2
    assert len(loader) == (4 if mode == "sequential" else 2)
    assert len(list(loader)) == len(loader)


@pytest.mark.parametrize("mode", MODES)
def test_iterables_without_a_length_are_gone_through_like_others(mode: Any) -> None:
    streams = [DataLoader(Stream(2), batch_size=None), DataLoader(Stream(3), batch_size=None)]
    expected = list(CombinedLoader([range(2), range(3)], mode))
    assert list(CombinedLoader(streams, mode)) == expected


@pytest.mark.parametrize("mode", ["min_size", "max_size", "sequential"])
def test_iterators_can_be_combined_where_none_has_to_begin_again(mode: Any) -> None:
    expected = list(CombinedLoader([A, B], mode))
    assert list(CombinedLoader([iter(A), (number for number in B)], mode)) == expected


def test_an_iterator_that_would_have_to_begin_again_is_told_what_to_use() -> None:
    loader = CombinedLoader([iter(A), B], "max_size_cycle")
    assert [next(loader), next(loader)] == [([0, 10], 0, 0), ([1, 11], 1, 0)]
    message = r"Iterable 0 .*range_iterator.* gave no batch when it began again.*mode=\"min_size\" or \"max_size\""
    with pytest.raises(MisconfigurationError, match=message):
        next(loader)


def test_iterators_of_one_length_need_not_begin_again() -> None:
    assert [batch for batch, _, _ in CombinedLoader([iter(B), iter(B)], "max_size_cycle")] == [[n, n] for n in B]


def test_nothing_begins_again_after_the_last_batch() -> None:
    class Counted:
        begun = 0

        def __iter__(self) -> Iterator[int]:
            self.begun += 1
            return iter(range(2))

    one, other = Counted(), Counted()
    assert len(list(CombinedLoader([one, other], "max_size_cycle"))) == 2
    assert (one.begun, other.begun) == (1, 1)


def test_loaders_in_sequence_are_opened_when_it_is_their_turn() -> None:
    opened: list[str] = []

    class Opens:
        def __init__(self, name: str) -> None:
            self.name = name

        def __iter__(self) -> Iterator[str]:
            opened.append(self.name)
            return iter([self.name])

    loader = CombinedLoader([Opens("a"), Opens("b"), Opens("c")], "sequential")
    loader.limits = [1, 0, 1]
    iterator = iter(loader)
    assert (next(iterator), opened) == (("a", 0, 0), ["a"])
    assert (next(iterator), opened) == (("c", 0, 2), ["a", "c"])


# Resetting and copying


def test_reset_forgets_the_running_iteration() -> None:
    loader = CombinedLoader([A, B])
    next(loader)
    loader.reset()
    assert next(loader) == ([0, 10], 0, 0)


def test_reset_ends_persistent_workers_and_new_ones_are_started_when_they_are_needed() -> None:
    data = data_loader(batch_size=2, num_workers=1, persistent_workers=True)
    loader = CombinedLoader({"a": data})
    first = [batch["a"].tolist() for batch, _, _ in loader]
    workers = data._iterator._workers  # type: ignore[union-attr]
    assert [worker.is_alive() for worker in workers] == [True]
    loader.reset()
    assert [worker.is_alive() for worker in workers] == [False]
    assert data._iterator is None
    assert [batch["a"].tolist() for batch, _, _ in loader] == first == [[0, 1], [2, 3]]
    loader.reset()


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_begins_at_the_beginning_and_leaves_the_original_alone(copied: Any) -> None:
    loader = CombinedLoader({"a": A, "b": [B]}, "max_size")
    loader.limits = [2, 3]
    next(loader)
    other = copied(loader)
    assert list(other) == list(CombinedLoader({"a": A, "b": [B]}, "max_size"))
    assert (other.limits, other.mode) == ([2, 3], "max_size")
    assert next(loader) == ({"a": 1, "b": [11]}, 1, 0)
