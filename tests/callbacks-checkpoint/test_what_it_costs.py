"""What a checkpoint callback costs in a step in which it saves nothing, in Python calls."""

from __future__ import annotations

import copy
import pickle
import statistics
import sys
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop_callbacks_checkpoint import ModelCheckpoint, OnExceptionCheckpoint

BATCHES = 40


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (batch[0] * self.weight).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def calls_per_step(folder: Path, *callbacks: Callback) -> int:
    """Python calls of an ordinary step, which are the same in every run."""
    total, steps = 0, list[int]()

    def listen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal total
        total += event == "call"
        if event == "call" and frame.f_code is Module.training_step.__code__:
            steps.append(total)

    trainer = Trainer(
        max_epochs=1,
        callbacks=list(callbacks),
        registered_callbacks=False,
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    loader = DataLoader(TensorDataset(torch.ones(BATCHES, 1)))
    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        trainer.fit(Module(), loader)
    finally:
        sys.setprofile(before)
    return statistics.mode(after - former for former, after in pairwise(steps[10:]))


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: ModelCheckpoint(folder),
        lambda folder: ModelCheckpoint(folder, save_last=True, save_top_k=-1, every_n_epochs=1),
        lambda folder: copy.deepcopy(ModelCheckpoint(folder)),
        lambda folder: pickle.loads(pickle.dumps(ModelCheckpoint(folder))),
    ],
    ids=["default", "more files", "copied", "pickled"],
)
def test_one_that_saves_by_epochs_costs_nothing_in_a_step(
    tmp_path: Path, make: Callable[[Path], ModelCheckpoint]
) -> None:
    assert calls_per_step(tmp_path, make(tmp_path / "files")) == calls_per_step(tmp_path)


class Looks(Callback):
    """The least that a callback can do after each batch."""

    order = Order.LAST

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        pass


def test_one_that_saves_by_steps_looks_at_the_number_of_steps_and_no_more(tmp_path: Path) -> None:
    looks = calls_per_step(tmp_path, Looks())

    # Beside its own call: trainer.global_step, and whether that is enough.
    assert calls_per_step(tmp_path, ModelCheckpoint(tmp_path, every_n_train_steps=1000)) <= looks + 3


def test_one_that_saves_by_time_looks_at_the_clock_and_no_more(tmp_path: Path) -> None:
    looks = calls_per_step(tmp_path, Looks())
    by_time = ModelCheckpoint(tmp_path, train_time_interval=timedelta(days=1))

    # Beside its own call: whether the optimizer stepped, whether that is long enough, and what rank zero says to it.
    assert calls_per_step(tmp_path, by_time) <= looks + 6


def test_one_for_exceptions_has_the_beginning_of_each_window_kept(tmp_path: Path) -> None:
    looks = calls_per_step(tmp_path, Looks())

    # Beside its own call: two counters; the window, its random states, and what is logged.
    assert looks < calls_per_step(tmp_path, OnExceptionCheckpoint(tmp_path)) <= looks + 5


def test_a_subclass_that_has_a_use_for_the_hook_is_called(tmp_path: Path) -> None:
    called: list[int] = []

    class Own(ModelCheckpoint):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            called.append(batch_idx)
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    calls_per_step(tmp_path, Own(tmp_path, every_n_train_steps=30))

    assert called == list(range(BATCHES))
    assert [path.name for path in tmp_path.iterdir()] == ["epoch=0-step=30.ckpt"]


def test_its_attributes_are_tensors_as_lightning_s_are(tmp_path: Path) -> None:
    class Scored(Module):
        def on_train_epoch_end(self) -> None:
            self.log("score", 0.1 + self.current_epoch)

    checkpoint = ModelCheckpoint(tmp_path, monitor="score", save_top_k=2)
    assert (checkpoint.best_model_score, checkpoint.current_score) == (None, None)
    assert (checkpoint.kth_best_model_path, checkpoint.kth_value.item()) == ("", float("inf"))
    trainer = Trainer(
        max_epochs=3, callbacks=[checkpoint], registered_callbacks=False, logger=False, default_root_dir=tmp_path
    )

    trainer.fit(Scored(), DataLoader(TensorDataset(torch.ones(1, 1))))

    score = checkpoint.best_model_score
    assert isinstance(score, Tensor)
    assert (f"{score:.3f}", round(score.item(), 6), bool(score < 0.2), bool(score == 0.1)) == ("0.100", 0.1, True, True)
    assert float(score) == torch.tensor(0.1).item()
    assert checkpoint.current_score is not None
    assert checkpoint.current_score.item() == torch.tensor(2.1).item()
    assert {Path(path).name: f"{value:.1f}" for path, value in checkpoint.best_k_models.items()} == {
        "epoch=0-step=1.ckpt": "0.1",
        "epoch=1-step=2.ckpt": "1.1",
    }
    assert Path(checkpoint.kth_best_model_path).name == "epoch=1-step=2.ckpt"
    assert checkpoint.kth_value.item() == torch.tensor(1.1).item()
    assert checkpoint.file_exists(checkpoint.best_model_path, trainer)
    checkpoint.to_yaml()
    lines = (tmp_path / "best_k_models.yaml").read_text().splitlines()
    assert [line.rpartition("/")[2][:26] for line in lines] == [
        'epoch=0-step=1.ckpt": 0.10',
        'epoch=1-step=2.ckpt": 1.10',
    ]


def test_the_parts_of_names_can_be_others_in_a_subclass(tmp_path: Path) -> None:
    class Own(ModelCheckpoint):
        CHECKPOINT_JOIN_CHAR = "_"
        CHECKPOINT_EQUALS_CHAR = "-"
        CHECKPOINT_NAME_LAST = "newest"
        FILE_EXTENSION = ".pt"
        STARTING_VERSION = 5

    (tmp_path / "newest.pt").touch()
    checkpoint = Own(tmp_path, save_last=True)
    with pytest.warns(UserWarning, match=r"newest\.pt is there already"):
        calls_per_step(tmp_path, checkpoint)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch-0_step-40.pt", "newest.pt", "newest_v5.pt"]
    assert Own(tmp_path).resolve_checkpoint("last") == [
        str(tmp_path / name) for name in ("newest_v5.pt", "newest.pt", "epoch-0_step-40.pt")
    ]
