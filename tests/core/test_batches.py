"""Nested batches: something is applied to every tensor, all the rest stays what it was."""

from collections import Counter, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import FrozenInstanceError, InitVar, dataclass, field, is_dataclass
from dataclasses import fields as fields_of
from types import MappingProxyType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from hookloop.batches import batch_size, map_batch, move_data_to_device
from hookloop.errors import MisconfigurationError

META = torch.device("meta")


def one(value: float = 1.0) -> Tensor:
    return torch.full((2,), value)


def negated(tensor: Tensor) -> Tensor:
    return -tensor


class Point(NamedTuple):
    x: Any
    y: Any = 7


Made = namedtuple("Made", ["x", "y"])


class Pair(tuple[Any, ...]):
    """A tuple of one's own."""


class Row(list[Any]):
    """A list of one's own."""


class Attributes(dict[str, Any]):
    """A dict whose keys are attributes too, as many libraries have one."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class Ordered(OrderedDict[str, Any]):
    """An OrderedDict of one's own."""


class Fixed(OrderedDict[str, Any]):
    """Items can be set one by one, and in no other way, as in the outputs of a well-known library."""

    def update(self, *args: Any, **kwargs: Any) -> None:
        raise TypeError("set the items one by one")


class Readable(Mapping[str, Any]):
    """A mapping that can only be read, and is made from another one."""

    def __init__(self, items: Mapping[str, Any]) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


@dataclass
class Sample:
    image: Tensor
    name: str = "a"
    parts: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class FrozenSample:
    image: Tensor
    name: str = "a"


@dataclass(slots=True)
class SlottedSample:
    image: Tensor
    name: str = "a"


@dataclass(frozen=True, slots=True)
class FrozenSlottedSample:
    image: Tensor
    name: str = "a"


@dataclass
class Derived:
    """One field is not an argument; it is computed."""

    image: Tensor
    twice: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.twice = 2 * self.image


@dataclass(frozen=True)
class FrozenDerived:
    image: Tensor
    twice: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", 2 * self.image)


@dataclass
class Late:
    """One field has no value yet."""

    image: Tensor
    later: Tensor = field(init=False)


@dataclass
class Normalized:
    """What it is made of is not what it holds: doing that twice would change the numbers."""

    image: Tensor
    mean: InitVar[float]

    def __post_init__(self, mean: float) -> None:
        self.image = self.image - mean


@dataclass
class Scaled:
    image: Tensor

    def __post_init__(self) -> None:
        self.image = self.image / 255


class Opaque:
    """An object that holds a tensor and tells nobody."""

    def __init__(self) -> None:
        self.tensor = one()


def plain(part: Any) -> Any:
    """The structure in terms that can be compared: types by name, tensors as lists of numbers."""
    if isinstance(part, Tensor):
        return ("tensor", str(part.dtype), part.tolist())
    if isinstance(part, Mapping):
        return (type(part).__name__, [(key, plain(value)) for key, value in part.items()])
    if isinstance(part, list | tuple | UserList | deque):
        return (type(part).__name__, [plain(value) for value in part])
    if is_dataclass(part) and not isinstance(part, type):
        values = [(one.name, plain(getattr(part, one.name, "no value"))) for one in fields_of(part)]
        return (type(part).__name__, values)
    return part


