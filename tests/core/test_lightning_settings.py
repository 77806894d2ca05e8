"""What else is in a file of Lightning's: settings of modules and datamodules, states of callbacks."""

import sys
import warnings
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import hookloop
from hookloop import Callback, Trainer
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import CheckpointError

from .lightning_files.resume import FOLDER, NEWEST, QUIET, module_of, resumed
from .lightning_files.scenarios import Counting, Data, OfOneObject, Settled, loader, of

# settings


def test_settings_come_over_with_namespaces_and_paths() -> None:
    module = of(hookloop, Settled).load_from_checkpoint(NEWEST / "settings.ckpt")
    assert module.args == Namespace(rate=0.1, depth=2)
    assert module.folder == Path("data/here")
    assert module.hparams.width == 3


def test_the_weights_are_those_of_the_file() -> None:
    saved = read_checkpoint(NEWEST / "settings.ckpt")["state_dict"]
    module = of(hookloop, Settled).load_from_checkpoint(NEWEST / "settings.ckpt")
    assert all(torch.equal(value, saved[name]) for name, value in module.state_dict().items())


def test_an_argument_goes_before_what_the_file_says() -> None:
    module = of(hookloop, Settled).load_from_checkpoint(NEWEST / "settings.ckpt", folder=Path("elsewhere"))
    assert module.folder == Path("elsewhere")


def test_settings_that_were_one_object_have_attributes_again() -> None:
    # Lightning does not say that it was a Namespace, and hands a dict to the constructor.
    module = of(hookloop, OfOneObject).load_from_checkpoint(NEWEST / "one_object.ckpt")
    assert module.rate == 0.25
    assert module.hparams == {"rate": 0.25}
    module = of(hookloop, OfOneObject).load_from_checkpoint(NEWEST / "one_object.ckpt", rate=0.5)
    assert module.rate == 0.5


def test_a_datamodule_gets_its_own_settings() -> None:
    data = of(hookloop, Data, "LightningDataModule").load_from_checkpoint(NEWEST / "settings.ckpt")
    assert data.hparams == {"size": 5}


def file_with(folder: Path, **settings: Any) -> Path:
    checkpoint = torch.load(NEWEST / "epoch_end.ckpt")
    path = folder / "file.ckpt"
    torch.save({**checkpoint, "hparams_name": "kwargs", "hyper_parameters": settings}, path)
    return path


def test_an_object_among_the_settings_is_refused_with_words(tmp_path: Path) -> None:
    path = file_with(tmp_path, width=torch.nn.MSELoss())
    with pytest.raises(CheckpointError, match=r"holds a torch\.nn\.modules\.loss\.MSELoss\).*pass weights_only=False"):
        of(hookloop, Settled).load_from_checkpoint(path)
    module = of(hookloop, Settled).load_from_checkpoint(path, weights_only=False)
    assert isinstance(module.hparams.width, torch.nn.MSELoss)


def test_a_dict_with_attributes_of_lightnings_becomes_a_dict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("lightning.fabric.utilities.data")
    kind = type("AttributeDict", (dict,), {"__module__": library.__name__})
    library.AttributeDict = kind  # type: ignore[attr-defined]
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, library.__name__, library)
    path = file_with(tmp_path, args=kind(rate=1, inner=kind(depth=2)))
    monkeypatch.undo()
    module = of(hookloop, Settled).load_from_checkpoint(path)
    assert type(module.args) is dict
    assert module.args == {"rate": 1, "inner": {"depth": 2}}


def test_an_object_of_a_package_that_is_not_here_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = ModuleType("absent_library")
    kind = type("Thing", (), {"__module__": library.__name__})
    library.Thing = kind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, library.__name__, library)
    path = file_with(tmp_path, width=kind())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"holds a absent_library\.Thing"):
        read_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"holds objects of absent_library, which is not installed\. Install it"):
        read_checkpoint(path, weights_only=False)


def test_settings_of_omegaconf_are_refused_and_then_taken_at_ones_word(tmp_path: Path) -> None:
    omegaconf = pytest.importorskip("omegaconf")
    config = omegaconf.OmegaConf.create({"rate": 0.5, "twice": "${rate}"})
    checkpoint = torch.load(NEWEST / "one_object.ckpt")
    torch.save({**checkpoint, "hyper_parameters": config, "hparams_type": type(config)}, tmp_path / "file.ckpt")
    with pytest.raises(CheckpointError, match=r"holds a omegaconf\.dictconfig\.DictConfig"):
        of(hookloop, OfOneObject).load_from_checkpoint(tmp_path / "file.ckpt")
    module = of(hookloop, OfOneObject).load_from_checkpoint(tmp_path / "file.ckpt", weights_only=False)
    assert module.rate == 0.5
    assert module.hparams.twice == 0.5


# callbacks


class Keeps(Callback):
    """Keeps the state that it is given."""

    given: dict[str, Any] | None = None

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.given = state_dict

    def state_dict(self) -> dict[str, Any]:
        return {"kept": True}


