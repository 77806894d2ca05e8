"""What could not be loaded without running code is refused when it is saved, with its place, its type and a way out."""

import collections
import dataclasses
import enum
import io
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hookloop import Callback, LightningDataModule, Trainer
from hookloop.checkpoint_file import read_checkpoint, write_checkpoint
from hookloop.checkpoint_file.loadable import check_loadable, refused, written
from hookloop.errors import CheckpointError

from .fitting import Regression, equal, loader, trainer_in


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    HIGH = 3


class Pair(NamedTuple):
    one: int
    other: int


@dataclasses.dataclass
class Best:
    score: float = 0.1


class Marked(torch.Tensor):
    pass


class Words(list[str]):
    pass


class Share(float):
    pass


def of_torch(value: Any) -> bool:
    """Whether torch itself loads a value: what all of this is measured by."""
    file = io.BytesIO()
    try:
        torch.save(value, file)
        file.seek(0)
        torch.load(file, weights_only=True)
    except Exception:  # noqa: BLE001 - whatever it is
        return False
    return True


def in_a_tuple_of_itself() -> Any:
    inside: list[Any] = []
    outside = (inside,)
    inside.append(outside)
    return outside


def with_attribute(value: Any) -> torch.Tensor:
    tensor = torch.ones(2)
    tensor.note = value  # type: ignore[attr-defined]
    return tensor


REFUSED: dict[str, tuple[Any, str]] = {
    "path": (Path("a"), r"a pathlib\.PosixPath\. Save str\(\) of it"),
    "enum": (Color.RED, r"a .*test_loadable\.Color\. Save its name or value"),
    "enum of ints": (Level.HIGH, r"a .*test_loadable\.Level\. Save its name or value"),
    "float of another class": (Share(0.5), r"a .*test_loadable\.Share\. Save float\(\) of it"),
    "named tuple": (Pair(1, 2), r"a .*test_loadable\.Pair\. Save tuple\(\) or \._asdict\(\)"),
    "dataclass": (Best(), r"a .*test_loadable\.Best\. Save dataclasses\.asdict\(\)"),
    "frozen set": (frozenset({1}), r"a frozenset\. Save set\(\) or sorted\(\)"),
    "defaultdict": (collections.defaultdict(int), r"a collections\.defaultdict\. Save dict\(\) of it"),
    "list of another class": (Words(["a"]), r"a .*test_loadable\.Words\. Save list\(\) of it"),
    "lambda": (lambda: None, r"a function, <lambda>\. Save a name by which it can be chosen"),
    "function": (print, r"a builtin_function_or_method, print\. Save a name"),
    "class": (Fraction, r"the class fractions\.Fraction\. Save a name"),
    "numpy number": (np.float64(0.5), r"a numpy\.float64\. Save \.item\(\) of it"),
    "numpy array": (np.ones(2), r"a numpy\.ndarray\. Save \.tolist\(\) or torch\.from_numpy\(\)"),
    "object": (Fraction(1, 3), r"a fractions\.Fraction\. Save the numbers, strings and tensors"),
    "module": (nn.Linear(1, 1), r"a torch\.nn\.modules\.linear\.Linear\. Save state_dict\(\) of it"),
    "lock": (__import__("threading").Lock(), r"a _thread\.lock\. Save the numbers"),
    "generator": ((number for number in range(3)), r"a generator\. Save the numbers"),
    "tensor of another class": (torch.ones(2).as_subclass(Marked), r"a .*test_loadable\.Marked\. Save a plain tensor"),
    "tensor with a lambda": (with_attribute(lambda: None), r"a torch\.Tensor\. Save a plain tensor"),
    "no bytes": (b"", r"an empty bytes object\. Save None"),
    "int of 256 bytes": (2**2039, r"an int of more than 255 bytes\. Save str\(\) of it"),
    "tuple in itself": (in_a_tuple_of_itself(), r"a tuple that contains itself\. Save it without the reference"),
}