# Made twice, as it is and as it should be: from the tensor and from what the function makes of it.
WALKED: dict[str, Callable[[Tensor], Any]] = {
    "a tensor": lambda t: t,
    "a list": lambda t: [t, 1, "a", None, 2.5, t],
    "a tuple": lambda t: (t, 1, t),
    "a tuple of one": lambda t: (t,),
    "a list of one's own": lambda t: Row([t, 1]),
    "a tuple of one's own": lambda t: Pair([t, 1]),
    "a named tuple": lambda t: Point(t, [t]),
    "a named tuple with a default": lambda t: Point(t),
    "a named tuple made by a call": lambda t: Made(t, 1),
    "a deque": lambda t: deque([t, 1, (t,)]),
    "a UserList": lambda t: UserList([t, "a", [t]]),
    "a dict": lambda t: {"x": t, 3: t, "n": 1},
    "an OrderedDict": lambda t: OrderedDict([("b", t), ("a", t)]),
    "an OrderedDict of one's own": lambda t: Ordered([("b", t), ("a", t)]),
    "a dict of one's own": lambda t: Attributes(x=t, n=1),
    "a UserDict": lambda t: UserDict({"x": t}),
    "a read-only mapping": lambda t: MappingProxyType({"x": t}),
    "a mapping of one's own": lambda t: Readable({"x": t}),
    "a mapping without update": lambda t: Fixed([("x", t)]),
    "a dataclass": lambda t: Sample(t, "b", [t, (t,)]),
    "a frozen dataclass": lambda t: FrozenSample(t, "b"),
    "a dataclass with slots": lambda t: SlottedSample(t, "b"),
    "a frozen dataclass with slots": lambda t: FrozenSlottedSample(t, "b"),
    "a field that is computed": lambda t: Derived(t),
    "a frozen field that is computed": lambda t: FrozenDerived(t),
    "a field without a value": lambda t: Late(t),
    "all of them in each other": lambda t: {"a": [Point((t, {"b": Sample(t, parts=[UserDict({"c": (t,)})])}))]},
}


@pytest.mark.parametrize("build", WALKED.values(), ids=WALKED)
def test_every_tensor_inside_is_mapped_and_the_structure_stays(build: Callable[[Tensor], Any]) -> None:
    batch, before = build(one()), plain(build(one()))
    mapped = map_batch(negated, batch)
    assert plain(mapped) == plain(build(-one()))
    assert type(mapped) is type(batch) or isinstance(batch, Tensor)
    # What was passed is as it was.
    assert plain(batch) == before


LEFT_ALONE: dict[str, Any] = {
    "nothing": None,
    "a number": 3,
    "a string": "tensor",
    "bytes": b"tensor",
    "a set": {1, 2},
    "a range": range(3),
    "a generator": (torch.ones(1) for _ in range(1)),
    "an object": Opaque(),
    "a namespace": SimpleNamespace(x=torch.ones(1)),
    "a class": Sample,
    "a class of tensors": Tensor,
    "a function": one,
    "a dtype": torch.float32,
}


