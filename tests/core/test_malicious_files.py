"""Files that were made to run code: as pickles, and as strings that name what should be imported or called."""

import io
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import fsspec
import pytest
import torch

from hookloop import Callback, LightningDataModule
from hookloop.checkpoint_file import read_checkpoint, verify_checkpoint
from hookloop.errors import CheckpointError, MisconfigurationError

from .fitting import Regression, loader, trainer_in


class Malicious:
    """Leaves a file behind as soon as it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.touch, (self.victim,)


class Settings(Regression):
    """A module that takes any settings."""

    def __init__(self, width: int = 3, **others: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


class Data(LightningDataModule):
    """A datamodule that takes any settings."""

    def __init__(self, width: int = 3, **others: Any) -> None:
        super().__init__()
        self.save_hyperparameters()


class Tally(Callback):
    def state_dict(self) -> dict[str, Any]:
        return {"batches": 1}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """What is there if code has run."""
    return tmp_path / "victim"


def good(folder: Path) -> dict[str, Any]:
    """What a checkpoint of a run holds that was resumed from nothing bad."""
    trainer = trainer_in(folder, Tally(), max_epochs=1)
    trainer.fit(Settings(3), loader())
    trainer.save_checkpoint(folder / "good.ckpt")
    return read_checkpoint(folder / "good.ckpt") | {"datamodule_hyper_parameters": {"width": 3}}


WAYS_IN: dict[str, Callable[[str], object]] = {
    "fit": lambda path: trainer_in(Path(), Tally()).fit(Settings(), loader(), ckpt_path=path),
    "validate": lambda path: trainer_in(Path()).validate(Settings(), loader(), ckpt_path=path, verbose=False),
    "test": lambda path: trainer_in(Path()).test(Settings(), loader(), ckpt_path=path, verbose=False),
    "predict": lambda path: trainer_in(Path()).predict(Settings(), loader(), ckpt_path=path),
    "load_from_checkpoint": Settings.load_from_checkpoint,
    "load_from_checkpoint of a datamodule": Data.load_from_checkpoint,
    "read_checkpoint": read_checkpoint,
}


def archive(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def old_format(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


FORMATS: dict[str, Callable[[Any], bytes]] = {
    "archive": archive,
    "torch's old format": old_format,
    "a bare pickle": pickle.dumps,
}

PLACES: dict[str, Callable[[dict[str, Any], Malicious], Any]] = {
    "all of it": lambda content, bad: bad,
    "weights": lambda content, bad: content | {"state_dict": {**content["state_dict"], "net.0.bias": bad}},
    "callback": lambda content, bad: content | {"callbacks": {"Tally": bad}},
    "settings": lambda content, bad: content | {"hyper_parameters": {"width": bad}},
    "nobody's": lambda content, bad: content | {"extra": [bad]},
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("way", WAYS_IN)
@pytest.mark.parametrize("kind", FORMATS)
def test_a_pickle_that_runs_code_is_refused_on_every_way_in(
    kind: str, way: str, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = good(tmp_path)
    monkeypatch.chdir(tmp_path)
    for place, put in PLACES.items():
        path = tmp_path / f"{place}.ckpt"
        path.write_bytes(FORMATS[kind](put(content, Malicious(victim))))
        verify_checkpoint(path)
        with pytest.raises(CheckpointError, match=r"(?s)\.ckpt cannot be (loaded|read).*damaged"):
            WAYS_IN[way](str(path))
        assert not victim.exists(), place
    # The same file does run it for whoever asks for that: it is a real one.
    if way == "read_checkpoint":
        read_checkpoint(tmp_path / "settings.ckpt", weights_only=False) if kind != "a bare pickle" else pickle.loads(
            (tmp_path / "settings.ckpt").read_bytes()
        )
        assert victim.exists()


def test_a_pickle_that_runs_code_is_refused_from_a_remote_path_and_an_open_file(victim: Path) -> None:
    content = archive({"state_dict": {}, "bad": Malicious(victim)})
    fsspec.filesystem("memory").pipe_file("memory://malicious/bad.ckpt", content)
    for source in ("memory://malicious/bad.ckpt", io.BytesIO(content)):
        with pytest.raises(CheckpointError, match=r"cannot be loaded.*it holds a .*weights_only=False"):
            read_checkpoint(source)
        with pytest.raises(CheckpointError, match="cannot be loaded"):
            Settings.load_from_checkpoint(source)
    assert not victim.exists()


def test_an_object_that_needs_code_is_refused_by_name_and_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}, "ratio": Fraction(1, 3)}, path)
    with pytest.raises(CheckpointError, match=r"(?s)fractions\.Fraction.*weights_only=False") as caught:
        read_checkpoint(path)
    assert "\x1b" not in str(caught.value)
    assert read_checkpoint(path, weights_only=False)["ratio"] == Fraction(1, 3)


# ------------------------------------------------------------------------------------------------- as strings

BAD = "victim_of_strings"
LAZY = "lazy_about_strings"


def kinds(kind: str) -> dict[str, Any]:
    """Settings of which one says that it was of a kind."""
    values: dict[str, Any] = {
        "enum": "RED",
        "flag": 1,
        "namedtuple": [1],
        "dataclass": {"a": 1},
        "partial": ["f", (), {}],
    }
    value = values.get(kind.partition(" ")[0], f"{BAD}.Net")
    return {"hyper_parameters": {"width": value}, "hyper_parameters_kinds": {("width",): kind}} | {
        "datamodule_hyper_parameters": {"width": value},
        "datamodule_hyper_parameters_kinds": {("width",): kind},
    }


NAMED: dict[str, dict[str, Any]] = {
    "class path": {"hyper_parameters": {"_class_path": f"{BAD}.Net", "width": 3}},
    "instantiator": {"hyper_parameters": {"_instantiator": f"{BAD}.make", "width": 3}},
    "class path and arguments": {
        "hyper_parameters": {"width": {"class_path": f"{BAD}.Net", "init_args": {}}, "_target_": f"{BAD}.make"}
    },
    "name of the settings": {"hparams_name": BAD, "hyper_parameters": {"width": 3}},
    "type of the settings": {"hparams_type": f"{BAD}.Net", "hyper_parameters": {"width": 3}},
    "callback's class": {
        "callbacks": {f"{BAD}.Callback": {"a": 1}, "Tally": {}},
        "callback_classes": {f"{BAD}.Callback": {"class": "Callback", "distribution": BAD, "version": "1"}},
    },
    "packages": {"callback_packages": {BAD: "1"}},
    "optimizer's class": {"optimizer_classes": [f"{BAD}.SGD"]},
    "scheduler's class": {"lr_scheduler_classes": [f"{BAD}.StepLR"]},
    "metric": {"logged": {"metrics": {f"{BAD}.Metric": {"total": 1}}}},
    **{
        f"{word} of {module}": kinds(f"{word} {module}:Net")
        for word in ("enum", "flag", "namedtuple", "dataclass", "torch")
        for module in (BAD, LAZY)
    },
    "partial": kinds("partial"),
    "function of the system": kinds("torch os:system"),
    "torch.load": kinds("torch torch:load"),
    "constructor": kinds("dataclass subprocess:Popen"),
    "text for OmegaConf": kinds("omegaconf"),
}


@pytest.mark.parametrize("name", NAMED)
def test_nothing_is_imported_because_a_file_names_it(
    name: str, victim: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch = f"from pathlib import Path\nPath({str(victim)!r}).touch()\n"
    (tmp_path / f"{BAD}.py").write_text(f"{touch}class Net: pass\nmake = Callback = SGD = StepLR = Metric = Net\n")
    # A module that is imported, and imports others when it is asked for a name, as many large packages do.
    (tmp_path / f"{LAZY}.py").write_text(f"def __getattr__(name):\n    import {BAD}\n    return {BAD}.Net\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    __import__(LAZY)
    path = tmp_path / "model.ckpt"
    torch.save(good(tmp_path) | NAMED[name], path)
    try:
        for way_in in WAYS_IN.values():
            # It is refused, or means nothing to whoever reads it.
            with suppress(CheckpointError, MisconfigurationError):
                way_in(str(path))
        assert BAD not in sys.modules
        assert not victim.exists()
        # It would be there if it were imported.
        __import__(BAD)
        assert victim.exists()
    finally:
        for module in (BAD, LAZY):
            sys.modules.pop(module, None)