FINE: dict[str, Any] = {
    "set": {1, "a"},
    "counter": collections.Counter("hookloop"),
    "ordered": collections.OrderedDict(a=1),
    "metadata": nn.BatchNorm1d(2).state_dict(),
    "int of 255 bytes": [2**2039 - 1, -(2**2039)],
    "text of half a character": "\ud800",
    "numbers": [1, 2.5, 1 + 2j, float("nan"), True, None],
    "bytes": [b"\x00\xff", bytearray()],
    "of torch": [torch.float16, torch.device("cuda:1"), torch.Size([1, 2]), torch.sparse_coo],
    "parameter": nn.Parameter(torch.ones(2)),
    "sparse": torch.eye(2).to_sparse(),
    "meta": torch.ones(2, device="meta"),
    "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
    "eight bits": torch.ones(2, dtype=torch.float8_e4m3fn),
    "tensor with a text": with_attribute("a"),
    "tensors": {"a": [torch.ones(2), nn.Parameter(torch.ones(2))], 3: (torch.ones(1),)},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_torch_does_not_load_is_refused_with_its_place_its_type_and_what_to_do(kind: str) -> None:
    value, message = REFUSED[kind]
    assert not of_torch(value)
    state = {"state_dict": {}, "callbacks": {"Tally": {"best": [0.5, value]}}}
    place = r'checkpoint\["callbacks"\]\["Tally"\]\["best"\]\[1\]'
    if kind == "tuple in itself":
        place += r"\[0\]\[0\]"
    with pytest.raises(CheckpointError, match=rf"{place} is {message}") as caught:
        check_loadable(state)
    assert " in state_dict() of the callback Tally." in str(caught.value)


@pytest.mark.parametrize("kind", FINE)
def test_what_torch_loads_is_saved(kind: str) -> None:
    assert of_torch(FINE[kind])
    check_loadable({"state_dict": {}, "callbacks": {"Tally": FINE[kind]}})


LEAVES = [value for value, _ in REFUSED.values()] + [*FINE.values()]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.recursive(
        st.sampled_from(range(len(LEAVES))).map(LEAVES.__getitem__) | st.integers() | st.text(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=3) | st.binary(max_size=1), inner, max_size=3)
            | st.lists(inner, max_size=2).map(tuple)
        ),
        max_leaves=6,
    )
)
def test_a_state_is_refused_if_and_only_if_torch_does_not_load_it(state: Any) -> None:
    assert (not refused(state)) == of_torch(state)


def test_a_place_is_written_as_one_would_write_it() -> None:
    assert written(("callbacks", "a", 0, (1, 2))) == 'checkpoint["callbacks"]["a"][0][(1, 2)]'


def test_a_key_is_refused_as_a_value_is() -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint\[\"a\"\]\[the key .*RED.*\] is a .*Color"):
        check_loadable({"a": {Color.RED: 1}})


def test_all_of_several_are_named_and_of_many_the_first() -> None:
    state = {f"part {number}": Path("a") for number in range(7)}
    with pytest.raises(CheckpointError, match=r'"part 0".*"part 4".*And 2 more') as caught:
        check_loadable(state)
    assert "part 5" not in str(caught.value)


def test_what_is_in_a_state_twice_is_looked_at_once_and_may_contain_itself_if_torch_loads_that() -> None:
    inside: list[Any] = [1]
    for _ in range(60):  # 2**60 paths lead to the innermost
        inside = [inside, inside]
    itself: list[Any] = []
    itself.append(itself)
    check_loadable({"deep": inside, "itself": itself})


def test_a_state_that_is_nested_too_deeply_is_an_error() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError, match=r"nested too deeply"):
        check_loadable({"deep": deep})


def test_what_a_program_allows_is_saved() -> None:
    state = {"state_dict": {}, "third": Fraction(1, 3)}
    with pytest.raises(CheckpointError):
        check_loadable(state)
    with torch.serialization.safe_globals([Fraction]):
        check_loadable(state)


