"""Runs that save to, resume from and are evaluated with remote checkpoints."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
import torch

from hookloop import LightningDataModule, Trainer, storage
from hookloop.checkpoint_file import read_checkpoint, verify_checkpoint, write_checkpoint
from hookloop.checkpoint_io import TorchCheckpointIO
from hookloop.errors import CheckpointError, MisconfigurationError

from .fitting import Regression, Saves, assert_same_training, equal, loader, trainer_in
from .serving import served


@pytest.fixture
def memory() -> str:
    """A folder of fsspec's memory file system that no other test has."""
    return f"memory://{uuid4().hex}"


class Settings(Regression):
    """A module with a setting."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


class Data(LightningDataModule):
    """A datamodule with a setting."""

    def __init__(self, batches: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()


def fitted(folder: Path, **arguments: Any) -> Trainer:
    trainer = trainer_in(folder, **arguments)
    trainer.fit(Settings(5), loader())
    return trainer


def contents(folder: str) -> dict[str, bytes]:
    files = fsspec.filesystem("memory")
    return {path.rpartition("/")[2]: files.cat_file(path) for path in files.find(folder)}


# ----------------------------------------------------------------------------------------------------- saving


def test_a_run_that_is_resumed_from_a_remote_file_ends_as_one_that_was_never_stopped(
    memory: str, tmp_path: Path
) -> None:
    never_stopped = trainer_in(tmp_path)
    never_stopped.fit(Regression(), loader())

    path = f"{memory}/run/epoch=0.ckpt"
    saves: Any = Saves("on_train_epoch_end", Path("unused"))
    saves.path = path
    trainer_in(tmp_path, saves).fit(Regression(), loader())
    assert list(contents(memory)) == ["epoch=0.ckpt"]

    resumed = trainer_in(tmp_path)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert_same_training(resumed, never_stopped)
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_to_a_remote_file_is_what_is_written_to_a_local_one(memory: str, tmp_path: Path) -> None:
    trainer = fitted(tmp_path)
    for path in (tmp_path / "local.ckpt", f"{memory}/last.ckpt"):
        trainer.save_checkpoint(path)
        verify_checkpoint(path)
    random = {"random_state", "loaders"}
    local, remote = read_checkpoint(tmp_path / "local.ckpt"), read_checkpoint(f"{memory}/last.ckpt")
    assert equal(*({key: each[key] for key in each if key not in random} for each in (local, remote)))


def test_a_save_replaces_a_remote_file_and_leaves_nothing_beside_it(memory: str) -> None:
    for value in (1.0, 2.0):
        write_checkpoint({"state_dict": {"weight": torch.tensor(value)}}, f"{memory}/last.ckpt")
    assert read_checkpoint(f"{memory}/last.ckpt")["state_dict"]["weight"] == 2.0
    assert list(contents(memory)) == ["last.ckpt"]


def test_a_state_that_cannot_be_loaded_does_not_touch_the_storage(memory: str) -> None:
    with pytest.raises(CheckpointError, match=r'checkpoint\["best"\] is a pathlib'):
        write_checkpoint({"state_dict": {}, "best": Path("a")}, f"{memory}/last.ckpt")
    assert not storage.exists(memory)


def test_a_full_temporary_folder_is_told_as_such(memory: str, tmp_path: Path) -> None:
    # TMPDIR is where the copy goes that is uploaded.
    program = """
import sys
import resource
import torch
from hookloop.checkpoint_file import write_checkpoint
from hookloop.errors import CheckpointError
from hookloop.storage import exists
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    write_checkpoint({"state_dict": {"weight": torch.ones(40_000)}}, "memory://last.ckpt")
except CheckpointError as error:
    print(error, exists("memory://last.ckpt"))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": ":".join(sys.path), "TMPDIR": str(tmp_path)},
    )
    expected = f"memory://last.ckpt, or rather its copy in {tmp_path}, could not be written. The file would be larger"
    assert expected in done.stdout, done.stderr
    assert done.stdout.split()[-1] == "False"
    assert list(tmp_path.iterdir()) == []


def test_a_file_path_is_written_as_a_local_file_is(tmp_path: Path) -> None:
    write_checkpoint({"state_dict": {}}, f"file://{tmp_path}/run/last.ckpt")
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["last.ckpt"]
    assert read_checkpoint(f"file://{tmp_path}/run/last.ckpt") == {"state_dict": {}}


