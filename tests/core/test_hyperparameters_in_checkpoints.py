"""What a checkpoint holds of hyperparameters: all of it loads safely, and comes back as what it was."""

import argparse
import dataclasses
import datetime
import enum
import functools
import re
import sys
import types
import warnings
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from hookloop import LightningDataModule, LightningModule
from hookloop.errors import CheckpointError
from hookloop.hyperparameters import AttributeDict
from hookloop.hyperparameters.portable import NotPortableError, from_portable, to_portable, written

from .fitting import Regression, Saves, equal, loader, trainer_in


class Speed(enum.Enum):
    FAST = 1
    SLOW = "s"


class Level(enum.IntEnum):
    LOW = 1


class Color(str, enum.Enum):  # noqa: UP042 - code written before StrEnum does so
    RED = "red"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Inner:
    folder: Path
    speed: Speed = Speed.FAST


@dataclasses.dataclass(frozen=True)
class Config:
    inner: Inner
    sizes: tuple[int, ...] = (1, 2)


@dataclasses.dataclass(slots=True)
class Slots:
    a: int = 1


class Text(str):
    pass


class Net(Regression):
    """Its hyperparameters are whatever it is given."""

    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="configure")


class Data(LightningDataModule):
    def __init__(self, folder: Path = Path("data"), batch_size: int = 4) -> None:
        super().__init__()
        self.save_hyperparameters()

    def train_dataloader(self) -> Any:
        return loader()


VALUES: list[Any] = [
    None,
    True,
    3,
    2**70,
    0.1,
    float("inf"),
    1 + 2j,
    "text \ud800",
    b"bytes",
    [1, [2, ()]],
    (0.9, 0.999),
    {1, "a"},
    frozenset({1, 2}),
    {"a": {2: None}, (1, "b"): [3]},
    OrderedDict(b=1, a=Speed.SLOW),
    Counter("aab"),
    deque([1, 2], maxlen=2),
    range(1, 9, 2),
    slice(1, None),
    Path("data") / "x.csv",
    Speed.SLOW,
    Level.LOW,
    Color.RED,
    Rights.READ | Rights.WRITE,
    {Speed.FAST},
    Pair(1, Path("a")),
    Config(Inner(Path("b"), Speed.SLOW)),
    Slots(5),
    argparse.Namespace(a=1, b=Path("c")),
    AttributeDict(a=1, b={"c": Speed.FAST}),
    datetime.timedelta(days=1, seconds=2, microseconds=3),
    datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 12, 30, tzinfo=datetime.UTC),
    torch.bfloat16,
    torch.device("cuda", 1),
    torch.Size([2, 3]),
    torch.strided,
    nn.ReLU,
    torch.optim.AdamW,
    torch.optim.lr_scheduler.CosineAnnealingLR,
    nn.functional.relu,
    nn.functional.gelu,
    torch.tanh,
]


@pytest.mark.parametrize("value", VALUES, ids=[f"{type(value).__name__} {at}" for at, value in enumerate(VALUES)])
def test_a_value_comes_back_as_what_it_was_from_a_file_that_loads_safely(value: Any, tmp_path: Path) -> None:
    plain, kinds = to_portable({"outer": [value]})
    torch.save((plain, kinds), tmp_path / "file")
    loaded, loaded_kinds = torch.load(tmp_path / "file", weights_only=True)
    (back,) = from_portable(loaded, loaded_kinds)["outer"]
    assert back == value
    assert type(back) is type(value)


