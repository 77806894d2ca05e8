"""Which steps are saved: every trigger against everything in a run that moves a save, by exact lists.

An epoch has four batches, there are three epochs, a validation takes one batch; the lists were worked out by hand.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import LambdaCallback, LightningModule, Trainer
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Runs

EPOCH = [4, 8, 12]
INTERVAL = 3
"""Seconds between two saves by time; a step takes one second."""


class Clock:
    """Goes on by one second with each optimizer step."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def tick(self, *args: Any) -> None:
        self.now += 1


def saves(runs: Runs, checkpoint: ModelCheckpoint, clock: Clock, **arguments: Any) -> list[str]:
    saved: list[str] = []
    listener = LambdaCallback(
        on_checkpoint_saved=lambda trainer, module, path: saved.append(Path(path).stem),
        on_after_optimizer_step=clock.tick,
    )
    runs.fit(checkpoint, listener, **{"scores": [0.0] * 40, "batches": 4, "max_epochs": 3, **arguments})
    return saved


def steps(runs: Runs, settings: dict[str, Any], **arguments: Any) -> list[int]:
    clock = Clock()
    name: dict[str, Any] = {"filename": "{step}", "auto_insert_metric_name": False}
    saved = saves(runs, ModelCheckpoint(**name, save_top_k=-1, clock=clock, **settings), clock, **arguments)
    return [int(name) for name in saved]


TRIGGERS: dict[str, dict[str, Any]] = {
    "default": {},
    "epochs": {"every_n_epochs": 1},
    "2 epochs": {"every_n_epochs": 2},
    "4 epochs": {"every_n_epochs": 4},
    "never": {"every_n_epochs": 0},
    "step": {"every_n_train_steps": 1},
    "3 steps": {"every_n_train_steps": 3},
    "4 steps": {"every_n_train_steps": 4},
    "20 steps": {"every_n_train_steps": 20},
    "time": {"train_time_interval": timedelta(seconds=INTERVAL)},
    "no time": {"train_time_interval": timedelta(0)},
}

RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no validation": {"validate": False},
    "limit_val_batches=0": {"limit_val_batches": 0},
    "val twice an epoch": {"val_check_interval": 0.5},
    "val every 3 batches": {"val_check_interval": 3},
    "val in every 2nd epoch": {"check_val_every_n_epoch": 2},
    "val every 5 batches": {"check_val_every_n_epoch": None, "val_check_interval": 5},
    "accumulation": {"accumulate_grad_batches": 2},
    "accumulation over the end": {"accumulate_grad_batches": 3},
    "ends inside": {"max_steps": 6},
    "ends with an epoch": {"max_steps": 8},
}

EVERY = list(range(1, 13))

# What a trigger by steps or time does is the same wherever validation is.
BY_STEPS: dict[str, dict[str, list[int]]] = {
    "step": {"plain": EVERY, "accumulation": [1, 2, 3, 4, 5, 6], "ends inside": [1, 2, 3, 4, 5, 6]},
    "3 steps": {"plain": [3, 6, 9, 12], "accumulation": [3, 6], "ends inside": [3, 6], "ends with an epoch": [3, 6]},
    "4 steps": {"plain": [4, 8, 12], "accumulation": [4], "ends inside": [4], "ends with an epoch": [4, 8]},
    "20 steps": {"plain": []},
    "time": {"plain": [3, 6, 9, 12], "accumulation": [3, 6], "ends inside": [3, 6], "ends with an epoch": [3, 6]},
    "no time": {"plain": EVERY, "accumulation": [1, 2, 3, 4, 5, 6], "ends inside": [1, 2, 3, 4, 5, 6]},
}
for name in ("step", "no time"):
    BY_STEPS[name]["ends with an epoch"] = [1, 2, 3, 4, 5, 6, 7, 8]
for one in BY_STEPS.values():
    # Two windows an epoch, the second one of a single batch: as many steps as with windows of two.
    one.update({"accumulation over the end": one.get("accumulation", one["plain"])})

BY_EPOCHS: dict[str, dict[str, list[int]]] = {
    "default": {
        "plain": EPOCH,
        "val twice an epoch": [2, 4, 6, 8, 10, 12],
        "val every 3 batches": [3, 7, 11],
        "val in every 2nd epoch": [8],
        "val every 5 batches": [5, 10],
        "accumulation": [2, 4, 6],
        "accumulation over the end": [2, 4, 6],
        "ends inside": [4, 6],
        "ends with an epoch": [4, 8],
    },
    "2 epochs": {
        "plain": [8],
        "val twice an epoch": [6, 8],
        "val every 3 batches": [7],
        "val in every 2nd epoch": [8],
        "val every 5 batches": [5],  # in the second epoch; 10 is in the third
        "accumulation": [4],
        "accumulation over the end": [4],
        "ends inside": [6],
        "ends with an epoch": [8],
    },
    "4 epochs": {"plain": []},
    "never": {"plain": []},
}
BY_EPOCHS["epochs"] = BY_EPOCHS["default"]
for never in ("4 epochs", "never"):
    BY_EPOCHS[never].update({run: [] for run in RUNS})

EXPECTED = {**BY_STEPS, **BY_EPOCHS}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("trigger", TRIGGERS)
def test_exactly_these_steps_are_saved(runs: Runs, trigger: str, run: str) -> None:
    assert steps(runs, TRIGGERS[trigger], **RUNS[run]) == EXPECTED[trigger].get(run, EXPECTED[trigger]["plain"])