def test_a_path_object_of_a_remote_path_is_an_error_and_makes_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trainer = fitted(tmp_path)
    with pytest.raises(MisconfigurationError, match=r'"memory://run/last\.ckpt"'):
        trainer.save_checkpoint(Path("memory://run/last.ckpt"))
    assert list(tmp_path.iterdir()) == []


def test_a_remote_checkpoint_is_removed(memory: str) -> None:
    write_checkpoint({"state_dict": {}}, f"{memory}/last.ckpt")
    for _ in range(2):
        TorchCheckpointIO().remove_checkpoint(f"{memory}/last.ckpt")
        assert not storage.exists(f"{memory}/last.ckpt")


# ----------------------------------------------------------------------------------------------------- reading


def test_a_remote_file_that_is_not_there_is_an_error_that_names_those_that_are(memory: str, tmp_path: Path) -> None:
    write_checkpoint({"state_dict": {}}, f"{memory}/last.ckpt")
    message = r"There is no checkpoint memory://.*/typo\.ckpt \(in that folder: last\.ckpt\)"
    for read in (read_checkpoint, verify_checkpoint):
        with pytest.raises(CheckpointError, match=message):
            read(f"{memory}/typo.ckpt")
    with pytest.raises(CheckpointError, match=message):
        trainer_in(tmp_path).fit(Regression(), loader(), ckpt_path=f"{memory}/typo.ckpt")


def test_a_damaged_remote_file_is_an_error(memory: str) -> None:
    path = f"{memory}/last.ckpt"
    write_checkpoint({"state_dict": {"weight": torch.ones(1000)}}, path)
    files = fsspec.filesystem("memory")
    content = bytearray(files.cat_file(path))
    content[len(content) // 2] ^= 1
    files.pipe_file(path, bytes(content))
    for read in (read_checkpoint, verify_checkpoint):
        with pytest.raises(CheckpointError, match=r"memory://.*last\.ckpt cannot be read \(the checksum of its record"):
            read(path)


def test_a_checkpoint_on_a_web_server_is_loaded_resumed_from_and_evaluated(tmp_path: Path) -> None:
    trainer = fitted(tmp_path)
    trainer.save_checkpoint(tmp_path / "files" / "last.ckpt")
    with served(tmp_path / "files") as address:
        path = f"{address}/whole/last.ckpt"
        module = Settings.load_from_checkpoint(path)
        other = trainer_in(tmp_path)
        metrics = other.validate(Settings(), loader(), ckpt_path=path, verbose=False)
        other.test(Settings(), loader(), ckpt_path=path, verbose=False)
        predictions = other.predict(Settings(), loader(), ckpt_path=path)
        resumed = trainer_in(tmp_path, max_epochs=3)
        resumed.fit(Settings(), loader(), ckpt_path=path)

    assert module.hparams.width == 5
    assert trainer.lightning_module is not None
    assert equal(module.state_dict(), trainer.lightning_module.state_dict())
    expected = trainer_in(tmp_path)
    assert metrics == expected.validate(module, loader(), verbose=False)
    assert equal(predictions, expected.predict(module, loader()))
    assert resumed.global_step == 15


def test_the_settings_of_a_datamodule_come_from_a_web_server_too(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    data = Data(4)
    data.train_dataloader = loader  # type: ignore[method-assign]
    trainer.fit(Regression(), datamodule=data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with served(tmp_path) as address:
        assert Data.load_from_checkpoint(f"{address}/whole/last.ckpt").hparams.batches == 4


@pytest.mark.parametrize("way", ["cut", "ends"])
def test_a_download_that_is_cut_short_is_an_error_and_nothing_is_restored(way: str, tmp_path: Path) -> None:
    fitted(tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    module = Settings()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    trainer = trainer_in(tmp_path)
    with served(tmp_path) as address:
        path = f"{address}/{way}/last.ckpt"
        message = rf"{way}/last\.ckpt (could not be read|cannot be read)"
        with pytest.raises(CheckpointError, match=message):
            trainer.fit(module, loader(), ckpt_path=path)
        with pytest.raises(CheckpointError, match=message):
            Settings.load_from_checkpoint(path)
    assert equal(dict(module.state_dict()), before)
    assert trainer.global_step == 0


def test_a_server_that_is_down_is_an_error_before_anything_begins(tmp_path: Path) -> None:
    with served(tmp_path) as address:
        pass
    with pytest.raises(CheckpointError, match=r"whole/last\.ckpt cannot be looked for"):
        trainer_in(tmp_path).fit(Regression(), loader(), ckpt_path=f"{address}/whole/last.ckpt")