class ModelCheckpoint(Keeps):
    """Of the name of Lightning's, with settings that tell instances apart."""

    def __init__(self, monitor: str | None = None, mode: str = "min", every_n_epochs: int = 1) -> None:
        self.monitor, self.mode, self.every_n_epochs = monitor, mode, every_n_epochs

    @property
    def state_key(self) -> str:
        return f"ModelCheckpoint[{self.monitor}, {self.mode}, {self.every_n_epochs}]"


class EarlyStopping(Keeps):
    """Of the name of Lightning's, and nothing else."""


def test_callbacks_of_the_same_names_get_their_states_in_plain_numbers() -> None:
    checkpoint, stopping = ModelCheckpoint("val_loss"), EarlyStopping()
    counting = of(hookloop, Counting, "Callback")()
    _, _, told = resumed("callbacks", callbacks=[checkpoint, stopping, counting])
    assert len(told) == 1  # what Lightning does not save; nobody's state is left over
    saved = torch.load(NEWEST / "callbacks.ckpt")["callbacks"]
    [of_checkpoint] = [state for key, state in saved.items() if key.startswith("ModelCheckpoint")]
    [of_stopping] = [state for key, state in saved.items() if key.startswith("EarlyStopping")]
    assert checkpoint.given is not None
    assert stopping.given is not None
    assert checkpoint.given["mode"] == "min"  # which Lightning has in the key alone
    score = of_checkpoint["best_model_score"].item()
    assert (checkpoint.given["best_model_score"], checkpoint.given["monitor"]) == (score, "val_loss")
    [(path, best)] = of_checkpoint["best_k_models"].items()
    assert checkpoint.given["best_k_models"] == {path: best.item()}
    assert checkpoint.given["best_model_path"] == path
    assert (stopping.given["patience"], stopping.given["wait_count"]) == (7, of_stopping["wait_count"])
    assert not [value for value in (*checkpoint.given.values(), *stopping.given.values()) if isinstance(value, Tensor)]
    assert counting.batches.item() == 20  # ten of them were counted in Lightning; it got its tensor


@pytest.mark.parametrize("folder", ["v2_0", "v2_2", "v2_4"])
def test_states_that_an_older_lightning_kept_are_sorted_too(folder: str) -> None:
    checkpoint, stopping = ModelCheckpoint("val_loss"), EarlyStopping()
    counting = of(hookloop, Counting, "Callback")()
    _, _, told = resumed("callbacks", FOLDER / folder, callbacks=[checkpoint, stopping, counting])
    assert len(told) == 1
    assert checkpoint.given is not None
    assert stopping.given is not None
    assert counting.batches.item() == 20


def test_of_two_callbacks_of_a_class_the_one_with_the_settings_gets_the_state() -> None:
    wrong, right = ModelCheckpoint("loss"), ModelCheckpoint("val_loss")
    resumed("callbacks", callbacks=[wrong, right])
    assert wrong.given is None
    assert right.given is not None


def test_a_setting_that_changed_does_not_lose_the_state() -> None:
    changed = ModelCheckpoint("val_loss", every_n_epochs=3)
    resumed("callbacks", callbacks=[changed])
    assert changed.given is not None
    assert changed.given["every_n_epochs"] == 1  # what the state was made with


def test_a_state_that_could_be_of_two_is_named_and_given_to_none() -> None:
    one, other = ModelCheckpoint("val_loss", every_n_epochs=3), ModelCheckpoint("val_loss", every_n_epochs=5)
    _, _, told = resumed("callbacks", callbacks=[one, other])
    assert one.given is None
    assert other.given is None
    assert any("states of callbacks that are not in this run" in line and "ModelCheckpoint{" in line for line in told)


def test_states_of_callbacks_that_are_not_here_are_named() -> None:
    _, _, told = resumed("callbacks")
    [line] = [line for line in told if "states of callbacks that are not in this run" in line]
    assert "EarlyStopping{'monitor': 'val_loss', 'mode': 'min'}" in line
    assert "Counting" in line


def test_a_key_with_a_time_in_it_is_read_as_its_class(tmp_path: Path) -> None:
    checkpoint = torch.load(NEWEST / "callbacks.ckpt")
    key = "ModelCheckpoint{'monitor': None, 'train_time_interval': datetime.timedelta(seconds=60)}"
    checkpoint["callbacks"] = {key: {"last_model_path": "there.ckpt"}}
    torch.save(checkpoint, tmp_path / "callbacks.ckpt")
    mine = ModelCheckpoint()
    resumed("callbacks", tmp_path, callbacks=[mine])
    assert mine.given == {"last_model_path": "there.ckpt"}


def test_what_is_not_called_as_lightning_calls_it_is_nobodys(tmp_path: Path) -> None:
    # A key with a brace that is no dict: neither run nor looked into.
    checkpoint = torch.load(NEWEST / "callbacks.ckpt")
    checkpoint["callbacks"] = {"ModelCheckpoint{__import__('os').abort()}": {"x": 1}, "a b{}": {"y": 1}}
    torch.save(checkpoint, tmp_path / "callbacks.ckpt")
    mine = ModelCheckpoint()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        Trainer(max_epochs=2, callbacks=[mine], **QUIET).fit(
            module_of("callbacks"), loader(), ckpt_path=tmp_path / "callbacks.ckpt"
        )
    assert mine.given == {"x": 1}