@pytest.mark.parametrize(
    ("run", "at_the_end", "after_validation"),
    [
        ("plain", EPOCH, EPOCH),
        ("no validation", EPOCH, []),
        ("limit_val_batches=0", EPOCH, []),
        ("val twice an epoch", EPOCH, [2, 4, 6, 8, 10, 12]),
        ("val every 3 batches", EPOCH, [3, 7, 11]),
        ("val in every 2nd epoch", EPOCH, [8]),
        ("val every 5 batches", EPOCH, [5, 10]),
        ("accumulation", [2, 4, 6], [2, 4, 6]),
        ("ends inside", [4, 6], [4]),
    ],
)
def test_where_in_an_epoch_is_as_it_was_asked_for(
    runs: Runs, run: str, at_the_end: list[int], after_validation: list[int]
) -> None:
    assert steps(runs, {"save_on_train_epoch_end": True}, **RUNS[run]) == at_the_end
    for file in runs.checkpoints.iterdir():
        file.unlink()
    assert steps(runs, {"save_on_train_epoch_end": False}, **RUNS[run]) == after_validation


# What belongs to a validation waits for it, so that the score and the name are those of the weights in the file.
@pytest.mark.parametrize(
    ("trigger", "run", "expected"),
    [
        ("4 steps", "plain", [4, 8, 12]),
        ("3 steps", "plain", [4, 8, 12]),
        ("step", "plain", [4, 8, 12]),
        ("3 steps", "val twice an epoch", [4, 6, 10, 12]),
        ("3 steps", "val every 3 batches", [3, 7, 11]),
        ("4 steps", "val in every 2nd epoch", [8]),
        ("3 steps", "val every 5 batches", [5, 10]),
        ("3 steps", "accumulation", [4, 6]),
        ("4 steps", "ends inside", [4]),
        ("time", "val twice an epoch", [4, 6, 10, 12]),
    ],
)
@pytest.mark.parametrize("by", ["monitor", "name"])
def test_a_trigger_within_an_epoch_waits_for_the_metric_that_it_needs(
    runs: Runs, trigger: str, run: str, expected: list[int], by: str
) -> None:
    clock = Clock()
    settings: dict[str, Any] = {**TRIGGERS[trigger], "auto_insert_metric_name": False, "clock": clock}
    needs: dict[str, Any] = {"monitor": "score", "save_top_k": 99} if by == "monitor" else {"save_top_k": -1}
    scores = [float(number) for number in range(1, 13)]
    checkpoint = ModelCheckpoint(filename="{step}-{score:.0f}", **needs, **settings)

    saved = saves(runs, checkpoint, clock, scores=scores, **RUNS[run])

    assert [int(name.partition("-")[0]) for name in saved] == expected
    # The n-th validation logs n: a name says which one it waited for.
    validations = {
        "plain": [4, 8, 12],
        "val twice an epoch": [2, 4, 6, 8, 10, 12],
        "val every 3 batches": [3, 7, 11],
        "val in every 2nd epoch": [8],
        "val every 5 batches": [5, 10],
        "accumulation": [2, 4, 6],
        "ends inside": [4],
    }[run]
    assert saved == [f"{step}-{validations.index(step) + 1}" for step in expected]


class TwoOptimizers(LightningModule):
    """Steps two optimizers in each batch, by hand."""

    automatic_optimization = False

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(self.weight.sum())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=1.0) for _ in range(2)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every_n_train_steps": 2}, [2, 4, 6, 8]),
        ({"every_n_train_steps": 3}, [4, 6]),
        ({"every_n_train_steps": 5}, [6]),
        ({"train_time_interval": timedelta(seconds=3)}, [4, 8]),
        ({}, [8]),
    ],
)
def test_a_batch_that_steps_twice_may_jump_over_the_number_and_saves_after_it(
    runs: Runs, batches: Callable[[int], DataLoader[Any]], settings: dict[str, Any], expected: list[int]
) -> None:
    saved: list[str] = []
    clock = Clock()
    listener = LambdaCallback(
        on_checkpoint_saved=lambda trainer, module, path: saved.append(Path(path).stem),
        on_after_optimizer_step=clock.tick,
    )
    checkpoint = ModelCheckpoint(
        filename="{step}", save_top_k=-1, auto_insert_metric_name=False, clock=clock, **settings
    )
    trainer = Trainer(
        max_epochs=1,
        callbacks=[checkpoint, listener],
        registered_callbacks=False,
        logger=False,
        default_root_dir=runs.folder,
    )

    trainer.fit(TwoOptimizers(), batches(4))

    assert [int(step) for step in saved] == expected


def test_an_interval_goes_on_where_the_former_process_was_interrupted(runs: Runs) -> None:
    settings: dict[str, Any] = {"train_time_interval": timedelta(seconds=5), "save_on_exception": True}

    def stop(trainer: Any, *args: Any) -> None:
        if trainer.global_step == 3:
            raise KeyboardInterrupt

    clock = Clock()
    checkpoint = ModelCheckpoint(filename="{step}", clock=clock, **settings)
    ticks = LambdaCallback(on_after_optimizer_step=clock.tick, on_train_batch_end=stop)
    with pytest.raises(KeyboardInterrupt):
        runs.fit(checkpoint, ticks, scores=[0.0] * 3, batches=4)
    clock = Clock()  # of another process, which begins somewhere else

    resumed = ModelCheckpoint(filename="{step}", clock=clock, **settings)
    saved = saves(runs, resumed, clock, ckpt_path=checkpoint.last_model_path)

    assert saved == ["step=5", "step=10"]
