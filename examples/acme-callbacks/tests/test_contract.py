"""What holds for every callback of every package: tried in real, short runs."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from hookloop import Callback, Trainer
from hookloop.testing import CallbackContract, TinyDataModule, TinyModule, calls_per_step

from acme_callbacks import Budget, SQLiteLog


class TestSQLiteLog(CallbackContract):
    varying = ["run"]

    def callback(self) -> Callback:
        return SQLiteLog()

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [lambda: SQLiteLog(self.folder / "other.sqlite")]


class TestBudget(CallbackContract):
    varying = ["seconds", "money"]

    def callback(self) -> Callback:
        return Budget(steps=10, money=100.0, price_per_hour=2.5)


class Listens(Callback):
    """Somebody always listens to the end of a batch; what the first one costs is the dispatcher's."""

    def on_train_batch_end(self, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("callback", "allowed"),
    [(SQLiteLog(), 2.0), (Budget(steps=1000, wall_time=timedelta(days=1)), 7.0)],
    ids=["a log, in a step that is not logged", "a budget"],
)
def test_a_step_costs_few_calls(callback: Callback, allowed: float, tmp_path: Path) -> None:
    def calls(one: Callback) -> float:
        trainer = Trainer(
            callbacks=[Listens(), one],
            max_epochs=1,
            log_every_n_steps=1000,
            registered_callbacks=False,
            logger=False,
            accelerator="cpu",
            default_root_dir=tmp_path,
        )
        return calls_per_step(
            TinyModule.training_step, lambda: trainer.fit(TinyModule(), datamodule=TinyDataModule(60))
        )

    assert calls(callback) - calls(Callback()) <= allowed
