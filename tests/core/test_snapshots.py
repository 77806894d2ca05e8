"""Copies of states: the file that is written from one is the file that the state itself would have given."""

import zipfile
from collections import OrderedDict
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from hookloop.checkpoint_io.snapshot import Snapshots

DTYPES = [
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.float8_e4m3fn),
]

VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "whole": lambda base: base,
    "transposed": lambda base: base.t(),
    "columns": lambda base: base[:, 1::2],
    "a row": lambda base: base[2],
    "one element": lambda base: base[1, 1],
    "an empty part": lambda base: base[4:],
    "expanded": lambda base: base[:, :1].expand(-1, 5),
    "overlapping": lambda base: base.as_strided((3, 3), (1, 1), 2),
    "flipped": lambda base: base.flip(0),
    "a parameter": lambda base: nn.Parameter(base, requires_grad=base.is_floating_point()),
    # torch.load cannot read a float8 that needs gradients.
    "a part that learns": lambda base: base[1:].requires_grad_(base.is_floating_point() and base.itemsize > 1),
    "conjugated": lambda base: base.conj() if base.is_complex() else base,
    "negated by a bit": lambda base: base.clone().conj().imag if base.is_complex() else base,
    "with an attribute": lambda base: _with_attribute(base[:2]),
    "sparse": lambda base: base.to_sparse() if base.dtype is torch.float32 else base,
}


def _with_attribute(tensor: Tensor) -> Tensor:
    tensor.note = {"by": "a test"}  # type: ignore[attr-defined]
    return tensor


def base(index: int, dtype: torch.dtype) -> Tensor:
    values = torch.arange(12 * index, 12 * index + 12).remainder(7).reshape(4, 3) - 3
    if dtype.is_complex:
        return torch.complex(values.double(), 2.0 * values.double() + 1).to(dtype)
    return values.to(torch.float32).to(dtype)


@st.composite
def states(draw: st.DrawFn) -> dict[str, Any]:
    """Nested containers of plain values and of views into a few tensors, some of them the same objects twice."""
    bases = [base(index, draw(st.sampled_from(DTYPES))) for index in range(3)]
    tensors = [
        VIEWS[name](bases[index])
        for index, name in draw(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(list(VIEWS))), max_size=8))
    ]
    tensors += [torch.tensor(2.5), torch.empty(0), torch.empty(3, 0, 2, dtype=torch.int32)]
    plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
    leaves = plain | st.sampled_from(tensors) | st.complex_numbers(allow_nan=False) | st.just(torch.Size([2, 3]))
    keys = st.text(max_size=3) | st.integers(0, 9)
    nested = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=4)
            | st.dictionaries(keys, inner, max_size=4).map(OrderedDict)
            | st.lists(inner, max_size=3).map(tuple)
            | st.sets(st.integers(), max_size=3)
        ),
        max_leaves=12,
    )
    container = draw(st.lists(nested, max_size=3))
    return {"tensors": tensors, "nested": draw(nested), "one": container, "the same": container}


def archive(state: Any) -> dict[str, bytes]:
    """The records of the file that torch.save writes."""
    file = BytesIO()
    torch.save(state, file)
    with zipfile.ZipFile(file) as content:
        return {name: content.read(name) for name in content.namelist() if not name.endswith(".data/serialization_id")}