def test_tensors_arrays_and_partials_come_back_too(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    values = {
        "tensor": torch.arange(3),
        "parameter": nn.Parameter(torch.ones(2)),
        "array": numpy.arange(6.0).reshape(2, 3),
        "partial": functools.partial(torch.optim.Adam, lr=0.1, betas=(0.5, 0.9)),
    }
    torch.save(to_portable(values), tmp_path / "file")
    back = from_portable(*torch.load(tmp_path / "file", weights_only=True))
    assert torch.equal(back["tensor"], torch.tensor([0, 1, 2]))
    assert type(back["parameter"]) is nn.Parameter
    assert type(back["array"]) is numpy.ndarray
    assert back["array"].tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert back["partial"].func is torch.optim.Adam
    assert back["partial"].keywords == {"lr": 0.1, "betas": (0.5, 0.9)}


def test_numbers_of_numpy_become_pythons() -> None:
    numpy = pytest.importorskip("numpy")
    plain, kinds = to_portable([numpy.float32(0.5), numpy.int64(3), numpy.bool_(True)])
    assert plain == [0.5, 3, True]
    assert [type(number) for number in plain] == [float, int, bool]
    assert kinds == {}


def test_subclasses_of_plain_types_become_what_they_inherit_from() -> None:
    plain, kinds = to_portable(
        {"text": Text("a"), "default": defaultdict(int, a=1), "proxy": types.MappingProxyType({"b": 2})}
    )
    assert plain == {"text": "a", "default": {"a": 1}, "proxy": {"b": 2}}
    assert [type(value) for value in plain.values()] == [str, dict, dict]
    assert kinds == {}


def test_of_a_view_the_file_holds_the_view_alone() -> None:
    plain, _ = to_portable(torch.zeros(1000)[:2])
    assert plain.untyped_storage().nbytes() == 8


def local_class() -> Any:
    class Local(enum.Enum):
        A = 1

    return Local.A


def circle() -> list[Any]:
    values: list[Any] = []
    values.append(values)
    return values


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (nn.MSELoss(), r"a torch\.nn\.modules\.loss\.MSELoss"),
        (lambda x: x, r"a function, .*<lambda>"),
        (len, r"a builtin_function_or_method"),
        (torch.load, r"a function, torch\.serialization\.load"),
        (Net, r"a class, .*Net"),
        (int, r"a class, builtins\.int"),
        (object(), r"a object"),
        (local_class(), r"a .*Local"),
        (circle(), r"a list that contains itself"),
        ({Speed.FAST: 1}, r"a dict with the key <Speed\.FAST: 1> \(Speed\)"),
        (functools.partial(print), r"a builtin_function_or_method"),
        (torch.Generator(), r"a torch\._C\.Generator"),
    ],
)
def test_what_no_file_can_hold_is_named_with_its_place(value: Any, why: str) -> None:
    with pytest.raises(NotPortableError) as raised:
        to_portable({"optimizer": {"betas": (1, value)}})
    assert written(raised.value.place).startswith('hparams["optimizer"]["betas"][1]')
    assert re.fullmatch(why, raised.value.why)


def test_a_file_cannot_choose_a_class_or_a_function_that_is_no_setting() -> None:
    for kind, plain in [
        ("torch torch:load", "torch.load"),
        ("torch os:system", "os.system"),
        (f"torch {__name__}:Net", f"{__name__}.Net"),
        (f"enum {__name__}:Net", "FAST"),
        (f"dataclass {__name__}:Net", {}),
        (f"namedtuple {__name__}:Config", [1]),
        ("dataclass a_module_that_nobody_imported:Config", {}),
        ("unheard of", 1),
    ]:
        with pytest.raises(
            CheckpointError, match=r"hparams of the checkpoint was of the kind '.*', and cannot be made"
        ):
            from_portable(plain, {(): kind})
    assert "a_module_that_nobody_imported" not in sys.modules


