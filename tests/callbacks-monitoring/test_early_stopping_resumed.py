"""A resumed run is ended where the uninterrupted one is, and gets back the best weights."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Order
from hookloop.monitor import Monitor
from hookloop.testing import run_on_ranks
from hookloop_callbacks_monitoring import EarlyStopping, EarlyStoppingReason
from hookloop_callbacks_monitoring.criteria import Criteria, Place, Progress

SCORES = (0.9, 0.5, 0.4, 0.6, 0.5, 0.45, 0.7, 0.8, 0.9, 1.0)


class PlantedError(Exception):
    pass


class Saves(Callback):
    """Saves a file after every batch and every validation and at every epoch's end."""

    order = Order.LAST

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[tuple[Path, int]] = []
        for hook in ("on_train_batch_end", "on_validation_end", "on_train_epoch_end"):
            setattr(self, hook, self.save)

    def save(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        path = self.folder / f"{len(self.files)}.ckpt"
        trainer.save_checkpoint(path)
        self.files.append((path, pl_module.validations))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"patience": 5, "unit": "steps"},
        {"patience": 2, "unit": "epochs", "start_from": 1},
        {"patience": 2, "restore_best_weights": True},
    ],
    ids=["checks", "steps", "epochs", "restores"],
)
@pytest.mark.parametrize("interval", [1.0, 2], ids=["each epoch", "twice an epoch"])
def test_resumed_anywhere_it_decides_as_a_run_that_was_never_stopped(
    runs: Any, tmp_path: Path, arguments: dict[str, Any], interval: Any
) -> None:
    whole, saves = EarlyStopping("score", **arguments), Saves(tmp_path / "files")
    trainer = runs.fit(whole, saves, scores=SCORES, val_check_interval=interval)
    expected = (trainer.current_epoch, trainer.global_step, whole.state_dict(), runs.module.steps.item())
    assert whole.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED
    assert len(saves.files) > 15

    for path, validations in saves.files:
        resumed = EarlyStopping("score", **arguments)
        trainer = runs.fit(resumed, scores=SCORES, before=validations, ckpt_path=path, val_check_interval=interval)
        found = (trainer.current_epoch, trainer.global_step, resumed.state_dict(), runs.module.steps.item())
        assert found == expected, path


def test_arguments_come_from_the_constructor_and_not_from_the_file(runs: Any, tmp_path: Path) -> None:
    first = EarlyStopping("score", patience=2)
    trainer = runs.fit(first, scores=SCORES, max_epochs=4)
    trainer.save_checkpoint(tmp_path / "four.ckpt")
    assert (first.wait_count, first.stopping_reason.name) == (1, "NOT_STOPPED")

    patient = EarlyStopping("score", patience=6)
    trainer = runs.fit(patient, scores=SCORES, before=4, ckpt_path=tmp_path / "four.ckpt")

    assert (patient.patience, patient.wait_count, trainer.current_epoch) == (6, 6, 9)