def loaded(state: Any) -> Any:
    file = BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def assert_alike(one: Any, other: Any) -> None:
    """Equal in values and types, tensors in every property that a file keeps."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        for name in ("dtype", "shape", "layout", "requires_grad", "device"):
            assert getattr(one, name) == getattr(other, name)
        if one.layout is torch.strided:
            assert (one.stride(), one.storage_offset()) == (other.stride(), other.storage_offset())
            assert one.is_conj() == other.is_conj()
        dense = [each.detach().to_dense() if each.is_sparse else each.detach() for each in (one, other)]
        assert torch.equal(*(each if each.dtype.itemsize > 1 else each.view(torch.uint8) for each in dense))
        assert_alike(vars(one), vars(other))
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_alike(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            assert_alike(first, second)
    else:
        assert one == other


def tensors_in(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    items = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return [tensor for item in items for tensor in tensors_in(item)]


def sharing(state: Any) -> list[list[bool]]:
    """Which tensors are views of the same memory."""
    pointers = [one.untyped_storage().data_ptr() for one in tensors_in(state) if one.layout is torch.strided]
    return [[one == other != 0 for other in pointers] for one in pointers]


@settings(max_examples=200, deadline=None)
@given(states())
def test_what_is_loaded_from_the_file_of_a_copy_is_what_the_state_itself_would_have_given(
    state: dict[str, Any],
) -> None:
    copy, ready = Snapshots().take(state)
    ready()
    directly, copied = loaded(state), loaded(copy)

    assert_alike(copied, directly)
    assert sharing(copied) == sharing(directly)
    assert copied["one"] is copied["the same"]
    assert copy["one"] is copy["the same"]


@settings(max_examples=50, deadline=None)
@given(states())
def test_what_happens_to_a_state_does_not_happen_to_its_copy(state: dict[str, Any]) -> None:
    before = loaded(state)
    copy, ready = Snapshots().take(state)
    ready()
    for tensor in tensors_in(state):
        if tensor.layout is torch.strided:
            torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage()).zero_()
    state["one"].append("later")
    state["more"] = 1

    assert_alike(loaded(copy), before)


def module_and_optimizer() -> dict[str, Any]:
    torch.manual_seed(1)
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 4, bias=False))
    module[2].weight = module[0].weight  # tied
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    return {"state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def test_the_file_of_a_copied_checkpoint_is_the_same_byte_for_byte() -> None:
    state = module_and_optimizer()
    copy, _ = Snapshots().take(state)

    assert archive(copy) == archive(state)
    assert copy["state_dict"]._metadata == state["state_dict"]._metadata
    assert copy["state_dict"]._metadata is not state["state_dict"]._metadata
    tied = [copy["state_dict"][name].data_ptr() for name in ("0.weight", "2.weight")]
    assert tied[0] == tied[1]


def test_the_memory_of_a_copy_is_used_for_the_next_one_and_what_is_not_needed_is_given_back() -> None:
    snapshots, state = Snapshots(), {"a": torch.ones(10), "b": torch.ones(10), "c": torch.ones(20)}
    first, _ = snapshots.take(state)
    used = {tensor.data_ptr() for tensor in first.values()}
    second, _ = snapshots.take(state)
    assert {tensor.data_ptr() for tensor in second.values()} == used
    assert len(used) == 3

    smaller, _ = snapshots.take({"c": torch.zeros(20)})
    assert smaller["c"].data_ptr() == second["c"].data_ptr()
    assert [len(memory) for memory in snapshots._kept.values()] == [1]


def test_two_tensors_of_one_storage_are_copied_once() -> None:
    weights = torch.ones(100)
    snapshots = Snapshots()
    copy, _ = snapshots.take({"one": weights, "other": weights.detach(), "part": weights[10:20]})

    assert [len(memory) for memory in snapshots._kept.values()] == [1]
    copy["one"][10] = 5.0
    assert copy["other"][10] == copy["part"][0] == 5.0


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_a_copy_may_be_made_in_any_mode_and_its_memory_used_again_in_another(mode: Callable[[], Any]) -> None:
    snapshots = Snapshots()
    for value, context in ((1.0, torch.enable_grad), (2.0, mode), (3.0, torch.enable_grad)):
        weight = nn.Parameter(torch.full((3,), value))
        with context():
            copy, _ = snapshots.take({"weight": weight, "plain": weight * 1})
        assert_alike(loaded(copy)["weight"], weight)
        assert torch.equal(copy["plain"], torch.full((3,), value))


def test_where_tensors_are_made_by_default_makes_no_difference() -> None:
    state = module_and_optimizer()
    with torch.device("meta"):
        copy, _ = Snapshots().take(state)
    assert archive(copy) == archive(state)


class Pair(NamedTuple):
    one: Tensor
    two: int


def test_other_objects_are_copied_as_torch_save_would_write_them() -> None:
    state = {"pair": Pair(torch.ones(2), 3), "path": Path("a"), "set": {1, 2}}
    copy, _ = Snapshots().take(state)
    state["pair"].one.zero_()  # type: ignore[attr-defined]

    assert type(copy["pair"]) is Pair
    assert torch.equal(copy["pair"].one, torch.ones(2))
    assert (copy["path"], copy["set"]) == (Path("a"), {1, 2})
    assert copy["set"] is not state["set"]


def test_what_nobody_can_write_is_passed_on_for_the_writer_to_say_so() -> None:
    function = lambda: None  # noqa: E731
    copy, _ = Snapshots().take({"function": function, "weight": torch.ones(1)})
    assert copy["function"] is function


def test_a_container_that_holds_itself_is_copied() -> None:
    state: dict[str, Any] = {"list": []}
    state["list"].append(state)
    copy, _ = Snapshots().take(state)
    assert copy["list"][0] is copy
    assert copy is not state
