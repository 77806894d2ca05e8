"""Budgets that end runs, and what a restarted job does with what is left."""

import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyDataModule, TinyModule, run_on_ranks
from hookloop.view import TrainerView

from acme_callbacks import Budget


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 5000.0

    def __call__(self) -> float:
        return self.seconds


class Hours(Callback):
    """Each batch takes an hour, and each validation half of one."""

    order = Order.FIRST

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def on_train_batch_start(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
        self.clock.seconds += 3600

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.clock.seconds += 1800


class Saves(Callback):
    order = Order.LAST

    def __init__(self, path: Path, at_step: int) -> None:
        self.path = path
        self.at_step = at_step

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
        if trainer.global_step == self.at_step:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def fit(
    folder: Path,
    *callbacks: Callback,
    ckpt_path: Path | None = None,
    **more: Any,
) -> Trainer:
    """Fit with four batches in an epoch and a validation at its end."""
    arguments: dict[str, Any] = {"max_epochs": 10, "num_sanity_val_steps": 0, "accelerator": "cpu"} | more
    trainer = Trainer(
        callbacks=list(callbacks),
        default_root_dir=folder,
        registered_callbacks=False,
        logger=False,
        **arguments,
    )
    trainer.fit(TinyModule(), datamodule=TinyDataModule(4), ckpt_path=ckpt_path)
    return trainer


def test_a_run_ends_at_its_steps_and_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    budget = Budget(steps=6)

    trainer = fit(tmp_path, budget)

    assert trainer.global_step == 6
    assert budget.used_steps == 6
    assert budget.reason == "6 of 6 steps are taken"
    assert capsys.readouterr().out == "Budget: training ends, 6 of 6 steps are taken.\n"


def test_a_run_ends_at_its_time_and_validation_is_in_it(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(wall_time=timedelta(hours=6), clock=clock)

    trainer = fit(tmp_path, budget, Hours(clock))

    # Four batches and a validation make 4.5 hours, the next two batches 6.5.
    assert trainer.global_step == 6
    assert budget.reason == "6:30:00 of 6:00:00 is over"
    # The epoch is ended in order, with its validation.
    assert budget.used_seconds == 7 * 3600


def test_a_reserve_is_kept_for_what_follows_the_last_batch(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(wall_time=timedelta(hours=6), reserve=timedelta(minutes=30), clock=clock)

    trainer = fit(tmp_path, budget, Hours(clock))

    assert trainer.global_step == 5
    assert budget.reason == "5:30:00 of 6:00:00 is over, and 0:30:00 is kept for the end"
    assert budget.used_seconds == 6 * 3600


def test_a_run_ends_when_its_money_is_spent(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(money=10.0, price_per_hour=2.5, clock=clock)

    trainer = fit(tmp_path, budget, Hours(clock))

    assert trainer.global_step == 4
    assert budget.reason == "10.00 of 10.00 is spent"
    assert budget.used_money == 11.25


def test_the_total_survives_a_resume_and_a_change_of_price(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "saved.ckpt"
    stopped = Budget(money=1000.0, price_per_hour=2.0, clock=clock)
    fit(tmp_path, stopped, Hours(clock), Saves(path, 3), max_epochs=1, limit_val_batches=0)
    fourth = Budget(money=20.0, price_per_hour=4.0, clock=clock)

    trainer = fit(tmp_path, fourth, Hours(clock), ckpt_path=path, limit_val_batches=0)

    # Four hours at 2 are 8, and three at 4 are 12.
    assert trainer.global_step == 7
    assert fourth.used_money == 20.0
    assert fourth.used_seconds == 7 * 3600


def test_time_between_two_runs_is_not_counted(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "saved.ckpt"
    fit(tmp_path, Budget(steps=3, clock=clock), Hours(clock), Saves(path, 3), limit_val_batches=0)
    clock.seconds += 1e6
    resumed = Budget(wall_time=timedelta(hours=6), clock=clock)

    fit(tmp_path, resumed, Hours(clock), ckpt_path=path, limit_val_batches=0)

    assert resumed.used_seconds == 6 * 3600


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_restarted_job_with_the_same_budget_trains_nothing_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "saved.ckpt"
    fit(tmp_path, Budget(steps=6), Saves(path, 6))
    capsys.readouterr()

    # Who raises max_epochs has not raised the budget.
    for max_epochs in (10, 20):
        trainer = fit(tmp_path, budget := Budget(steps=6), ckpt_path=path, max_epochs=max_epochs)

        assert (trainer.global_step, budget.reason) == (6, "6 of 6 steps are taken")
        assert capsys.readouterr().out == "Budget: training ends, 6 of 6 steps are taken.\n"


@pytest.mark.filterwarnings("error:There is nothing to train")
@pytest.mark.parametrize("at_step", [6, 99], ids=["saved in the batch that ended it", "saved at the end of its epoch"])
def test_a_restarted_job_with_a_larger_budget_goes_on_as_if_it_always_had_it(at_step: int, tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    fit(tmp_path, Budget(steps=6), Saves(path, at_step))
    path.rename(path := tmp_path / "first.ckpt")

    trainer = fit(tmp_path, budget := Budget(steps=9), ckpt_path=path)

    assert (trainer.global_step, budget.used_steps) == (9, 9)


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_what_somebody_else_asked_for_is_not_taken_back(tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
            if trainer.global_step == 6:
                trainer.should_stop = True

    path = tmp_path / "saved.ckpt"
    fit(tmp_path, Stops(), budget := Budget(steps=6), Saves(path, 6))

    trainer = fit(tmp_path, Budget(steps=100), ckpt_path=path)

    assert budget.reason == ""
    assert trainer.global_step == 6


def test_no_gradients_of_an_accumulation_window_are_lost(tmp_path: Path) -> None:
    clock = Clock()
    budget = Budget(wall_time=timedelta(hours=3), clock=clock)

    trainer = fit(tmp_path, budget, Hours(clock), accumulate_grad_batches=4)

    assert (trainer.global_step, trainer.state.finished) == (1, True)
    assert budget.reason == "4:00:00 of 3:00:00 is over"


def test_a_budget_that_joins_later_counts_from_there(tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    fit(tmp_path, Saves(path, 99), max_epochs=1)

    trainer = fit(tmp_path, budget := Budget(steps=3), ckpt_path=path)

    assert (trainer.global_step, budget.used_steps) == (7, 3)


# New processes import it, and a file of tests is no module for them.
ON_A_RANK = """
from datetime import timedelta
from acme_callbacks import Budget
from hookloop import Callback, Trainer
from hookloop.testing import TinyDataModule, TinyModule

class Clock(Callback):
    now = 0.0
    def __call__(self):
        return self.now
    def on_train_batch_start(self, trainer, *arguments):
        self.now += 3600 if trainer.global_rank == 0 else 60

def steps(strategy, folder):
    clock = Clock()
    callbacks = [clock, Budget(wall_time=timedelta(hours=6), clock=clock)]
    quiet = {"logger": False, "registered_callbacks": False, "default_root_dir": folder}
    trainer = Trainer(strategy=strategy, callbacks=callbacks, max_epochs=3, **quiet)
    trainer.fit(TinyModule(), datamodule=TinyDataModule(4))
    return trainer.global_step
"""


def test_processes_whose_clocks_differ_end_after_the_same_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "on_a_rank.py").write_text(ON_A_RANK)
    monkeypatch.syspath_prepend(tmp_path)
    steps = importlib.import_module("on_a_rank").steps

    assert run_on_ranks(steps, str(tmp_path)) == [6, 6]


def test_min_steps_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(tmp_path, Budget(steps=2), min_steps=5)

    assert trainer.global_step == 5
    assert capsys.readouterr().out.count("training ends") == 1


class SavesOnce(Saves):
    def __init__(self, path: Path) -> None:
        super().__init__(path, at_step=2)

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Keep the earlier file."""


def test_to_test_earlier_weights_gives_nothing_back(tmp_path: Path) -> None:
    path = tmp_path / "saved.ckpt"
    budget = Budget(steps=6)
    trainer = fit(tmp_path, budget, SavesOnce(path), max_epochs=1, limit_val_batches=0)

    trainer.test(TinyModule(), datamodule=TinyDataModule(), ckpt_path=path, verbose=False)

    assert budget.used_steps == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"Budget\(\) has no limit\. Give at least one of steps=1000"),
        ({"steps": 0}, r"Budget\(steps=0\): it must be a number above 0"),
        ({"steps": 2.5}, r"Budget\(steps=2\.5\): it must be a whole number"),
        ({"wall_time": 3600}, r"Budget\(wall_time=3600\): it must be a timedelta"),
        ({"wall_time": timedelta(0)}, r"it must be longer than nothing"),
        ({"money": 5.0}, r"Budget\(money=5\.0, price_per_hour=None\): give both, or neither"),
        ({"money": float("nan"), "price_per_hour": 1.0}, r"Budget\(money=nan\): it must be a number above 0"),
        ({"steps": 5, "reserve": timedelta(1)}, r"there is no limit of time or money"),
        ({"wall_time": timedelta(1), "reserve": timedelta(-1)}, r"it must not be negative"),
        ({"money": 5.0, "price_per_hour": 2.5, "reserve": timedelta(hours=2)}, r"all of the budget, which is 2:00:00"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Budget(**arguments)
