"""Files that a thread writes while training goes on, and saves that fail."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import LambdaCallback
from hookloop.errors import CheckpointError
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs


@pytest.mark.parametrize("save_last", [None, True, "link"])
@pytest.mark.parametrize("save_top_k", [-1, 0, 1, 2])
def test_a_thread_leaves_the_same_files_as_writing_at_once(runs: Runs, save_top_k: int, save_last: Any) -> None:
    outcomes = []
    for background in (False, True):
        folder = runs.folder / str(background)
        checkpoint = ModelCheckpoint(
            folder, monitor="score", save_top_k=save_top_k, save_last=save_last, background=background
        )
        runs.fit(checkpoint, scores=[3.0, 1.0, 2.0, 4.0, 0.5])
        state = checkpoint.state_dict()
        there = sorted(folder.glob("*.ckpt")) if folder.exists() else []
        outcomes.append(
            (
                {path.name: (path.is_symlink(), runs.steps_in(path)) for path in there},
                {key: value for key, value in state.items() if key not in ("dirpath", "run")},
            )
        )

    assert outcomes[0] == outcomes[1]


def test_a_file_is_named_only_once_it_is_there(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True, background=True, save_top_k=2)

    def look(*args: Any) -> None:
        for path in (checkpoint.best_model_path, checkpoint.last_model_path, *checkpoint.best_k_models):
            assert path == "" or runs.steps_in(path) > 0

    listener = LambdaCallback(on_train_batch_start=look, on_train_batch_end=look, on_validation_end=look)
    runs.fit(checkpoint, listener, scores=[3.0, 1.0, 2.0])

    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]


@pytest.mark.parametrize("background", [False, True])
def test_training_goes_on_without_a_file_that_could_not_be_written(runs: Runs, background: bool) -> None:
    checkpoint = ModelCheckpoint(
        runs.checkpoints, filename="e{epoch}/x", monitor="score", background=background, on_save_error="warn"
    )

    def block(trainer: Any, module: Any) -> None:
        if trainer.current_epoch == 1:
            runs.checkpoints.mkdir(exist_ok=True)  # the first file may not have begun to be written
            (runs.checkpoints / "eepoch=1").write_text("a file where a folder is needed")

    with pytest.warns(UserWarning, match=r"eepoch=1/x\.ckpt"):
        trainer = runs.fit(checkpoint, LambdaCallback(on_train_epoch_start=block), scores=[3.0, 2.0, 1.0])

    assert trainer.global_step == 6
    assert Path(checkpoint.best_model_path).relative_to(runs.checkpoints).as_posix() == "eepoch=2/x.ckpt"
    assert float(checkpoint.best_model_score or 0.0) == 1.0
    # The first file went when the third one was there, and not when the second one failed.
    assert [path.parent.name for path in runs.checkpoints.rglob("*.ckpt")] == ["eepoch=2"]


@pytest.mark.parametrize("background", [False, True])
def test_a_file_that_could_not_be_written_ends_the_run_by_default(runs: Runs, background: bool) -> None:
    runs.checkpoints.mkdir()
    (runs.checkpoints / "sub").write_text("a file where a folder is needed")
    checkpoint = ModelCheckpoint(runs.checkpoints, filename="sub/{epoch}", background=background)

    with pytest.raises(CheckpointError, match=r"sub/epoch=0\.ckpt"):
        runs.fit(checkpoint, scores=[3.0])

    assert (checkpoint.best_model_path, checkpoint.last_model_path) == ("", "")


def test_an_exception_waits_for_the_file_that_is_being_written(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(every_n_train_steps=1, background=True, save_on_exception=True, save_last=True)

    def stop(trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt):
            runs.fit(checkpoint, LambdaCallback(on_train_batch_start=stop), scores=[3.0, 2.0])

    assert runs.files == ["epoch=1-step=3.ckpt", "last.ckpt"]
    assert runs.steps_in(runs.checkpoints / "last.ckpt") == 3
