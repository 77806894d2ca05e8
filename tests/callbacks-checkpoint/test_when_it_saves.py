"""At which moments a run saves: every file that was ever complete, by its name, in order."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import LambdaCallback, Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Runs, Scripted


def every_save(runs: Runs, checkpoint: ModelCheckpoint, **arguments: Any) -> list[str]:
    saved: list[str] = []
    listener = LambdaCallback(on_checkpoint_saved=lambda trainer, module, path: saved.append(Path(path).stem))
    runs.fit(checkpoint, listener, **arguments)
    return saved


# An epoch has 4 batches, and there are 4 epochs.
@pytest.mark.parametrize(
    ("settings", "arguments", "steps"),
    [
        ({}, {}, [4, 8, 12, 16]),
        ({}, {"validate": False}, [4, 8, 12, 16]),
        ({}, {"accumulate_grad_batches": 4}, [1, 2, 3, 4]),
        ({}, {"val_check_interval": 0.5}, [2, 4, 6, 8, 10, 12, 14, 16]),
        ({}, {"val_check_interval": 2}, [2, 4, 6, 8, 10, 12, 14, 16]),
        ({}, {"val_check_interval": 1, "max_epochs": 1}, [1, 2, 3, 4]),
        ({}, {"check_val_every_n_epoch": 2}, [8, 16]),
        ({}, {"check_val_every_n_epoch": None, "val_check_interval": 6}, [6, 12]),
        ({}, {"max_steps": 6}, [4, 6]),
        ({"every_n_epochs": 2}, {}, [8, 16]),
        ({"every_n_epochs": 3}, {}, [12]),
        ({"every_n_epochs": 5}, {}, []),
        ({"every_n_epochs": 2}, {"validate": False}, [8, 16]),
        ({"every_n_epochs": 2}, {"val_check_interval": 0.5}, [6, 8, 14, 16]),
        ({"every_n_epochs": 2}, {"check_val_every_n_epoch": 3}, []),
        ({"save_on_train_epoch_end": True}, {}, [4, 8, 12, 16]),
        ({"save_on_train_epoch_end": True}, {"val_check_interval": 0.5}, [4, 8, 12, 16]),
        ({"save_on_train_epoch_end": True}, {"check_val_every_n_epoch": 2}, [4, 8, 12, 16]),
        ({"save_on_train_epoch_end": False}, {}, [4, 8, 12, 16]),
        ({"save_on_train_epoch_end": False}, {"validate": False}, []),
    ],
)
def test_it_saves_then_and_at_no_other_time(
    runs: Runs, settings: dict[str, Any], arguments: dict[str, Any], steps: list[int]
) -> None:
    checkpoint = ModelCheckpoint(filename="{step}", save_top_k=-1, **settings)

    saved = every_save(runs, checkpoint, scores=[0.0] * 16, batches=4, **{"max_epochs": 4, **arguments})

    assert saved == [f"step={step}" for step in steps]


def test_at_a_save_the_score_is_that_of_the_validation_at_this_step(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", filename="{step}-{score:.0f}", save_top_k=-1)

    saved = every_save(runs, checkpoint, scores=[7.0, 6.0, 5.0, 4.0], batches=4, max_epochs=2, val_check_interval=0.5)

    assert saved == ["step=2-score=7", "step=4-score=6", "step=6-score=5", "step=8-score=4"]


def test_a_run_that_ends_before_its_first_validation_saves_the_last_file_alone(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)

    with pytest.warns(
        UserWarning, match="before the first validation, and the monitored metric 'score' was not logged"
    ):
        saved = every_save(runs, checkpoint, scores=[1.0], batches=4, max_steps=3)

    assert saved == ["last"]
    assert runs.steps_in(checkpoint.last_model_path) == 3


def test_so_does_a_second_run_of_the_same_callback(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    runs.fit(checkpoint, scores=[1.0])

    with pytest.warns(UserWarning, match="before the first validation"):
        saved = every_save(runs, checkpoint, scores=[1.0], batches=4, max_steps=3)

    assert saved == ["last"]


def test_a_run_that_ends_between_validations_does_not_take_an_old_score_for_a_new_one(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)

    saved = every_save(runs, checkpoint, scores=[1.0, 0.0], batches=4, max_steps=6)

    assert saved == ["epoch=0-step=4", "last", "last"]
    assert runs.steps_in(checkpoint.best_model_path) == 4
    assert runs.steps_in(checkpoint.last_model_path) == 6


def test_the_sanity_check_saves_nothing(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", filename="{step}", save_on_train_epoch_end=False)

    assert every_save(runs, checkpoint, scores=[1.0], num_sanity_val_steps=1) == ["step=2"]


def test_a_fast_dev_run_saves_nothing(runs: Runs) -> None:
    assert every_save(runs, ModelCheckpoint(save_last=True), scores=[1.0], fast_dev_run=True) == []
    assert runs.files == []


def test_validation_and_test_alone_save_nothing(
    runs: Runs, model: Scripted, batches: Callable[[int], DataLoader[Any]]
) -> None:
    checkpoint = ModelCheckpoint(dirpath=runs.checkpoints, save_on_train_epoch_end=False)
    trainer = Trainer(callbacks=[checkpoint], registered_callbacks=False, logger=False, default_root_dir=runs.folder)
    model.scores = [1.0]

    trainer.validate(model, batches(1), verbose=False)
    trainer.test(model, batches(1), verbose=False)

    assert runs.files == []


def test_a_monitored_metric_that_is_only_there_later_is_an_error_after_a_validation(runs: Runs) -> None:
    # The mean over a training epoch is not there after a validation in its middle.
    checkpoint = ModelCheckpoint(monitor="train_score")

    with pytest.raises(MisconfigurationError, match=r"'train_score' was not logged.*: 'score', 'twice/score'"):
        runs.fit(checkpoint, scores=[1.0, 1.0], val_check_interval=1)
