"""LightningModule.load_from_checkpoint: the arguments, the weights, and what is refused."""

import dataclasses
import io
import json
import warnings
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from hookloop import LightningModule
from hookloop.checkpoint_file import where_it_was
from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError

from .fitting import equal, loader, trainer_in


class Net(LightningModule):
    """One layer, of which the test sets every weight."""

    def __init__(self, width: int, bias: bool = True, *, folder: Path | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1, bias=bias)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[1]).pow(2).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05)


def saved(module: LightningModule, folder: Path, **changed: Any) -> Path:
    """A checkpoint of a module that was fitted for an epoch."""
    trainer = trainer_in(folder, max_epochs=1)
    trainer.fit(module, loader())
    path = folder / "file.ckpt"
    trainer.save_checkpoint(path)
    if changed:
        torch.save(torch.load(path, weights_only=True) | changed, path)
    return path


# the arguments and the weights


def test_a_module_is_made_again_with_its_arguments_and_weights(tmp_path: Path) -> None:
    net = Net(3, bias=False, folder=Path("a"))
    loaded = Net.load_from_checkpoint(saved(net, tmp_path))
    assert type(loaded) is Net
    assert loaded.hparams == {"width": 3, "bias": False, "folder": Path("a")}
    assert equal(loaded.state_dict(), net.state_dict())
    assert loaded.training
    assert loaded._trainer is None


@pytest.mark.parametrize("source", ["str", "Path", "file", "bytes in memory"])
def test_it_reads_paths_and_files(source: str, tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path)
    with path.open("rb") as file:
        given: Any = {"str": str(path), "Path": path, "file": file, "bytes in memory": io.BytesIO(path.read_bytes())}[
            source
        ]
        assert Net.load_from_checkpoint(given).hparams.width == 3


def test_keyword_arguments_go_before_those_in_the_file(tmp_path: Path) -> None:
    loaded = Net.load_from_checkpoint(saved(Net(3, folder=Path("a")), tmp_path), folder=Path("b"))
    assert loaded.hparams == {"width": 3, "bias": True, "folder": Path("b")}


def test_settings_that_the_constructor_does_not_take_stay_in_the_file(tmp_path: Path) -> None:
    class Base(Net):
        def __init__(self, width: int, **more: Any) -> None:
            super().__init__(width, **more)

    class Fixed(Base):
        def __init__(self, name: str) -> None:
            super().__init__(3, bias=False)

    fixed = Fixed("a")
    assert fixed.hparams == {"width": 3, "bias": False, "folder": None, "name": "a"}
    assert Fixed.load_from_checkpoint(saved(fixed, tmp_path)).hparams.name == "a"


def test_a_constructor_with_kwargs_gets_all_of_them(tmp_path: Path) -> None:
    class Open(Net):
        def __init__(self, **settings: Any) -> None:
            super().__init__(settings["width"])
            self.settings = settings

    open_ = Open(width=3, extra="x")
    assert Open.load_from_checkpoint(saved(open_, tmp_path), new=1).settings == {
        "width": 3,
        "bias": True,
        "folder": None,
        "extra": "x",
        "new": 1,
    }


def test_positional_only_arguments_are_passed_by_position(tmp_path: Path) -> None:
    class Positional(Net):
        def __init__(self, width: int, /, scale: int = 1) -> None:
            super().__init__(width)
            self.scale = scale

    loaded = Positional.load_from_checkpoint(saved(Positional(3, scale=2), tmp_path))
    assert (loaded.layer.in_features, loaded.scale) == (3, 2)


def test_without_a_constructor_of_its_own_there_are_no_arguments(tmp_path: Path) -> None:
    class Bare(LightningModule):
        def configure_model(self) -> None:
            self.layer = nn.Linear(3, 1)

        def setup(self, stage: str) -> None:
            self.save_hyperparameters({"stage": stage})

        training_step = Net.training_step
        configure_optimizers = Net.configure_optimizers

    bare = Bare()
    assert equal(Bare.load_from_checkpoint(saved(bare, tmp_path)).state_dict(), bare.state_dict())


