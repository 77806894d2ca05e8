"""Sets of weights that callbacks keep beside the live ones: saved, loaded, tested and exported by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError
from hookloop.testing import TinyDataModule, TinyModule

from .commanding import Shell


class Doubles(Callback):
    """Has the weights twice as large under "doubled"."""

    def named_weights(self, trainer: Any, pl_module: LightningModule) -> Mapping[str, Mapping[str, Any]]:
        return {"doubled": {name: 2 * value for name, value in pl_module.state_dict().items()}}


class DoublesToo(Doubles):
    pass


class Weighs(TinyModule):
    """Keeps its first weight, as it is in each test."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.seen.append(self.get_parameter("net.0.weight").detach().clone())

    validation_step = test_step

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.test_step(batch, batch_idx)


def trainer_in(folder: Path, *callbacks: Callback) -> Trainer:
    return Trainer(
        max_epochs=1, callbacks=list(callbacks), registered_callbacks=False, logger=False, default_root_dir=folder
    )


@pytest.fixture
def module() -> Weighs:
    return Weighs()


@pytest.fixture
def path(tmp_path: Path, module: Weighs) -> Path:
    trainer = trainer_in(tmp_path, Doubles())
    trainer.fit(module, datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "fitted.ckpt")
    module.seen.clear()
    return tmp_path / "fitted.ckpt"


def test_a_file_has_them_beside_the_state_dict(path: Path, module: Weighs) -> None:
    saved = torch.load(path)

    assert list(saved["weights"]) == ["doubled"]
    for name, value in module.state_dict().items():
        assert torch.equal(saved["state_dict"][name], value)
        assert torch.equal(saved["weights"]["doubled"][name], 2 * value)


def test_a_file_of_the_weights_alone_has_them_too(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, Doubles())
    trainer.fit(TinyModule(), datamodule=TinyDataModule())

    trainer.save_checkpoint(tmp_path / "alone.ckpt", weights_only=True)

    saved = torch.load(tmp_path / "alone.ckpt")
    assert "callbacks" not in saved
    assert list(saved["weights"]) == ["doubled"]


def test_a_run_without_such_a_callback_saves_no_entry_for_them(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    trainer.fit(TinyModule(), datamodule=TinyDataModule())

    trainer.save_checkpoint(tmp_path / "plain.ckpt")

    assert "weights" not in torch.load(tmp_path / "plain.ckpt")


def test_live_weights_that_are_not_in_the_module_are_saved_as_its_state_dict(tmp_path: Path) -> None:
    class Swapped(Callback):
        def named_weights(self, trainer: Any, pl_module: LightningModule) -> Mapping[str, Mapping[str, Any]]:
            zeros = {name: torch.zeros_like(value) for name, value in pl_module.state_dict().items()}
            return {"live": zeros, "other": pl_module.state_dict()}

    trainer, module = trainer_in(tmp_path, Swapped()), TinyModule()
    trainer.fit(module, datamodule=TinyDataModule())
    trainer.save_checkpoint(tmp_path / "swapped.ckpt")

    saved = torch.load(tmp_path / "swapped.ckpt")
    assert not any(value.any() for value in saved["state_dict"].values())
    assert list(saved["weights"]) == ["other"]
    assert torch.equal(saved["weights"]["other"]["net.0.weight"], module.get_parameter("net.0.weight"))


def test_two_callbacks_with_weights_of_one_name_are_told(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, Doubles(), DoublesToo())
    trainer.fit(TinyModule(), datamodule=TinyDataModule())

    with pytest.raises(CheckpointError, match=r'^Doubles and DoublesToo both have weights "doubled".* Drop one'):
        trainer.save_checkpoint(tmp_path / "never.ckpt")


@pytest.mark.parametrize(("weights", "factor"), [("doubled", 2), ("live", 1), (None, 1)])
def test_load_from_checkpoint_chooses(weights: str | None, factor: int, path: Path, module: Weighs) -> None:
    loaded = Weighs.load_from_checkpoint(path, weights=weights)

    for name, value in module.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], factor * value)


class Pretrained(TinyModule):
    def __init__(self, weights: str = "none") -> None:
        super().__init__()
        self.weights = weights


def test_an_argument_of_the_constructor_with_that_name_stays_one(path: Path, module: Weighs) -> None:
    loaded = Pretrained.load_from_checkpoint(path, weights="imagenet")

    assert loaded.weights == "imagenet"
    assert torch.equal(loaded.get_parameter("net.0.weight"), module.get_parameter("net.0.weight"))


@pytest.mark.parametrize("entry_point", ["test", "validate", "predict"])
@pytest.mark.parametrize(("weights", "factor"), [("doubled", 2), ("live", 1), (None, 1)])
def test_an_entry_point_chooses(
    entry_point: str, weights: str | None, factor: int, path: Path, module: Weighs, tmp_path: Path
) -> None:
    fresh, trainer = Weighs(), trainer_in(tmp_path)

    getattr(trainer, entry_point)(fresh, datamodule=TinyDataModule(), ckpt_path=path, weights=weights)

    assert trainer.ckpt_weights == weights
    assert torch.equal(fresh.seen[0], factor * module.get_parameter("net.0.weight"))


