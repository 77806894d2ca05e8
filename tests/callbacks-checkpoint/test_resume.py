"""Stopping and going on in another process: what is remembered, and whose files are touched."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import Trainer
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Runs, Scripted


def test_a_worse_model_does_not_replace_the_best_of_before(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[2.0, 1.0])
    resumed = ModelCheckpoint(monitor="score", save_last=True)

    runs.fit(resumed, scores=[2.0, 1.0, 3.0], before=2, ckpt_path=runs.checkpoints / "last.ckpt")

    assert runs.files == ["epoch=1-step=4.ckpt", "last.ckpt"]
    assert resumed.best_model_score == 1.0
    assert runs.steps_in(resumed.best_model_path) == 4
    assert runs.steps_in(resumed.last_model_path) == 6


def test_a_resumed_run_leaves_the_files_that_an_uninterrupted_one_leaves(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[2.0, 1.0])
    resumed = ModelCheckpoint(monitor="score", save_last=True)

    runs.fit(resumed, scores=[2.0, 1.0, 0.5], before=2, ckpt_path=runs.checkpoints / "last.ckpt")

    # Uninterrupted: the third epoch is the best, and last.ckpt is as new.
    assert runs.files == ["epoch=2-step=6.ckpt", "last.ckpt"]
    assert runs.steps_in(resumed.last_model_path) == 6


def test_the_file_that_a_run_was_resumed_from_is_not_deleted(runs: Runs) -> None:
    first = ModelCheckpoint(monitor="score")
    runs.fit(first, scores=[1.0])
    resumed = ModelCheckpoint(monitor="score")

    runs.fit(resumed, scores=[1.0, 0.5, 0.25], before=1, ckpt_path=first.best_model_path)

    assert runs.files == ["epoch=0-step=2.ckpt", "epoch=2-step=6.ckpt"]


def test_a_run_that_goes_on_in_another_folder_leaves_the_old_one_alone(runs: Runs, tmp_path: Path) -> None:
    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[2.0, 1.0])
    before = {path.name: path.read_bytes() for path in runs.checkpoints.iterdir()}
    elsewhere = ModelCheckpoint(dirpath=tmp_path / "elsewhere", monitor="score", save_last=True)

    runs.fit(elsewhere, scores=[2.0, 1.0, 3.0, 0.5], before=2, ckpt_path=runs.checkpoints / "last.ckpt")

    assert {path.name: path.read_bytes() for path in runs.checkpoints.iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == ["epoch=3-step=8.ckpt", "last.ckpt"]


def test_a_best_file_that_is_gone_is_forgotten_with_a_warning(runs: Runs) -> None:
    first = ModelCheckpoint(monitor="score", save_last=True)
    runs.fit(first, scores=[1.0])
    Path(first.best_model_path).unlink()
    resumed = ModelCheckpoint(monitor="score", save_last=True)

    with pytest.warns(UserWarning, match=r"epoch=0-step=2\.ckpt' does not exist any more; the next one"):
        runs.fit(resumed, scores=[1.0, 5.0], before=1, ckpt_path=first.last_model_path)

    assert resumed.best_model_score == 5.0
    assert runs.files == ["epoch=1-step=4.ckpt", "last.ckpt"]


def test_the_best_by_another_metric_is_not_the_best_by_this_one(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[1.0])
    resumed = ModelCheckpoint(monitor="twice/score", save_last=True)

    runs.fit(resumed, scores=[1.0, 5.0], before=1, ckpt_path=runs.checkpoints / "last.ckpt")

    assert resumed.best_model_score == 10.0
    assert runs.files == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "last.ckpt"]


def test_a_changed_argument_does_not_lose_the_best(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[1.0])
    resumed = ModelCheckpoint(monitor="score", filename="{epoch}", save_last=True, every_n_epochs=1, verbose=True)

    runs.fit(resumed, scores=[1.0, 5.0], before=1, ckpt_path=runs.checkpoints / "last.ckpt")

    assert resumed.best_model_score == 1.0


def test_two_callbacks_that_differ_keep_a_state_each(runs: Runs) -> None:
    def both() -> tuple[ModelCheckpoint, ModelCheckpoint]:
        lowest = ModelCheckpoint(monitor="score", filename="lowest-{epoch}")
        highest = ModelCheckpoint(monitor="score", mode="max", filename="highest-{epoch}", save_last=True)
        return lowest, highest

    runs.fit(*both(), scores=[2.0, 1.0, 3.0])
    lowest, highest = both()

    runs.fit(lowest, highest, scores=[2.0, 1.0, 3.0, 2.0], before=3, ckpt_path=runs.checkpoints / "last.ckpt")

    assert runs.files == ["highest-epoch=2.ckpt", "last.ckpt", "lowest-epoch=1.ckpt"]
    assert lowest.best_model_score == torch.tensor(1.0)
    assert highest.best_model_score == torch.tensor(3.0)


def test_two_callbacks_with_the_same_names_do_not_touch_each_other_s_files(runs: Runs) -> None:
    lowest = ModelCheckpoint(monitor="score", save_last=True)
    highest = ModelCheckpoint(monitor="score", mode="max", save_last=True)

    runs.fit(lowest, highest, scores=[2.0, 1.0, 3.0])

    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last-v1.ckpt", "last.ckpt"]
    assert runs.steps_in(lowest.best_model_path) == 4
    assert runs.steps_in(highest.best_model_path) == 6
    assert runs.steps_in(lowest.last_model_path) == runs.steps_in(highest.last_model_path) == 6


def test_files_of_others_are_neither_overwritten_nor_deleted(runs: Runs) -> None:
    runs.checkpoints.mkdir()
    for name in ("epoch=0-step=2.ckpt", "epoch=0-step=2-v1.ckpt", "last.ckpt", "notes.txt"):
        (runs.checkpoints / name).write_text(f"not yours: {name}")
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)

    runs.fit(checkpoint, scores=[1.0, 2.0])

    for name in ("epoch=0-step=2.ckpt", "epoch=0-step=2-v1.ckpt", "last.ckpt", "notes.txt"):
        assert (runs.checkpoints / name).read_text() == f"not yours: {name}"
    assert Path(checkpoint.best_model_path).name == "epoch=0-step=2-v2.ckpt"
    assert Path(checkpoint.last_model_path).name == "last-v1.ckpt"
    assert runs.steps_in(checkpoint.last_model_path) == 4


def test_fitting_again_goes_on_with_the_same_files(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    runs.fit(checkpoint, scores=[1.0])

    runs.fit(checkpoint, scores=[2.0, 0.5])

    assert runs.files == ["epoch=1-step=4.ckpt", "last.ckpt"]


def test_best_and_last_can_be_tested_by_their_names(runs: Runs, batches: Callable[[int], DataLoader[Any]]) -> None:
    trainer = runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[2.0, 1.0, 3.0])

    assert trainer.test(ckpt_path="best", dataloaders=batches(1), verbose=False) == [{"steps": 4.0}]
    assert trainer.test(ckpt_path="last", dataloaders=batches(1), verbose=False) == [{"steps": 6.0}]


def test_testing_the_best_does_not_forget_the_files(runs: Runs, batches: Callable[[int], DataLoader[Any]]) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    trainer = runs.fit(checkpoint, scores=[2.0, 1.0, 3.0])
    best, last = checkpoint.best_model_path, checkpoint.last_model_path

    trainer.test(ckpt_path="best", dataloaders=batches(1), verbose=False)

    assert (checkpoint.best_model_path, checkpoint.last_model_path) == (best, last)


def test_what_does_not_exist_is_not_offered(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    assert checkpoint.resolve_checkpoint("best") is None
    assert checkpoint.resolve_checkpoint("last") is None

    runs.fit(checkpoint, scores=[1.0])
    assert checkpoint.resolve_checkpoint("best") == checkpoint.best_model_path
    assert checkpoint.resolve_checkpoint("last") == [checkpoint.last_model_path, checkpoint.best_model_path]
    assert checkpoint.resolve_checkpoint("something else") is None

    for path in runs.checkpoints.iterdir():
        path.unlink()
    assert checkpoint.resolve_checkpoint("best") is None
    assert checkpoint.resolve_checkpoint("last") is None


def test_a_job_that_is_started_again_finds_its_last_file_and_goes_on_with_it(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(dirpath=runs.checkpoints, monitor="score", save_last=True), scores=[2.0, 1.0])
    again = ModelCheckpoint(dirpath=runs.checkpoints, monitor="score", save_last=True)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = runs.fit(again, scores=[2.0, 1.0, 3.0], before=2, ckpt_path="last")

    assert trainer.global_step == 6
    assert runs.files == ["epoch=1-step=4.ckpt", "last.ckpt"]


def test_the_newest_of_several_last_files_is_the_last(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(save_top_k=0, save_last=True), scores=[1.0])
    with pytest.warns(
        UserWarning, match=r"last\.ckpt is there already and was written by another run: .*last-v1\.ckpt"
    ):
        runs.fit(ModelCheckpoint(save_top_k=0, save_last=True), scores=[1.0, 1.0])

    assert runs.files == ["last-v1.ckpt", "last.ckpt"]
    assert ModelCheckpoint(dirpath=runs.checkpoints).resolve_checkpoint("last") == [
        str(runs.checkpoints / "last-v1.ckpt"),
        str(runs.checkpoints / "last.ckpt"),
    ]


def test_the_model_of_the_best_file_is_the_one_that_was_scored(runs: Runs, model: Scripted) -> None:
    checkpoint = ModelCheckpoint(monitor="score")
    runs.fit(checkpoint, scores=[2.0, 1.0, 3.0])

    model.load_state_dict(torch.load(checkpoint.best_model_path, weights_only=True)["state_dict"])

    assert model.steps.item() == 4.0


def test_a_callback_that_the_module_brings_anew_for_a_test_names_the_files_of_the_fit(
    model: Scripted, batches: Callable[[int], DataLoader[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    brought: list[ModelCheckpoint] = []

    def configure_callbacks() -> list[ModelCheckpoint]:
        brought.append(ModelCheckpoint(dirpath=tmp_path / "kept", save_last=True))
        return brought[-1:]

    monkeypatch.setattr(model, "configure_callbacks", configure_callbacks, raising=False)
    trainer = Trainer(max_epochs=1, logger=False, enable_progress_bar=False, default_root_dir=tmp_path)
    trainer.fit(model, batches(2))
    trainer.test(model, batches(2), ckpt_path="best", verbose=False)

    first, anew = brought
    assert anew is not first
    assert anew.best_model_path == first.best_model_path == str(tmp_path / "kept" / "epoch=0-step=2.ckpt")
    assert anew.last_model_path == first.last_model_path == str(tmp_path / "kept" / "last.ckpt")