@dataclasses.dataclass
class Config:
    width: int
    folder: Path = Path("data")


class Configured(Net):
    def __init__(self, config: Any, scale: int = 1) -> None:
        LightningModule.__init__(self)
        self.save_hyperparameters(vars(config) if scale == 7 else config)
        width = config["width"] if isinstance(config, dict) else config.width
        self.layer = nn.Linear(width, 1)
        self.config, self.scale = config, scale


@pytest.mark.parametrize(
    "config",
    [{"width": 3, "folder": Path("a")}, Namespace(width=3, folder=Path("a")), Config(3, Path("a"))],
    ids=["dict", "Namespace", "dataclass"],
)
def test_one_object_comes_back_as_the_kind_that_it_was(config: Any, tmp_path: Path) -> None:
    path = saved(Configured(config), tmp_path)
    loaded = Configured.load_from_checkpoint(path)
    assert type(loaded.config) is type(config)
    assert loaded.config == config
    assert Configured.load_from_checkpoint(path, folder=Path("b"), scale=2).hparams == {"width": 3, "folder": Path("b")}
    assert Configured.load_from_checkpoint(path, folder=Path("b"), scale=2).scale == 2
    assert Configured.load_from_checkpoint(path, config=Config(3)).config == Config(3)


def test_the_vars_of_a_namespace_come_back_as_the_namespace(tmp_path: Path) -> None:
    path = saved(Configured(Namespace(width=3), scale=7), tmp_path)
    assert Configured.load_from_checkpoint(path).config == Namespace(width=3)


def test_an_object_that_a_subclass_passes_on_comes_back_through_its_own_argument(tmp_path: Path) -> None:
    class Renamed(Configured):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings)

    path = saved(Renamed({"width": 3}), tmp_path)
    assert torch.load(path, weights_only=True)["hparams_name"] == "settings"
    assert Renamed.load_from_checkpoint(path).config == {"width": 3}


@pytest.mark.parametrize("order", ["all and then the object", "the object and then all", "the object and then more"])
def test_several_calls_together_make_the_same_module_again(order: str, tmp_path: Path) -> None:
    class Several(Configured):
        def __init__(self, config: Config, scale: int = 1) -> None:
            LightningModule.__init__(self)
            if order == "all and then the object":
                self.save_hyperparameters()
            self.save_hyperparameters(config)
            if order == "the object and then all":
                self.save_hyperparameters()
            if order == "the object and then more":
                self.save_hyperparameters({"seed": 1})
            self.layer = nn.Linear(config.width, 1)
            self.config, self.scale = config, scale

    several = Several(Config(3, Path("a")), scale=2)
    loaded = Several.load_from_checkpoint(saved(several, tmp_path))
    assert loaded.config == Config(3, Path("a"))
    assert loaded.scale == (1 if order == "the object and then more" else 2)
    assert loaded.hparams == several.hparams


def test_changed_settings_are_those_that_it_is_made_with(tmp_path: Path) -> None:
    net = Net(3)
    net.hparams.folder = Path("later")
    assert Net.load_from_checkpoint(saved(net, tmp_path)).hparams.folder == Path("later")


# configure_model, on_load_checkpoint, strictness


def test_the_order_is_constructor_configure_model_on_load_checkpoint_weights(tmp_path: Path) -> None:
    class Ordered(Net):
        def __init__(self, width: int) -> None:
            LightningModule.__init__(self)
            self.save_hyperparameters()
            self.calls = ["__init__"]

        def configure_model(self) -> None:
            self.calls.append("configure_model")
            self.layer = nn.Linear(self.hparams.width, 1)

        def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
            self.calls.append("on_load_checkpoint")
            checkpoint["state_dict"] = {name: torch.ones_like(old) for name, old in checkpoint["state_dict"].items()}

        def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
            self.calls.append("load_state_dict")
            return super().load_state_dict(*args, **kwargs)

    loaded = Ordered.load_from_checkpoint(saved(Ordered(3), tmp_path))
    assert loaded.calls == ["__init__", "configure_model", "on_load_checkpoint", "load_state_dict"]
    assert loaded.layer.weight.tolist() == [[1.0, 1.0, 1.0]]


