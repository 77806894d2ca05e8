"""What stands in the file, after runs that ended well, by an exception, and that were resumed."""

import json
import math
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import Logger
from hookloop.testing import TinyDataModule, TinyModule
from hookloop.view import TrainerView

from acme_callbacks import SQLiteLog


class Settings(TinyModule):
    def __init__(self, rate: float = 0.05, sizes: Sequence[int] = (1, 2)) -> None:
        super().__init__()
        self.save_hyperparameters()


class Rows(Logger):
    """What loggers get: steps, and numbers by name."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))


class Saves(Callback):
    """Saves at a step; at another one, it raises."""

    order = Order.LAST

    def __init__(self, path: Path, at_step: int, dies_at: int = -1) -> None:
        self.path = path
        self.at_step = at_step
        self.dies_at = dies_at

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
        if trainer.global_step == self.at_step:
            trainer.save_checkpoint(self.path)
        if trainer.global_step == self.dies_at:
            raise ZeroDivisionError


def trainer_of(folder: Path, *callbacks: Callback, **more: Any) -> Trainer:
    arguments: dict[str, Any] = {"max_epochs": 2, "log_every_n_steps": 2, "logger": False} | more
    return Trainer(
        callbacks=list(callbacks),
        default_root_dir=folder,
        registered_callbacks=False,
        accelerator="cpu",
        **arguments,
    )


def fit(folder: Path, *callbacks: Callback, ckpt_path: Path | None = None, **more: Any) -> Trainer:
    """Fit with four batches in an epoch and a validation at its end."""
    torch.manual_seed(1)
    trainer = trainer_of(folder, *callbacks, **more)
    trainer.fit(Settings(), datamodule=TinyDataModule(4), ckpt_path=ckpt_path)
    return trainer


def select(path: Path, query: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def metrics(path: Path) -> list[Any]:
    return select(path, "SELECT moment, stage, epoch, step, name, value FROM metrics ORDER BY run, moment, name")


def test_the_file_has_what_loggers_get(tmp_path: Path) -> None:
    logger = Rows()

    fit(tmp_path, SQLiteLog(), logger=logger)

    expected = [(step, name, value) for step, row in logger.rows for name, value in row.items() if name != "epoch"]
    # Loggers count steps from 0; the file has how many were taken.
    found = select(tmp_path / "acme_runs.sqlite", "SELECT step - 1, name, value FROM metrics")
    assert sorted(found) == sorted(expected)
    assert len(found) == 2 * (2 + 1 + 4)


def test_every_row_says_where_it_was_written(tmp_path: Path) -> None:
    fit(tmp_path, SQLiteLog(), max_epochs=1)

    assert [row[:5] for row in metrics(tmp_path / "acme_runs.sqlite")] == [
        (0, "train", 0, 2, "train_loss_step"),
        (1, "train", 0, 4, "train_loss_step"),
        (2, "validate", 0, 4, "falling"),
        (2, "validate", 0, 4, "rising"),
        (2, "validate", 0, 4, "val_loss"),
        (2, "validate", 0, 4, "wavering"),
        (3, "train", 0, 4, "train_loss_epoch"),
    ]


def test_hyperparameters_and_the_attempt_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "runs.sqlite"

    fit(tmp_path, SQLiteLog(path, name="first"), max_epochs=1)

    settings = dict(select(path, "SELECT name, value FROM hyperparameters"))
    assert {name: json.loads(value) for name, value in settings.items()} == {"rate": 0.05, "sizes": [1, 2]}
    assert select(path, "SELECT name FROM runs") == [("first",)]
    [(attempt, first, began, ended, status)] = select(path, "SELECT attempt, first, began, ended, status FROM attempts")
    assert (attempt, first, status) == (0, 0, "finished")
    assert began <= ended


def test_several_runs_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    for name in ("one", "two"):
        fit(tmp_path, SQLiteLog(path, name))

    found = select(path, "SELECT runs.name, count(*) FROM metrics JOIN runs USING (run) GROUP BY runs.name ORDER BY 1")
    assert found == [("one", 14), ("two", 14)]


def test_two_processes_write_to_one_file_at_once(tmp_path: Path) -> None:
    # Each holds the lock for a moment, hundreds of times; nothing of either is lost.
    program = (
        "import sys\nfrom pathlib import Path\n"
        "from acme_callbacks.sqlite_file import Moment, begin_attempt, prepare, write\n"
        "path, run = Path(sys.argv[1]), sys.argv[2]\nprepare(path)\n"
        "attempt, _ = begin_attempt(path, run, '', 0, {})\n"
        "for n in range(200):\n    write(path, run, attempt, [Moment(n, 0.0, 'train', 0, n, {'loss': float(n)})])\n"
    )
    path = tmp_path / "runs.sqlite"

    both = [subprocess.Popen([sys.executable, "-c", program, path, run]) for run in ("one", "two")]

    assert [one.wait() for one in both] == [0, 0]
    assert select(path, "SELECT run, count(*), sum(value) FROM metrics GROUP BY run ORDER BY run") == [
        ("one", 200, 19900.0),
        ("two", 200, 19900.0),
    ]


@pytest.mark.parametrize("at_step", [2, 3, 4, 6], ids=lambda step: f"saved after step {step}")
def test_a_resumed_run_goes_on_as_if_it_had_never_been_stopped(at_step: int, tmp_path: Path) -> None:
    straight, broken = tmp_path / "straight.sqlite", tmp_path / "broken.sqlite"
    fit(tmp_path, SQLiteLog(straight))
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, SQLiteLog(broken), Saves(tmp_path / "saved.ckpt", at_step, dies_at=7))

    fit(tmp_path, SQLiteLog(broken), ckpt_path=tmp_path / "saved.ckpt")

    assert metrics(broken) == metrics(straight)
    assert select(broken, "SELECT attempt, status FROM attempts") == [(0, "ZeroDivisionError"), (1, "finished")]


def test_what_was_written_after_the_checkpoint_is_kept_and_left_out_of_the_metrics(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, SQLiteLog(path), Saves(tmp_path / "saved.ckpt", 2, dies_at=7))
    before = select(path, "SELECT * FROM points")

    fit(tmp_path, SQLiteLog(path), ckpt_path=tmp_path / "saved.ckpt")

    # A step, a step, an epoch's end with its validation, and a step.
    assert len(before) == 1 + 1 + 5 + 1
    assert set(before) <= set(select(path, "SELECT * FROM points"))
    assert len(metrics(path)) == 14


def test_an_exception_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"

    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, SQLiteLog(path), Saves(tmp_path / "no.ckpt", -1, dies_at=3), log_every_n_steps=1)

    assert [row[3] for row in metrics(path)] == [1, 2, 3]
    [(status, ended)] = select(path, "SELECT status, ended FROM attempts")
    assert status == "ZeroDivisionError"
    assert ended is not None


def test_a_checkpoint_counts_on_what_was_written_before_it(tmp_path: Path) -> None:
    path, seen = tmp_path / "runs.sqlite", []

    class Looks(Saves):
        def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path_of_it: str) -> None:
            seen.append(len(metrics(path)))

    fit(tmp_path, SQLiteLog(path), Looks(tmp_path / "saved.ckpt", 3), log_every_n_steps=1)

    assert seen == [3]


def test_rows_are_written_when_enough_are_there(tmp_path: Path) -> None:
    path, seen = tmp_path / "runs.sqlite", []

    class Looks(Callback):
        order = Order.LAST

        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *of_batch: Any) -> None:
            seen.append(len(metrics(path)))

    fit(tmp_path, SQLiteLog(path, buffer=3), Looks(), log_every_n_steps=1, max_epochs=1, limit_val_batches=0)

    assert seen == [0, 0, 3, 3]
    assert len(metrics(path)) == 4 + 1


def test_validate_and_test_write_too_and_belong_to_the_run(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"
    log = SQLiteLog(path)
    saves = Saves(tmp_path / "saved.ckpt", 2)
    trainer = fit(tmp_path, log, saves, max_epochs=1)
    written = len(metrics(path))

    trainer.test(Settings(), datamodule=TinyDataModule(), ckpt_path=saves.path, verbose=False)
    again = trainer_of(tmp_path, SQLiteLog(path))
    again.validate(Settings(), datamodule=TinyDataModule(), ckpt_path=saves.path, verbose=False)

    assert select(path, "SELECT count(*) FROM runs") == [(1,)]
    # Earlier weights were looked at; what the fit wrote after them stays.
    assert [(stage, name) for _, stage, _, _, name, _ in metrics(path)[written:]] == [
        ("test", "test_loss"),
        *(("validate", name) for name in ("falling", "rising", "val_loss", "wavering")),
    ]


def test_validation_inside_an_epoch_writes_what_it_logged_alone(tmp_path: Path) -> None:
    fit(tmp_path, SQLiteLog(), val_check_interval=2)

    rows = metrics(tmp_path / "acme_runs.sqlite")
    assert {name for _, stage, _, _, name, _ in rows if stage == "validate"} == {
        "falling",
        "rising",
        "val_loss",
        "wavering",
    }
    # The epoch's index does not change in between, and is written each time.
    assert [(epoch, step, value) for _, _, epoch, step, name, value in rows if name == "rising"] == [
        (0, 2, 0.0),
        (0, 4, 0.0),
        (1, 6, 1.0),
        (1, 8, 1.0),
    ]


def test_a_name_that_training_and_validation_share_is_written_for_both(tmp_path: Path) -> None:
    class Shares(TinyModule):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", 1.0 + self.global_step, on_step=False, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("loss", 100.0 + self.current_epoch)

    trainer_of(tmp_path, SQLiteLog()).fit(Shares(), datamodule=TinyDataModule(4))

    rows = metrics(tmp_path / "acme_runs.sqlite")
    assert [(stage, value) for _, stage, _, _, name, value in rows if name == "loss"] == [
        ("validate", 100.0),
        ("train", 2.5),
        ("validate", 101.0),
        ("train", 6.5),
    ]


def test_numbers_that_are_none_are_null_and_infinity_is_itself(tmp_path: Path) -> None:
    class Odd(TinyModule):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log_dict({"nan": math.nan, "inf": -math.inf})

    trainer_of(tmp_path, SQLiteLog()).validate(Odd(), datamodule=TinyDataModule(), verbose=False)

    assert [row[4:] for row in metrics(tmp_path / "acme_runs.sqlite")] == [("inf", -math.inf), ("nan", None)]


@pytest.mark.parametrize("what", ["no database", "a database of others", "a folder"])
def test_a_file_that_cannot_be_used_is_told_before_training_and_left_alone(what: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    if what == "no database":
        path.write_text("Milk, eggs, bread. " * 40)
    elif what == "a folder":
        path.mkdir()
    else:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE runs (owner)")
            connection.commit()
    before = path.read_bytes() if path.is_file() else None

    with pytest.raises(
        MisconfigurationError, match=r"SQLiteLog cannot use .*notes \(.*\)\. Give it the path of a file"
    ):
        fit(tmp_path, SQLiteLog(path))

    assert (path.read_bytes() if path.is_file() else None) == before


def test_a_file_that_breaks_during_training_does_not_end_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.sqlite"

    class Breaks(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("ALTER TABLE points RENAME TO gone")

        def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("ALTER TABLE gone RENAME TO points")

    with pytest.warns(UserWarning, match=r"SQLiteLog could not write to .* rows are kept, and it tries again later"):
        trainer = fit(tmp_path, SQLiteLog(path), Breaks())

    assert trainer.global_step == 8
    assert len(metrics(path)) == 14


def test_a_buffer_of_nothing_is_refused() -> None:
    with pytest.raises(MisconfigurationError, match=r"SQLiteLog\(buffer=0\): it must be at least 1"):
        SQLiteLog(buffer=0)
