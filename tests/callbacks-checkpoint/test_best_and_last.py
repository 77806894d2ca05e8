"""Which files a run leaves, over scores that are written down beforehand. An epoch has two steps."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
import torch

from hookloop import Callback, LambdaCallback, LightningModule
from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs

NAN = math.nan


class Watcher(Callback):
    """Looks at a ModelCheckpoint at the end of every epoch, and whenever a file is being written or complete."""

    def __init__(self, checkpoint: ModelCheckpoint) -> None:
        self.checkpoint = checkpoint
        self.best_after_epoch: list[str] = []
        self.saved: list[str] = []
        self.seen_when_saved: list[list[str]] = []

    def look(self) -> None:
        for path in (self.checkpoint.best_model_path, self.checkpoint.last_model_path):
            assert path == "" or Path(path).exists()

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if trainer.current_epoch > 0:
            self.best_after_epoch.append(Path(self.checkpoint.best_model_path).name)

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.best_after_epoch.append(Path(self.checkpoint.best_model_path).name)

    def on_save_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.look()

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.look()
        self.saved.append(Path(path).name)
        self.seen_when_saved.append(sorted(each.name for each in Path(path).parent.iterdir()))


@pytest.mark.parametrize(
    ("mode", "scores", "best_epochs"),
    [
        ("min", [3.0, 1.0, 2.0], [0, 1, 1]),
        ("max", [3.0, 1.0, 4.0], [0, 0, 2]),
        # The earlier of two equal ones stays.
        ("min", [1.0, 1.0], [0, 0]),
        # NaN is better than nothing, and worse than every number.
        ("min", [NAN, 2.0, NAN, 1.0, NAN], [0, 1, 1, 3, 3]),
        ("max", [NAN, -math.inf, NAN], [0, 1, 1]),
        ("min", [NAN, NAN], [0, 0]),
        ("min", [math.inf, 5.0], [0, 1]),
    ],
)
def test_the_best_file_is_kept_and_no_other(
    runs: Runs, mode: Literal["min", "max"], scores: list[float], best_epochs: list[int]
) -> None:
    checkpoint = ModelCheckpoint(monitor="score", mode=mode)
    watcher = Watcher(checkpoint)

    runs.fit(checkpoint, watcher, scores=scores)

    names = [f"epoch={epoch}-step={2 * (epoch + 1)}.ckpt" for epoch in best_epochs]
    assert watcher.best_after_epoch == names
    assert runs.files == [names[-1]]
    assert checkpoint.best_model_path == str(runs.checkpoints / names[-1])
    assert checkpoint.best_model_score == pytest.approx(scores[best_epochs[-1]], nan_ok=True)
    assert checkpoint.current_score == pytest.approx(scores[-1], nan_ok=True)
    assert checkpoint.last_model_path == ""
    assert runs.steps_in(checkpoint.best_model_path) == 2 * (best_epochs[-1] + 1)


def test_without_a_monitor_the_newest_file_is_the_best(runs: Runs) -> None:
    checkpoint = ModelCheckpoint()
    watcher = Watcher(checkpoint)

    runs.fit(checkpoint, watcher, scores=[1.0, 2.0, 3.0])

    assert watcher.best_after_epoch == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt"]
    assert runs.files == ["epoch=2-step=6.ckpt"]
    assert checkpoint.best_model_score is None
    assert checkpoint.current_score is None


def test_all_files_are_kept_if_so_wished_and_the_best_of_them_is_known(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=-1)

    runs.fit(checkpoint, scores=[2.0, 1.0, 3.0])

    assert runs.files == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt"]
    assert checkpoint.best_model_path == str(runs.checkpoints / "epoch=1-step=4.ckpt")


def test_no_file_is_kept_but_the_last_one_if_so_wished(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_top_k=0, save_last=True)

    runs.fit(checkpoint, scores=[2.0, 1.0])

    assert runs.files == ["last.ckpt"]
    assert checkpoint.best_model_path == ""
    assert checkpoint.best_model_score is None
    assert checkpoint.current_score == 1.0


def test_the_last_file_is_as_new_as_the_newest_save_whatever_the_score(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    newest: list[float] = []
    look = LambdaCallback(
        on_train_epoch_start=lambda trainer, module: newest.append(
            runs.steps_in(checkpoint.last_model_path) if trainer.current_epoch else 0
        )
    )

    runs.fit(checkpoint, look, scores=[1.0, 3.0, 2.0])

    assert newest == [0, 2, 4]
    assert runs.steps_in(runs.checkpoints / "last.ckpt") == 6
    assert runs.files == ["epoch=0-step=2.ckpt", "last.ckpt"]


def test_a_new_file_is_complete_before_the_one_it_replaces_goes(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    watcher = Watcher(checkpoint)

    runs.fit(checkpoint, watcher, scores=[2.0, 1.0])

    first, second = "epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt"
    assert watcher.saved == [first, "last.ckpt", second, "last.ckpt"]
    # The old last.ckpt names the old best file as the best: both are replaced before one of them goes.
    assert watcher.seen_when_saved == [
        [first],
        [first, "last.ckpt"],
        [first, second, "last.ckpt"],
        [first, second, "last.ckpt"],
    ]
    assert runs.files == [second, "last.ckpt"]


def test_a_save_that_fails_changes_nothing(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)

    def fail_in_the_second_epoch(trainer: TrainerView, module: LightningModule, state: dict[str, Any]) -> None:
        if trainer.current_epoch == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        runs.fit(checkpoint, LambdaCallback(on_save_checkpoint=fail_in_the_second_epoch), scores=[2.0, 1.0])

    assert runs.files == ["epoch=0-step=2.ckpt", "last.ckpt"]
    assert checkpoint.best_model_path == str(runs.checkpoints / "epoch=0-step=2.ckpt")
    assert checkpoint.best_model_score == 2.0
    assert checkpoint.state_dict()["best_model_score"] == 2.0


def test_a_best_file_counts_as_soon_as_it_is_there_even_if_the_last_one_fails(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)

    def put_a_folder_in_the_way(trainer: TrainerView, module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            (runs.checkpoints / "last.ckpt").unlink()
            (runs.checkpoints / "last.ckpt" / "full").mkdir(parents=True)

    with pytest.raises(
        CheckpointError, match=r"epoch=1-step=4.ckpt is complete, and could not be given the name .*last"
    ):
        runs.fit(checkpoint, LambdaCallback(on_train_epoch_start=put_a_folder_in_the_way), scores=[2.0, 1.0])

    # The first file is not deleted, as the save that replaces it was not carried through.
    assert runs.files == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "last.ckpt"]
    assert checkpoint.best_model_path == str(runs.checkpoints / "epoch=1-step=4.ckpt")


def state_in(path: str | Path, checkpoint: ModelCheckpoint) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(path, weights_only=True)["callbacks"][checkpoint.state_key]
    return saved


def test_every_file_knows_itself_and_what_was_best_and_last(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True, save_top_k=2)

    runs.fit(checkpoint, scores=[2.0, 1.0, 3.0, 1.5])

    run = state_in(runs.checkpoints / "last.ckpt", checkpoint)["run"]
    assert len(run) == 32
    assert run == checkpoint.state_dict()["run"]
    expected = {
        "monitor": "score",
        "mode": "min",
        "dirpath": str(runs.checkpoints),
        "run": run,
        "writes": True,
        "seconds": 0.0,
        "saved_at": [1, 2, 4],
        "waits": False,
        "saved": True,
        "best_k_models": {"epoch=0-step=2.ckpt": 2.0, "epoch=1-step=4.ckpt": 1.0},
        "best_model_path": "epoch=1-step=4.ckpt",
        "best_model_score": 1.0,
        "last_model_path": "last.ckpt",
        "current_score": 1.0,
        "leaving": [],
    }
    assert state_in(runs.checkpoints / "epoch=1-step=4.ckpt", checkpoint) == expected
    assert state_in(runs.checkpoints / "last.ckpt", checkpoint) == {
        **expected,
        "saved_at": [3, 2, 8],
        "best_k_models": {"epoch=1-step=4.ckpt": 1.0, "epoch=3-step=8.ckpt": 1.5},
        "current_score": 1.5,
        "leaving": ["epoch=0-step=2.ckpt"],
    }


def test_weights_alone_can_be_saved(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(save_weights_only=True, save_last=True), scores=[1.0])

    for name in ("epoch=0-step=2.ckpt", "last.ckpt"):
        saved = torch.load(runs.checkpoints / name, weights_only=True)
        assert "state_dict" in saved
        assert "optimizer_states" not in saved


def test_metrics_stand_in_file_names(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", filename="{epoch:02d}-{score:.2f}-{twice/score:.1f}-{train_score}")

    runs.fit(checkpoint, scores=[0.5, 0.25])

    assert runs.files == ["epoch=01-score=0.25-twice_score=0.5-train_score=1.0.ckpt"]


def test_a_name_that_never_changes_is_one_file(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", filename="best")

    runs.fit(checkpoint, scores=[3.0, 1.0, 2.0])

    assert runs.files == ["best.ckpt"]
    assert runs.steps_in(checkpoint.best_model_path) == 4


def test_a_metric_that_was_never_logged_is_an_error_that_lists_what_was(runs: Runs) -> None:
    with pytest.raises(MisconfigurationError, match=r"'scor' was not logged.*'score', 'train_score', 'twice/score'"):
        runs.fit(ModelCheckpoint(monitor="scor"), scores=[1.0])
    with pytest.raises(MisconfigurationError, match=r"names 'scor', which was not logged.*'score', 'train_score'"):
        runs.fit(ModelCheckpoint(filename="{scor}"), scores=[1.0])
    assert runs.files == []


def test_a_metric_of_the_training_epoch_can_be_monitored_in_a_run_that_validates(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="train_score", mode="max")

    runs.fit(checkpoint, scores=[5.0, 5.0, 5.0])

    assert checkpoint.best_model_score == 2.0
    assert runs.files == ["epoch=2-step=6.ckpt"]


def test_verbose_says_what_was_saved(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.fit(ModelCheckpoint(monitor="score", verbose=True), scores=[2.0, 3.0, 1.0])

    said = [line for line in capsys.readouterr().out.splitlines() if "score=" in line]
    assert said == [
        f"score=2 is the best so far: saved {runs.checkpoints / 'epoch=0-step=2.ckpt'}",
        f"score=1 is the best so far (was 2): saved {runs.checkpoints / 'epoch=2-step=6.ckpt'}",
    ]


def test_verbose_without_a_monitor_names_the_files(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    runs.fit(ModelCheckpoint(verbose=True), scores=[2.0])

    assert f"Saved {runs.checkpoints / 'epoch=0-step=2.ckpt'}\n" in capsys.readouterr().out