@pytest.mark.parametrize("part", LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_anything_else_stays_the_very_same_object(part: Any) -> None:
    assert map_batch(negated, part) is part
    assert map_batch(negated, [part])[0] is part
    assert map_batch(negated, {"key": part})["key"] is part


EMPTY = [[], (), {}, OrderedDict(), Row(), Pair(), Attributes(), UserDict(), ""]


@pytest.mark.parametrize("empty", EMPTY, ids=lambda empty: type(empty).__name__)
def test_what_is_empty_stays_empty_and_keeps_its_type(empty: Any) -> None:
    mapped = map_batch(negated, empty)
    assert mapped == empty
    assert type(mapped) is type(empty)


def test_a_defaultdict_keeps_its_factory() -> None:
    batch: defaultdict[str, Any] = defaultdict(list, x=one())
    mapped = map_batch(negated, batch)
    assert type(mapped) is defaultdict
    assert plain(mapped["x"]) == plain(-one())
    assert mapped["new"] == []
    assert list(batch) == ["x"]


def test_a_deque_keeps_its_largest_length() -> None:
    mapped = map_batch(negated, deque([one(1), one(2)], maxlen=2))
    mapped.append(one(3))
    assert [tensor[0].item() for tensor in mapped] == [-2, 3]


def test_a_counter_keeps_its_counts() -> None:
    counts = Counter({"cat": 2, "dog": 3})
    mapped = map_batch(negated, {"x": one(), "counts": counts})
    assert mapped["counts"] == Counter({"cat": 2, "dog": 3})
    assert type(mapped["counts"]) is Counter


def test_a_size_is_no_batch_of_tensors_but_stays_a_size() -> None:
    mapped = map_batch(negated, {"shape": torch.Size([2, 3])})
    assert mapped == {"shape": torch.Size([2, 3])}
    assert type(mapped["shape"]) is torch.Size


def test_attributes_that_a_dict_was_given_stay() -> None:
    batch = Attributes(x=one())
    setattr(batch, "source", "disk")  # noqa: B010 - a dict, as far as mypy knows
    mapped = map_batch(negated, batch)
    assert (mapped.source, list(mapped)) == ("disk", ["x"])


@pytest.mark.parametrize("make", [FrozenSample, FrozenSlottedSample])
def test_a_frozen_dataclass_stays_frozen(make: Callable[[Tensor], Any]) -> None:
    mapped = map_batch(negated, make(one()))
    with pytest.raises(FrozenInstanceError):
        mapped.name = "c"


def test_a_dataclass_is_not_initialized_a_second_time() -> None:
    assert plain(map_batch(lambda tensor: tensor, Scaled(torch.tensor([255.0])))) == plain_of(Scaled, [1.0])
    assert plain(map_batch(negated, Scaled(torch.tensor([255.0])))) == plain_of(Scaled, [-1.0])


def test_a_dataclass_may_have_arguments_that_it_does_not_keep() -> None:
    assert plain(map_batch(negated, Normalized(torch.tensor([5.0]), mean=3.0))) == plain_of(Normalized, [-2.0])


def plain_of(kind: type, image: list[float]) -> Any:
    return (kind.__name__, [("image", ("tensor", "torch.float32", image))])


def test_parts_of_another_kind_can_be_mapped() -> None:
    assert map_batch(str.upper, ["a", {"b": ("c", 1)}], kind=str) == ["A", {"b": ("C", 1)}]
    assert map_batch(lambda number: number * 2, [1, 2.5, "a"], kind=(int, float)) == [2, 5.0, "a"]


def test_a_subclass_of_tensor_is_a_tensor() -> None:
    parameter = torch.nn.Parameter(one())
    seen: list[Tensor] = []
    map_batch(lambda tensor: seen.append(tensor), [parameter])
    assert seen == [parameter]
    assert seen[0] is parameter


def test_tensors_are_visited_in_order_and_each_once() -> None:
    first, second, third = one(1), one(2), one(3)
    seen: list[float] = []
    map_batch(lambda tensor: seen.append(tensor[0].item()), {"a": [first, (second,)], "b": Point(third, first)})
    assert seen == [1, 2, 3, 1]


# Whatever the structure

LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.floats(-8, 8, width=16).map(one), st.integers(), st.text(max_size=3), st.none(), st.booleans()
)