def test_a_name_that_is_not_there_is_told_with_those_that_are(path: Path, tmp_path: Path) -> None:
    message = r"fitted.ckpt has no weights \"doubles\". Did you mean \"doubled\"\? It has 'live', 'doubled'"
    with pytest.raises(CheckpointError, match=message):
        Weighs.load_from_checkpoint(path, weights="doubles")
    fresh, trainer = Weighs(), trainer_in(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        trainer.test(fresh, datamodule=TinyDataModule(), ckpt_path=path, weights="doubles")
    assert fresh.seen == []


def test_what_is_no_name_is_told_so(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationTypeError, match=r"Weighs.load_from_checkpoint\(weights=3\) must be the name"):
        Weighs.load_from_checkpoint(path, weights=3)  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationTypeError, match=r"trainer.test\(weights=3\) must be the name of weights"):
        trainer_in(tmp_path).test(Weighs(), datamodule=TinyDataModule(), ckpt_path=path, weights=3)  # type: ignore[arg-type]


def test_there_is_nothing_to_choose_from_without_a_checkpoint(tmp_path: Path) -> None:
    message = r"trainer.test\(weights='doubled'\) chooses among .*, and this run begins with none. Pass ckpt_path too"
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path).test(Weighs(), datamodule=TinyDataModule(), weights="doubled")


# The files of Lightning's averaging callbacks: their state_dict is the average


@pytest.fixture
def lightnings(path: Path) -> Path:
    """As Lightning 2.6's WeightAveraging leaves a file: live weights under "current_model_state"."""
    saved = torch.load(path)
    file = path.with_name("lightning.ckpt")
    lightnings = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": saved["weights"]["doubled"],
        "current_model_state": saved["state_dict"],
        "averaging_state": {"n_averaged": torch.tensor(4)},
        "epoch": 1,
        "global_step": 4,
    }
    torch.save(lightnings, file)
    return file


@pytest.mark.parametrize(("weights", "factor"), [("averaged", 2), ("live", 1)])
def test_both_sets_of_lightnings_files_are_found(
    weights: str, factor: int, lightnings: Path, module: Weighs, tmp_path: Path
) -> None:
    fresh = Weighs()
    trainer_in(tmp_path).test(fresh, datamodule=TinyDataModule(), ckpt_path=lightnings, weights=weights)
    loaded = Weighs.load_from_checkpoint(lightnings, weights=weights)

    assert torch.equal(fresh.seen[0], factor * module.get_parameter("net.0.weight"))
    assert torch.equal(loaded.get_parameter("net.0.weight"), factor * module.get_parameter("net.0.weight"))


# The command


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


@pytest.mark.parametrize(("options", "factor"), [(["--weights", "doubled"], 2), (["--weights", "live"], 1), ([], 1)])
def test_export_writes_a_plain_state_dict(
    options: list[str], factor: int, path: Path, module: Weighs, shell: Shell, tmp_path: Path
) -> None:
    out = tmp_path / "weights.pt"

    said = shell("checkpoint", "export", path, *options, out)

    assert said.code == 0, said.err
    assert said.out == f"{out}: 9 tensors, the {(options or ['', 'live'])[1]} weights of {path}\n"
    weights = torch.load(out, weights_only=True)
    for name, value in module.state_dict().items():
        assert torch.equal(weights[name], factor * value)
    fresh = Weighs()
    fresh.load_state_dict(weights)


def test_export_replaces_no_file_unless_it_is_told_to(path: Path, shell: Shell, tmp_path: Path) -> None:
    out = tmp_path / "mine.pt"
    out.write_text("mine")

    said = shell("checkpoint", "export", path, out)

    assert said.code == 1
    assert f"{out} is there already. Choose another name, or pass --force" in said.err
    assert out.read_text() == "mine"
    assert shell("checkpoint", "export", "--force", path, out).code == 0
    assert "net.0.weight" in torch.load(out)


def test_export_of_weights_that_are_not_there_writes_nothing(path: Path, shell: Shell, tmp_path: Path) -> None:
    said = shell("checkpoint", "export", path, "--weights", "averaged", tmp_path / "out.pt")

    assert said.code == 1
    assert 'has no weights "averaged"' in said.err
    assert not (tmp_path / "out.pt").exists()


def test_a_save_in_the_middle_of_an_epoch_has_them_and_a_resumed_run_sees_them(tmp_path: Path) -> None:
    path, found = tmp_path / "middle.ckpt", []

    class Saves(Callback):
        order = Order.LAST

        def on_train_batch_end(self, trainer: Any, *arguments: Any) -> None:
            if trainer.batch_idx == 2:
                trainer.save_checkpoint(path)

    class Looks(Doubles):
        def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
            found.append(sorted(checkpoint["weights"]))

    trainer_in(tmp_path, Doubles(), Saves()).fit(TinyModule(), datamodule=TinyDataModule())
    trainer_in(tmp_path, Looks()).fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path=path)

    assert found == [["doubled"]]