class Taller(Net):
    """Has a layer that the checkpoint lacks, and lacks the bias that it has."""

    def __init__(self, width: int, strict: bool | None = None) -> None:
        super().__init__(width, bias=False)
        self.head = nn.Linear(1, 1, bias=False)
        if strict is not None:
            self.strict_loading = strict


MISFIT = (
    r"(?s)The checkpoint's weights do not fit Taller\..*Missing key\(s\) in state_dict: \"head\.weight\".*"
    r"Unexpected key\(s\) in state_dict: \"layer\.bias\".*strict=False"
)
MISSING = (
    r"Taller was loaded without weights that the checkpoint lacks, and which stay as they were made: head\.weight\."
)
UNEXPECTED = r"Taller was loaded without weights that only the checkpoint has, and which are not loaded: layer\.bias\."


@pytest.mark.parametrize("arguments", [{}, {"strict": True}])
def test_weights_that_do_not_fit_are_an_error_that_names_them(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=MISFIT):
        Taller.load_from_checkpoint(saved(Net(3), tmp_path), **arguments)


@pytest.mark.parametrize("how", ["strict=False", "strict_loading = False"])
def test_without_strictness_they_are_warned_of(how: str, tmp_path: Path) -> None:
    class Lenient(Taller):
        _strict_loading = False if how == "strict_loading = False" else None

    Lenient.__name__ = "Taller"
    net = Net(3)
    path = saved(net, tmp_path)
    with pytest.warns(UserWarning, match=MISSING), pytest.warns(UserWarning, match=UNEXPECTED):
        loaded = Lenient.load_from_checkpoint(path, strict=False if how == "strict=False" else None)
    assert torch.equal(loaded.layer.weight, net.layer.weight)


@pytest.mark.parametrize("strict", [True, False])
def test_strict_that_contradicts_the_modules_strict_loading_is_refused(strict: bool, tmp_path: Path) -> None:
    class Set(Net):
        def __init__(self, width: int) -> None:
            super().__init__(width)
            self.strict_loading = not strict

    path = saved(Set(3), tmp_path)
    message = rf"Set\.load_from_checkpoint\(strict={strict}\) contradicts Set\.strict_loading, which is {not strict}\."
    with pytest.raises(MisconfigurationError, match=message):
        Set.load_from_checkpoint(path, strict=strict)
    assert Set.load_from_checkpoint(path, strict=not strict).hparams.width == 3


