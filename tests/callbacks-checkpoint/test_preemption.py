"""The process is asked to end: last.ckpt is there, and training goes on from it where it stopped."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import LambdaCallback
from hookloop.errors import SIGTERMException
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs


def terminate(hook: str, n: int) -> LambdaCallback:
    """Has the process get a SIGTERM when a hook is called for the n-th time."""
    calls: list[str] = []

    def count(*args: Any) -> None:
        calls.append(hook)
        if len(calls) == n:
            signal.raise_signal(signal.SIGTERM)

    return LambdaCallback(**{hook: count})


@pytest.mark.parametrize("save_weights_only", [False, True])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_last_ckpt_is_written_and_training_goes_on_from_it(runs: Runs, n: int, save_weights_only: bool) -> None:
    callback = ModelCheckpoint(monitor="score", save_weights_only=save_weights_only)

    with pytest.raises(SIGTERMException):
        runs.fit(callback, terminate("on_train_batch_start", n), scores=[2.0, 1.0])

    assert callback.last_model_path == str(runs.checkpoints / "last.ckpt")
    assert runs.steps_in(callback.last_model_path) == n
    before = (n - 1) // 2
    resumed = ModelCheckpoint(monitor="score")
    trainer = runs.fit(resumed, scores=[2.0, 1.0], before=before, ckpt_path=callback.last_model_path)
    assert trainer.global_step == 4
    assert resumed.best_model_score == 1.0
    assert runs.steps_in(resumed.best_model_path) == 4


def test_a_job_that_is_started_again_finds_it_as_the_last_one(runs: Runs) -> None:
    folder = runs.folder / "kept"
    with pytest.raises(SIGTERMException):
        runs.fit(ModelCheckpoint(folder), terminate("on_train_batch_start", 3), scores=[2.0, 1.0])

    trainer = runs.fit(ModelCheckpoint(folder), scores=[2.0, 1.0], before=1, ckpt_path="last")

    assert trainer.ckpt_path == str(folder / "last.ckpt")
    assert trainer.global_step == 4


def test_the_best_file_of_before_stays_the_best(runs: Runs) -> None:
    callback = ModelCheckpoint(monitor="score")
    with pytest.raises(SIGTERMException):
        runs.fit(callback, terminate("on_train_batch_start", 3), scores=[2.0, 1.0])

    assert callback.best_model_path == str(runs.checkpoints / "epoch=0-step=2.ckpt")
    state = torch.load(callback.last_model_path, weights_only=True)["callbacks"][callback.state_key]
    assert (state["best_model_path"], state["last_model_path"]) == ("epoch=0-step=2.ckpt", "last.ckpt")


@pytest.mark.parametrize("fast_dev_run", [True, 2])
def test_a_trial_run_leaves_no_file(runs: Runs, fast_dev_run: bool | int) -> None:
    with pytest.raises(SIGTERMException):
        runs.fit(ModelCheckpoint(), terminate("on_train_batch_start", 1), scores=[2.0], fast_dev_run=fast_dev_run)

    assert runs.files == []


def test_a_validation_on_its_own_leaves_no_file(runs: Runs, tmp_path: Path) -> None:
    trainer = runs.fit(scores=[1.0])
    trainer.callbacks.extend([ModelCheckpoint(tmp_path / "other"), terminate("on_validation_batch_start", 1)])
    module = trainer.lightning_module
    assert module is not None

    with pytest.raises(SIGTERMException):
        trainer.validate(module, [torch.zeros(1, 1)])

    assert not (tmp_path / "other").exists()