# --------------------------------------------------------------------------------------------------------- in a run


class Keeps(Callback):
    def __init__(self, state: Any) -> None:
        self.state = state

    def state_dict(self) -> dict[str, Any]:
        return {"kept": self.state}


class Adds(Callback):
    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["mine"] = {"folder": Path("a")}


class Data(LightningDataModule):
    train_dataloader = staticmethod(loader)

    def state_dict(self) -> dict[str, Any]:
        return {"folder": Path("a")}


class AddsItself(Regression):
    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["activation"] = torch.relu


def fitted(folder: Path, *callbacks: Callback, module: Any = None, **data: Any) -> Trainer:
    trainer = trainer_in(folder, *callbacks, max_epochs=1)
    trainer.fit(module or Regression(), **(data or {"train_dataloaders": loader()}))
    return trainer


CULPRITS: dict[str, tuple[Callable[[Path], Trainer], str]] = {
    "callback": (
        lambda folder: fitted(folder, Keeps(np.float32(1))),
        r'\["callbacks"\]\["Keeps"\]\["kept"\] is a numpy\.float32.* in state_dict\(\) of the callback Keeps',
    ),
    "callback's hook": (
        lambda folder: fitted(folder, Adds()),
        r'\["mine"\]\["folder"\] is a pathlib\.PosixPath.* in on_save_checkpoint\(\)',
    ),
    "module's hook": (
        lambda folder: fitted(folder, module=AddsItself()),
        r'\["activation"\] is a builtin_function_or_method, .*relu.* in on_save_checkpoint\(\)',
    ),
    "datamodule": (
        lambda folder: fitted(folder, datamodule=Data()),
        r'\["datamodule"\]\["folder"\] is a pathlib\.PosixPath.* in state_dict\(\) of the datamodule',
    ),
}


@pytest.mark.parametrize("culprit", CULPRITS)
def test_whoever_adds_what_cannot_be_loaded_is_named_and_the_former_file_stays(culprit: str, tmp_path: Path) -> None:
    make, message = CULPRITS[culprit]
    trainer = make(tmp_path)
    path = tmp_path / "model.ckpt"
    write_checkpoint({"state_dict": {}, "epoch": 1}, path)
    with pytest.raises(CheckpointError, match=message):
        trainer.save_checkpoint(path)
    assert read_checkpoint(path) == {"state_dict": {}, "epoch": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.ckpt"]


def test_settings_that_torch_does_not_load_are_taken_apart_or_left_out_and_the_run_is_saved(tmp_path: Path) -> None:
    class Odd(Regression):
        def __init__(self, nothing: bytes = b"", huge: int = 0, width: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters()

    with pytest.warns(UserWarning, match=r'hparams\["huge"\] is an int of more than 255 bytes'):
        fitted(tmp_path, module=Odd(b"", 2**3000, 7)).save_checkpoint(tmp_path / "model.ckpt")
    loaded = Odd.load_from_checkpoint(tmp_path / "model.ckpt", huge=1)
    assert dict(loaded.hparams) == {"nothing": b"", "huge": 1, "width": 7}


def test_looking_through_a_state_costs_little_of_its_save(tmp_path: Path) -> None:
    net = nn.Sequential(*(nn.Linear(230, 230) for _ in range(160)))
    state = {"state_dict": net.state_dict(), "moments": [[torch.zeros_like(p)] * 2 for p in net.parameters()]}

    def seconds(action: Callable[[], object]) -> float:
        def once() -> float:
            begun = time.process_time()
            action()
            return time.process_time() - begun

        return min(once() for _ in range(5))

    file = tmp_path / "model.ckpt"
    save = seconds(lambda: torch.save(state, file))
    # Measured below 1 %; the rest is for machines that do other things as well.
    assert seconds(lambda: check_loadable(state)) < 0.05 * save
    assert equal(torch.load(file, weights_only=True), state)