def test_a_run_that_was_ended_goes_on_with_more_patience(runs: Any, tmp_path: Path) -> None:
    first = EarlyStopping("score", patience=1)
    trainer = runs.fit(first, scores=SCORES)
    trainer.save_checkpoint(tmp_path / "ended.ckpt")
    assert (trainer.current_epoch, first.stopped_epoch) == (4, 3)

    class GoesOn(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            trainer.should_stop = False

    second = EarlyStopping("score", patience=2)
    trainer = runs.fit(second, GoesOn(), scores=SCORES, before=4, ckpt_path=tmp_path / "ended.ckpt", max_epochs=20)

    assert (trainer.current_epoch, second.stopped_epoch, second.best_epoch) == (5, 4, 2)


def test_a_state_of_lightning_s_is_taken_over() -> None:
    stopping = EarlyStopping("val_loss", patience=3)

    stopping.load_state_dict(
        {
            "wait_count": 2,
            "stopped_epoch": 0,
            "best_score": 0.25,
            "patience": 7,
            "stopping_reason": 0,
            "stopping_reason_message": None,
        }
    )

    assert (stopping.wait_count, stopping.best_score.item(), stopping.patience) == (2, 0.25, 3)
    assert stopping.best_epoch is None
    stopping.load_state_dict({"wait_count": 0, "stopped_epoch": 0, "best_score": float("inf"), "patience": 7})
    assert stopping.state_dict()["best_score"] is None


def test_after_lightning_s_checks_the_next_one_counts_on() -> None:
    after = Progress.from_state({"wait_count": 2, "best_score": 0.25})
    criteria = Criteria(Monitor("loss"), 0.0, 3, "checks", 0, None, True, None, None)

    progress, verdict = criteria.judge(after, 0.5, Place(3, 9, 90))

    assert (progress.waited, verdict.stops) == (3, True)


# Weights


def test_the_best_weights_are_back_when_training_has_ended(runs: Any) -> None:
    stopping = EarlyStopping("score", restore_best_weights=True)

    trainer = runs.fit(stopping, scores=SCORES)

    assert trainer.global_step == 6 * 4
    assert runs.module.steps.item() == 3 * 4  # the weight is the number of steps, and epoch 2 was the best
    assert "best_weights" not in EarlyStopping("score").state_dict()


def test_they_are_back_too_where_another_limit_ended_it(runs: Any) -> None:
    runs.fit(EarlyStopping("score", restore_best_weights=True), scores=SCORES, max_epochs=4)

    assert runs.module.steps.item() == 12


def test_after_an_exception_the_weights_are_the_last_ones(runs: Any) -> None:
    class Fails(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 4:
                raise PlantedError

    with pytest.raises(PlantedError):
        runs.fit(EarlyStopping("score", restore_best_weights=True), Fails(), scores=SCORES)

    assert runs.module.steps.item() == 16


class Tied(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(2, 2)
        self.other = self.one
        self.norm = nn.BatchNorm1d(2)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.norm(self.other(batch)).square().mean()
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("score", (1.0, 0.5, 0.7, 0.7)[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


def test_tied_weights_and_buffers_are_restored_bit_for_bit(runs: Any) -> None:
    kept: dict[str, Tensor] = {}

    class Keeps(Callback):
        order = Order.LAST

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                kept.update({name: value.clone() for name, value in pl_module.state_dict().items()})

    module = Tied()
    trainer = runs.trainer(EarlyStopping("score", restore_best_weights=True), Keeps(), max_epochs=4)
    trainer.fit(module, DataLoader(list(torch.randn(8, 2)), batch_size=4))  # type: ignore[arg-type]

    assert module.one is module.other
    for name, value in module.state_dict().items():
        assert torch.equal(value, kept[name]), name
    assert kept["norm.num_batches_tracked"] == 4


# Several processes


ON_RANKS = """
from hookloop import Trainer
from hookloop.testing import TinyDataModule, TinyModule
from hookloop_callbacks_monitoring import EarlyStopping


class Differs(TinyModule):
    def validation_step(self, batch, batch_idx):
        # The second process gets worse from epoch 1 on, the first one never does.
        self.log("score", float(self.current_epoch) * (1 if self.global_rank == 1 else -1))


def fit(strategy, folder, **arguments):
    stopping = EarlyStopping("score", patience=2, **arguments)
    kept = {"logger": False, "registered_callbacks": False, "default_root_dir": folder}
    trainer = Trainer(max_epochs=9, callbacks=[stopping], strategy=strategy, **kept)
    trainer.fit(Differs(), datamodule=TinyDataModule())
    weights = stopping.state_dict().get("best_weights")
    batches = None if weights is None else int(weights["net.1.num_batches_tracked"])
    return trainer.current_epoch, stopping.stopping_reason.name, stopping.stopping_reason_message, batches
"""


@pytest.fixture
def on_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Functions in a module that a new process can import."""
    (tmp_path / "stopping_on_ranks.py").write_text(ON_RANKS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("stopping_on_ranks")


def test_one_process_that_wants_to_stop_stops_all_and_all_know_why(on_ranks: Any, tmp_path: Path) -> None:
    why = "Training ends in epoch 2: [rank: 1] score has not improved for 2 checks; the best was 0, in epoch 0."

    assert run_on_ranks(on_ranks.fit, str(tmp_path)) == [(3, "PATIENCE_EXHAUSTED", why, None)] * 2


def test_the_first_process_says_which_weights_are_the_best_of_all(on_ranks: Any, tmp_path: Path) -> None:
    ends = run_on_ranks(on_ranks.fit, str(tmp_path), restore_best_weights=True)

    # Of rank zero the newest epoch is the best, which is after 12 batches; rank one alone would have kept 4.
    assert [batches for *_, batches in ends] == [12, 12]


# Against another way to count


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=30),
    patience=st.integers(0, 5),
    start_from=st.integers(0, 4),
    mode=st.sampled_from(["min", "max"]),
)
def test_patience_is_the_length_of_the_run_of_values_that_are_no_better(
    values: list[float], patience: int, start_from: int, mode: Any
) -> None:
    criteria = Criteria(Monitor("score", mode), 0.0, patience, "checks", start_from, None, True, None, None)
    progress, stopped = Progress(), None
    for check, value in enumerate(values, start=1):
        progress, verdict = criteria.judge(progress, value, Place(check, check, check))
        if verdict.stops:
            stopped = check
            break

    seen = values[start_from:]
    pick = min if mode == "min" else max
    expected = None
    for length in range(1, len(seen) + 1):
        first_best = seen[:length].index(pick(seen[:length]))
        if length - 1 - first_best >= max(patience, 1):
            expected = start_from + length
            break
    assert stopped == expected