def containers(inside: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    keyed = st.dictionaries(st.text("abc", max_size=2), inside, max_size=3)
    return st.one_of(
        *(st.lists(inside, max_size=3).map(kind) for kind in (list, tuple, Row, Pair)),
        st.builds(Point, inside, inside),
        *(keyed.map(kind) for kind in (dict, OrderedDict, Attributes, UserDict, Readable)),
        keyed.map(lambda items: defaultdict(int, items)),
        st.builds(Sample, LEAVES, parts=st.lists(inside, max_size=3)),
    )


BATCHES = st.recursive(LEAVES, containers, max_leaves=12)


def tensors_in(part: Any) -> list[Tensor]:
    """All tensors, in the order in which a reader meets them."""
    if isinstance(part, Tensor):
        return [part]
    children: list[Any] = []
    if isinstance(part, Mapping):
        children = list(part.values())
    elif isinstance(part, list | tuple):
        children = list(part)
    elif isinstance(part, Sample):
        children = [part.image, part.name, part.parts]
    return [tensor for child in children for tensor in tensors_in(child)]


@settings(max_examples=200, deadline=None)
@given(BATCHES)
def test_mapping_keeps_the_structure_of_any_batch(batch: Any) -> None:
    before = plain(batch)
    assert plain(map_batch(lambda tensor: tensor, batch)) == before
    assert plain(map_batch(negated, map_batch(negated, batch))) == before
    assert plain(batch) == before
    found = tensors_in(map_batch(negated, batch))
    assert [tensor.tolist() for tensor in found] == [(-tensor).tolist() for tensor in tensors_in(batch)]


@settings(max_examples=100, deadline=None)
@given(BATCHES)
def test_moving_reaches_every_tensor_of_any_batch(batch: Any) -> None:
    moved = tensors_in(move_data_to_device(batch, META))
    assert [(tensor.device, tensor.shape) for tensor in moved] == [(META, one().shape)] * len(tensors_in(batch))


@settings(max_examples=100, deadline=None)
@given(BATCHES)
def test_the_size_of_any_batch_is_that_of_its_first_tensor(batch: Any) -> None:
    if tensors_in(batch):
        assert batch_size(batch) == (2, False)
    else:
        with pytest.raises(MisconfigurationError, match="holds no tensor"):
            batch_size(batch)


# Moving


class Moves:
    """Moves itself to another object."""

    def __init__(self, device: Any = None) -> None:
        self.device = device

    def to(self, device: Any) -> "Moves":
        return Moves(device)


class MovesInPlace(Moves):
    """Moves itself and returns nothing."""

    def to(self, device: Any) -> None:  # type: ignore[override]
        self.device = device


class MovesTogether(UserDict[str, Any]):
    """A mapping that knows how to move itself."""

    def to(self, device: Any) -> "MovesTogether":
        return MovesTogether({"moved to": device})


@pytest.mark.parametrize("device", ["meta", META], ids=["a name", "a device"])
def test_tensors_and_whatever_can_move_itself_are_moved(device: Any) -> None:
    batch: dict[str, Any] = {"x": one(), "own": [Moves()], "words": ("a", "b"), "n": 3}
    moved = move_data_to_device(batch, device)
    assert moved["x"].device == META
    assert moved["own"][0].device == device
    assert (moved["words"], moved["n"]) == (("a", "b"), 3)
    assert batch["x"].device == torch.device("cpu")
    assert batch["own"][0].device is None


def test_an_object_that_moves_itself_in_place_and_returns_nothing_stays() -> None:
    own = MovesInPlace()
    moved = move_data_to_device([own], META)
    assert moved == [own]
    assert own.device == META


def test_a_container_that_can_move_itself_is_asked_to_and_not_walked_through() -> None:
    moved = move_data_to_device({"batch": MovesTogether({"x": one()})}, META)
    assert moved["batch"] == {"moved to": META}


class Collection(list[int]):
    """A list with a method of that name moves itself, as any other object does."""

    def to(self, device: Any) -> "Collection":
        return Collection([1])


def test_a_list_that_can_move_itself_is_asked_to() -> None:
    assert move_data_to_device({"x": Collection()}, META) == {"x": [1]}


def test_a_tensor_that_is_there_already_is_not_copied() -> None:
    batch = [one()]
    moved = move_data_to_device(batch, torch.device("cpu"))
    assert moved[0] is batch[0]


SPARSE = {
    "coo": lambda: torch.eye(3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "csc": lambda: torch.eye(3).to_sparse_csc(),
}


@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("make", SPARSE.values(), ids=SPARSE)
def test_a_sparse_tensor_is_moved_mapped_and_measured(make: Callable[[], Tensor]) -> None:
    batch = {"graph": make()}
    moved = move_data_to_device(batch, "meta")["graph"]
    assert (moved.device, moved.layout) == (META, batch["graph"].layout)
    doubled = map_batch(lambda tensor: tensor * 2, batch)["graph"]
    assert torch.equal(doubled.to_dense(), 2 * torch.eye(3))
    assert batch_size(batch) == (3, False)


def test_a_packed_sequence_moves_itself() -> None:
    packed = pack_sequence([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0])])
    moved = move_data_to_device([packed], META)[0]
    assert type(moved) is PackedSequence
    assert moved.data.device == META
    # Where the sequences end is asked by the host.
    assert moved.batch_sizes.tolist() == [2, 1, 1]


def test_a_packed_sequence_can_be_mapped_too() -> None:
    packed = pack_sequence([torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0])])
    mapped = map_batch(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor, packed)
    assert type(mapped) is PackedSequence
    assert mapped.data.dtype == torch.float64
    assert mapped.data.tolist() == [1.0, 4.0, 2.0, 3.0]
    assert mapped.batch_sizes.tolist() == [2, 1, 1]


class Edge(NamedTuple):
    """A field of that name is no method."""

    source: Tensor
    to: Tensor


@dataclass
class Link:
    source: Tensor
    to: Tensor