def test_a_dataclass_is_put_together_without_its_constructor() -> None:
    def ran(self: Any) -> None:
        raise AssertionError

    plain, kinds = to_portable(Config(Inner(Path("a"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Config, "__post_init__", ran, raising=False)
        back = from_portable(plain, kinds)
    assert back == Config(Inner(Path("a")))


def test_a_dataclass_that_has_changed_gets_the_defaults_of_its_new_fields() -> None:
    plain = {"inner": None}
    assert from_portable(plain, {(): f"dataclass {__name__}:Config"}) == Config(None)  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match="its field inner is not there; it has inner, sizes now"):
        from_portable({"sizes": (1,)}, {(): f"dataclass {__name__}:Config"})


def test_classes_of_a_program_are_found_where_it_is_imported_from() -> None:
    assert from_portable("FAST", {(): "enum __main__:Speed"}, (), __name__) is Speed.FAST


# in a run


def saved(module: LightningModule, folder: Path, **arguments: Any) -> dict[str, Any]:
    trainer = trainer_in(folder, max_epochs=1)
    trainer.fit(module, **(arguments or {"train_dataloaders": loader()}))
    trainer.save_checkpoint(folder / "file.ckpt")
    checkpoint: dict[str, Any] = torch.load(folder / "file.ckpt", weights_only=True)
    return checkpoint


def test_a_checkpoint_has_the_settings_under_lightnings_keys(tmp_path: Path) -> None:
    checkpoint = saved(Net(lr=0.1, folder=Path("a")), tmp_path, datamodule=Data())
    assert checkpoint["hyper_parameters"] == {"lr": 0.1, "folder": "a"}
    assert checkpoint["hparams_name"] == "kwargs"
    assert checkpoint["hyper_parameters_kinds"] == {("folder",): "path"}
    assert checkpoint["datamodule_hyper_parameters"] == {"folder": "data", "batch_size": 4}
    assert checkpoint["datamodule_hparams_name"] == "kwargs"
    assert type(checkpoint["hyper_parameters"]) is dict


def test_without_settings_a_checkpoint_has_none_of_the_keys(tmp_path: Path) -> None:
    checkpoint = saved(Regression(), tmp_path)
    assert [key for key in checkpoint if "hparams" in key or "hyper" in key] == []


def test_settings_that_were_changed_are_saved_as_they_are_then(tmp_path: Path) -> None:
    module = Net(lr=0.1)
    module.hparams.lr = 0.5
    module.hparams["seed"] = 7
    assert saved(module, tmp_path)["hyper_parameters"] == {"lr": 0.5, "seed": 7}
    assert module.hparams_initial == {"lr": 0.1}


def test_a_checkpoint_of_weights_alone_has_them_too(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, max_epochs=1)
    trainer.fit(Net(lr=0.1), loader())
    trainer.save_checkpoint(tmp_path / "file.ckpt", weights_only=True)
    assert torch.load(tmp_path / "file.ckpt", weights_only=True)["hyper_parameters"] == {"lr": 0.1}


def test_on_save_checkpoint_sees_the_settings_and_may_change_them(tmp_path: Path) -> None:
    class Sees(Net):
        def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            checkpoint["hyper_parameters"]["lr"] *= 2

    assert saved(Sees(lr=0.1), tmp_path)["hyper_parameters"] == {"lr": 0.2}


LEFT_OUT = (
    r'(?s)Net: hparams\["optimizer"\]\["criterion"\] is a torch\.nn\.modules\.loss\.MSELoss, which .* cannot hold.*'
    r'They hold None, numbers, .*hparams\["optimizer"\] is left out of checkpoints, and Net\.load_from_checkpoint '
    r"will ask for it \(optimizer=\.\.\.\).*self\.save_hyperparameters\(ignore=\['optimizer'\]\)"
)


def bad() -> dict[str, Any]:
    return {"criterion": nn.MSELoss(), "lr": 0.1}


def test_what_no_file_can_hold_is_said_before_the_first_batch_and_once(tmp_path: Path) -> None:
    class Checkpoints(Saves):
        family = "checkpoint"

    module = Net(optimizer=bad(), lr=0.1)
    marks: list[list[str]] = []
    show: Callable[..., None] = lambda message, *rest: marks.append(list(module.marks))  # noqa: E731
    with warnings.catch_warnings():
        warnings.filterwarnings("always", message=LEFT_OUT)
        warnings.showwarning = show
        trainer = trainer_in(tmp_path, Checkpoints("on_train_epoch_end", tmp_path / "file.ckpt"))
        trainer.fit(module, loader())
        trainer.save_checkpoint(tmp_path / "again.ckpt")
    assert marks == [[]]
    checkpoint = torch.load(tmp_path / "file.ckpt", weights_only=True)
    assert checkpoint["hyper_parameters"] == {"lr": 0.1}
    assert checkpoint["hyper_parameters_left_out"] == {"optimizer": "a torch.nn.modules.loss.MSELoss"}


def test_a_run_that_writes_no_checkpoint_hears_nothing_of_it(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        trainer = trainer_in(tmp_path, max_epochs=1)
        trainer.fit(Net(optimizer=bad()), loader())
    with pytest.warns(UserWarning, match=LEFT_OUT):
        trainer.save_checkpoint(tmp_path / "file.ckpt")


def test_a_setting_that_raises_when_it_is_looked_at_costs_no_checkpoint(tmp_path: Path) -> None:
    class Broken(Mapping[str, Any]):
        def __getitem__(self, key: str) -> Any:
            raise KeyError("no connection")

        def __iter__(self) -> Any:
            return iter(["a"])

        def __len__(self) -> int:
            return 1

    message = r'hparams\["remote"\] is a Broken that cannot be read \(KeyError: .no connection.\), which a checkpoint'
    with pytest.warns(UserWarning, match=message):
        checkpoint = saved(Net(lr=0.1, remote=Broken()), tmp_path)
    assert checkpoint["hyper_parameters"] == {"lr": 0.1}


def test_what_is_left_out_costs_the_run_nothing(tmp_path: Path) -> None:
    def trained(**settings: Any) -> dict[str, Any]:
        trainer = trainer_in(tmp_path)
        trainer.fit(Net(**settings), loader())
        trainer.save_checkpoint(tmp_path / "file.ckpt")
        resumed = trainer_in(tmp_path, max_epochs=3)
        resumed.fit(Net(**settings), loader(), ckpt_path=tmp_path / "file.ckpt")
        assert resumed.lightning_module is not None
        return resumed.lightning_module.state_dict()

    with pytest.warns(UserWarning, match="is left out"):
        weights = trained(optimizer=bad())
    assert equal(weights, trained())