def test_a_shape_that_does_not_fit_is_an_error_in_any_case(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path)
    for strict in (True, False):
        with pytest.raises(CheckpointError, match=r"(?s)do not fit Net\..*size mismatch for layer\.weight"):
            Net.load_from_checkpoint(path, width=4, strict=strict)


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_strict_loading_holds_for_the_trainers_ckpt_path_too(entry: str, tmp_path: Path) -> None:
    class Evaluated(Taller):
        def validation_step(self, batch: Any, batch_idx: int) -> None: ...

        def test_step(self, batch: Any, batch_idx: int) -> None: ...

        def predict_step(self, batch: Any, batch_idx: int) -> None: ...

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.layer.parameters(), lr=0.05)

    Evaluated.__name__ = "Taller"
    path = saved(Net(3), tmp_path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["optimizer_states"][0]["param_groups"][0]["params"] = [0]
    torch.save(checkpoint, path)
    trainer = trainer_in(tmp_path)
    with pytest.raises(CheckpointError, match=MISFIT):
        getattr(trainer, entry)(Evaluated(3), loader(), ckpt_path=path)
    trainer = trainer_in(tmp_path)
    with pytest.warns(UserWarning, match=MISSING), pytest.warns(UserWarning, match=UNEXPECTED):
        getattr(trainer, entry)(Evaluated(3, strict=False), loader(), ckpt_path=path)


def test_strict_loading_is_true_or_false() -> None:
    assert Net(3).strict_loading is True
    with pytest.raises(MisconfigurationError, match=r"strict_loading='no' \(str\) is neither True nor False"):
        Net(3).strict_loading = "no"  # type: ignore[assignment]


# devices


def test_the_module_goes_where_map_location_sends_the_weights(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path)
    assert Net.load_from_checkpoint(path, map_location="cpu").device == torch.device("cpu")
    assert Net.load_from_checkpoint(path, map_location=lambda storage, place: storage).device == torch.device("cpu")


def test_weights_of_a_device_that_is_not_here_go_to_the_cpu() -> None:
    storage = torch.ones(2).untyped_storage()
    assert where_it_was(storage, "cpu") is None
    assert where_it_was(storage, f"cuda:{torch.cuda.device_count()}").device == torch.device("cpu")
    assert where_it_was(storage, "xla:0").device == torch.device("cpu")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("gpu7", r"map_location='gpu7' is no device \(.*\)\. Give a device"),
        (3.5, r"map_location=3\.5 is no device"),
        ("cuda:99", r"map_location='cuda:99': this machine has \d+ CUDA device\(s\)"),
    ],
)
def test_a_map_location_that_is_no_device_is_refused(place: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Net.load_from_checkpoint(tmp_path / "none.ckpt", map_location=place)


# what is refused


def test_on_an_instance_it_is_refused(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path)
    message = r"Net\.load_from_checkpoint was called on an instance, and it makes a new one.*new = Net\.load_from"
    with pytest.raises(MisconfigurationTypeError, match=message):
        Net(3).load_from_checkpoint(path)
    assert "constructed with the hyperparameters" in (Net(3).load_from_checkpoint.__doc__ or "")


def test_an_argument_that_nobody_has_is_named(tmp_path: Path) -> None:
    class Unsaved(Net):
        def __init__(self, width: int, criterion: nn.Module, name: str) -> None:
            super().__init__(width)
            self.save_hyperparameters("width", ignore=["criterion", "name"])

    with pytest.warns(UserWarning, match="is a module"):  # of Net's constructor, which does not know what is ignored
        path = saved(Unsaved(3, nn.MSELoss(), "a"), tmp_path)
    message = (
        r"Unsaved\.__init__ needs criterion, name, and the checkpoint has width, bias, folder\. Pass what is missing: "
        r"Unsaved\.load_from_checkpoint\(path, criterion=\.\.\., name=\.\.\.\)\..*self\.save_hyperparameters\(\)"
    )
    with pytest.raises(CheckpointError, match=message):
        Unsaved.load_from_checkpoint(path)
    with pytest.warns(UserWarning, match="is a module"):
        assert Unsaved.load_from_checkpoint(path, criterion=nn.MSELoss(), name="b").hparams.width == 3


def test_a_file_without_settings_says_so(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path, hyper_parameters={})
    with pytest.raises(
        CheckpointError, match=r"Net\.__init__ needs width, and the checkpoint has no hyperparameters\."
    ):
        Net.load_from_checkpoint(path)
    assert Net.load_from_checkpoint(path, width=3).layer.in_features == 3


def test_an_argument_that_was_left_out_has_to_be_passed_even_if_it_has_a_default(tmp_path: Path) -> None:
    class Criterion(Net):
        def __init__(self, width: int, criterion: Any = None) -> None:
            super().__init__(width)
            self.criterion = criterion

    with pytest.warns(UserWarning, match="is a module"):
        path = saved(Criterion(3, nn.MSELoss()), tmp_path)
    message = (
        r"saved without criterion \(a torch\.nn\.modules\.loss\.MSELoss\).*"
        r"Criterion\.load_from_checkpoint\(path, criterion=\.\.\.\)"
    )
    with pytest.raises(CheckpointError, match=message):
        Criterion.load_from_checkpoint(path)
    assert Criterion.load_from_checkpoint(path, criterion=None).criterion is None


def test_a_misspelt_argument_is_refused(tmp_path: Path) -> None:
    message = (
        r"Net\.load_from_checkpoint got widht=, and Net\.__init__ takes no such argument; "
        r"it takes width, bias, folder\. Did you mean width\?"
    )
    with pytest.raises(MisconfigurationTypeError, match=message):
        Net.load_from_checkpoint(saved(Net(3), tmp_path), widht=4)


def test_a_misspelt_field_of_a_dataclass_is_refused(tmp_path: Path) -> None:
    message = (
        r"Configured\.load_from_checkpoint got fodler=, which is neither an argument of Configured\.__init__ "
        r"\(config, scale\) nor a field of config \(width, folder\)\."
    )
    with pytest.raises(MisconfigurationTypeError, match=message):
        Configured.load_from_checkpoint(saved(Configured(Config(3)), tmp_path), fodler=Path("b"))


def test_a_dict_may_get_items_that_it_had_not(tmp_path: Path) -> None:
    path = saved(Configured({"width": 3}), tmp_path)
    assert Configured.load_from_checkpoint(path, depth=2).config == {"width": 3, "depth": 2}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("no such.ckpt", r"There is no checkpoint .*no such\.ckpt"),
        ("gopher://example.com/a.ckpt", r"gopher://example\.com/a\.ckpt has the protocol 'gopher', which fsspec does"),
        (7, r"A checkpoint cannot be read from 7 \(int\)\. Give a path, or a binary file object"),
        (io.BytesIO(b"nothing"), r"cannot be"),
        (io.StringIO("nothing"), r"cannot be"),
    ],
    ids=["missing", "URL", "int", "damaged", "text"],
)
def test_what_is_no_checkpoint_is_refused(source: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        Net.load_from_checkpoint(source)


def test_a_file_that_holds_code_is_loaded_if_one_trusts_it(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path, extra=torch.nn.Identity())
    with pytest.raises(CheckpointError, match=r"it holds a torch\.nn.*\.Identity.*pass weights_only=False"):
        Net.load_from_checkpoint(path)
    assert Net.load_from_checkpoint(path, weights_only=False).hparams.width == 3


def test_a_class_that_is_not_imported_is_named_and_can_be_passed(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path, hyper_parameters_kinds={("folder",): "enum other.module:Folder"})
    message = (
        r"hparams\[\"folder\"\].*other\.module\.Folder is not imported.*load_from_checkpoint\(\.\.\., folder=\.\.\.\)"
    )
    with pytest.raises(CheckpointError, match=message):
        Net.load_from_checkpoint(path)
    assert Net.load_from_checkpoint(path, folder=None).hparams.folder is None


def test_settings_that_are_no_dict_are_refused(tmp_path: Path) -> None:
    path = saved(Net(3), tmp_path, hyper_parameters=[3])
    with pytest.raises(CheckpointError, match=r'"hyper_parameters" is a list, and a dict of settings is expected'):
        Net.load_from_checkpoint(path)


# a file of Lightning's


def test_a_file_that_lightning_wrote_is_loaded(tmp_path: Path) -> None:
    # The keys of lightning 2.6.6's Trainer.save_checkpoint, and what it puts there for such a module.
    weights = {"layer.weight": torch.tensor([[1.0, 2.0, 3.0]]), "layer.bias": torch.tensor([4.0])}
    checkpoint = {
        "epoch": 0,
        "global_step": 5,
        "pytorch-lightning_version": "2.6.6",
        "state_dict": weights,
        "loops": json.loads("{}"),
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 3, "bias": True, "folder": None},
    }
    torch.save(checkpoint, tmp_path / "file.ckpt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Net.load_from_checkpoint(tmp_path / "file.ckpt")
    assert equal(dict(loaded.state_dict()), weights)