@pytest.mark.parametrize("make", [Edge, Link, Attributes])
def test_a_field_that_is_called_to_is_a_field(make: Callable[..., Any]) -> None:
    moved = move_data_to_device(make(source=one(), to=one()), META)
    assert type(moved) is make
    assert (moved.source.device, moved.to.device) == (META, META)


def test_a_class_in_a_batch_is_not_asked_to_move() -> None:
    batch = {"x": one(), "kind": Moves}
    assert move_data_to_device(batch, META)["kind"] is Moves


def test_what_a_batch_raises_while_it_moves_reaches_the_user() -> None:
    class Heavy:
        def to(self, device: Any) -> None:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        move_data_to_device([Heavy()], META)


# How many samples


PACKED = pack_sequence([torch.ones(3), torch.ones(1)])

SIZES: list[tuple[str, Any, tuple[int, bool]]] = [
    ("a matrix", torch.ones(5, 2), (5, False)),
    ("a vector", torch.ones(5), (5, False)),
    ("a number", torch.ones(()), (1, False)),
    ("no sample", torch.ones(0, 2), (0, False)),
    ("a list", [torch.ones(5, 2), torch.ones(5)], (5, False)),
    ("sizes that differ", [torch.ones(5), torch.ones(4)], (5, True)),
    ("sizes that differ deep inside", {"a": [torch.ones(5)], "b": ({"c": torch.ones(1)},)}, (5, True)),
    ("a number beside others", [torch.ones(5), torch.ones(())], (5, True)),
    ("the first one counts", [torch.ones(()), torch.ones(5)], (1, True)),
    ("no sample at first", [torch.ones(0), torch.ones(5)], (0, True)),
    ("a dict", {"name": ["a", "b", "c"], "x": torch.ones(5)}, (5, False)),
    ("strings and numbers around", ["a", 3, None, 2.5, torch.ones(5)], (5, False)),
    ("a named tuple", Point("a", torch.ones(5)), (5, False)),
    ("a dataclass", Sample(torch.ones(5)), (5, False)),
    ("a dataclass with parts", Sample(torch.ones(5), parts=[torch.ones(4)]), (5, True)),
    ("a frozen dataclass", FrozenSample(torch.ones(5)), (5, False)),
    ("an OrderedDict", OrderedDict([("b", torch.ones(5)), ("a", torch.ones(4))]), (5, True)),
    ("a defaultdict", defaultdict(int, x=torch.ones(5)), (5, False)),
    ("a UserDict", UserDict({"x": torch.ones(5)}), (5, False)),
    ("a deque", deque(["a", torch.ones(5)]), (5, False)),
    ("a UserList", UserList([[torch.ones(5)], torch.ones(4)]), (5, True)),
    ("a mapping of one's own", Readable({"x": torch.ones(5)}), (5, False)),
    # Its parts are tensors of other lengths; only the user knows what counts.
    ("a packed sequence", PACKED, (4, True)),
]


@pytest.mark.parametrize(("batch", "expected"), [pytest.param(batch, size, id=name) for name, batch, size in SIZES])
def test_the_batch_size_is_the_first_dimension_of_the_first_tensor(batch: Any, expected: tuple[int, bool]) -> None:
    assert batch_size(batch) == expected


@pytest.mark.parametrize(
    "batch",
    [None, 3, "abc", [], {}, (), ["abc", 3], {"x": {"y": []}}, Opaque(), {1, 2}, range(3), Late],
    ids=lambda batch: type(batch).__name__ + str(batch)[:12],
)
def test_a_batch_without_a_tensor_has_no_size_and_the_message_says_what_to_pass(batch: Any) -> None:
    kind = type(batch).__name__
    message = rf"type {kind} that holds no tensor\. Pass it: self\.log\(name, value, batch_size=\.\.\.\)"
    with pytest.raises(MisconfigurationError, match=message):
        batch_size(batch)


def test_measuring_takes_nothing_out_of_a_generator() -> None:
    generator = (torch.ones(1) for _ in range(2))
    assert batch_size([generator, torch.ones(5)]) == (5, False)
    assert len(list(generator)) == 2


def test_a_field_without_a_value_has_no_size() -> None:
    assert batch_size(Late(torch.ones(5))) == (5, False)
