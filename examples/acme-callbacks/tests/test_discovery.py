"""The package as it is installed: what Trainers find."""

from datetime import timedelta

import hookloop.callbacks
import pytest
from hookloop import Trainer
from hookloop.errors import CallbackFactoryError

import acme_callbacks
from acme_callbacks import Budget, SQLiteLog

HERE = ["acme-callbacks"]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACME_RUNS", "ACME_BUDGET_HOURS", "ACME_BUDGET_STEPS", "HOOKLOOP_DISABLE_CALLBACKS"):
        monkeypatch.delenv(name, raising=False)


def test_every_trainer_logs_and_none_has_a_budget_that_nobody_asked_for() -> None:
    [log] = Trainer(logger=False, registered_callbacks=HERE).callbacks

    assert isinstance(log, SQLiteLog)
    assert log.path is None


def test_the_environment_names_the_file_and_sets_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_RUNS", "/runs/all.sqlite")
    monkeypatch.setenv("ACME_BUDGET_HOURS", "1.5")
    monkeypatch.setenv("ACME_BUDGET_STEPS", "300")

    log, budget = Trainer(logger=False, registered_callbacks=HERE).callbacks

    assert isinstance(log, SQLiteLog)
    assert log.path == "/runs/all.sqlite"
    assert isinstance(budget, Budget)
    assert (budget.wall_time, budget.steps) == (timedelta(minutes=90), 300)


def test_a_budget_that_is_no_number_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACME_BUDGET_HOURS", "many")

    with pytest.raises(CallbackFactoryError, match=r"ACME_BUDGET_HOURS='many' is no number\. Write one, such as 12\.5"):
        Trainer(logger=False, registered_callbacks=HERE)


def test_a_trial_run_has_none_of_them() -> None:
    assert Trainer(logger=False, registered_callbacks=HERE, fast_dev_run=True).callbacks == []


def test_a_log_that_is_passed_takes_the_place_of_the_registered_one() -> None:
    trainer = Trainer(callbacks=[SQLiteLog("mine.sqlite")], registered_callbacks=HERE, logger=False)

    assert [callback.state_key for callback in trainer.callbacks] == ["SQLiteLog[mine.sqlite]"]


def test_the_classes_are_found_where_all_callbacks_are() -> None:
    assert hookloop.callbacks.SQLiteLog is acme_callbacks.SQLiteLog
    assert hookloop.callbacks.Budget is acme_callbacks.Budget
