"""Several loggers at once: what each is given, who is asked for folders, and what happens when one raises."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from hookloop import Callback, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger, Logger, TensorBoardLogger
from hookloop.loggers.logger import DummyLogger

from .event_files import scalars
from .fitting import Batch, Regression, Rows, loader, loss_of, trainer_in


class Calls(Rows):
    """Writes down the other calls too; raises in one of them if asked to."""

    def __init__(self, raising: str = "", log: list[str] | None = None, name: str = "") -> None:
        super().__init__()
        self.calls: list[str] = [] if log is None else log
        self.raising = raising
        self.prefix = name

    def _called(self, what: str) -> None:
        self.calls.append(f"{self.prefix}{what}")
        if what.partition(" ")[0] == self.raising:
            raise ArithmeticError(f"planted in {self.prefix}{what}")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self._called("log_metrics")

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        self._called("log_graph")

    def save(self) -> None:
        self._called("save")

    def finalize(self, status: str) -> None:
        self._called(f"finalize {status}")


def csv_rows(logger: CSVLogger) -> list[tuple[int, dict[str, float]]]:
    with Path(logger.log_dir, "metrics.csv").open(newline="") as file:
        return [
            (int(row.pop("step")), {name: float(cell) for name, cell in row.items() if cell})
            for row in csv.DictReader(file)
        ]


def test_every_logger_gets_every_row(tmp_path: Path) -> None:
    table, board, own = CSVLogger(tmp_path, "csv"), TensorBoardLogger(tmp_path, "board"), Rows()
    trainer_in(tmp_path, logger=[table, board, own], log_every_n_steps=2).fit(Regression(), loader(), loader(2))

    assert [step for step, _ in own.rows] == [1, 3, 4, 4, 5, 7, 9, 9, 9]
    assert csv_rows(table) == own.rows
    expected: dict[str, list[tuple[int | None, float]]] = {}
    for step, row in own.rows:
        for name, value in row.items():
            expected.setdefault(name, []).append((step, float(np.float32(value))))
    assert scalars(board.log_dir) == expected


def test_loggers_in_one_folder_have_a_number_each_unless_they_are_given_one(tmp_path: Path) -> None:
    apart = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path), CSVLogger(tmp_path)]
    trainer_in(tmp_path, logger=apart, max_epochs=1).fit(Regression(), loader())
    assert [Path(logger.log_dir).name for logger in apart] == ["version_0", "version_1", "version_2"]

    together = [CSVLogger(tmp_path, version="x"), TensorBoardLogger(tmp_path, version="x")]
    trainer_in(tmp_path, logger=together, max_epochs=1).fit(Regression(), loader())
    names = sorted(path.name.partition(".")[0] for path in (tmp_path / "hookloop_logs" / "x").iterdir())
    assert names == ["events", "hparams", "metrics"]


def test_loggers_save_when_a_fit_begins_and_after_every_epoch_and_evaluation(tmp_path: Path) -> None:
    logger = Calls()
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=2, log_every_n_steps=5)
    trainer.fit(Regression(), loader(), loader(2))
    row = "log_metrics"
    epoch = [row, row, "save", row, "save"]
    assert logger.calls == ["save", "log_graph", *epoch, *epoch, "finalize success"]

    logger.calls.clear()
    trainer.validate(dataloaders=loader(2), verbose=False)
    assert logger.calls == [row, "save", "finalize success"]


def test_loggers_are_not_asked_to_save_where_no_row_came_since(tmp_path: Path) -> None:
    class LogsOnce(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            loss = loss_of(self.net, batch)
            if self.current_epoch == 0:
                self.log("loss", loss, on_step=False, on_epoch=True)
            return loss

    logger = Calls()
    trainer_in(tmp_path, logger=logger, max_epochs=3).fit(LogsOnce(), loader())

    assert logger.calls == ["save", "log_graph", "log_metrics", "save", "finalize success"]


def test_rows_of_an_epoch_are_on_disk_when_the_next_one_begins(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    seen: list[list[int]] = []

    class Looks(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch:
                seen.append([step for step, _ in csv_rows(logger)])

    trainer_in(tmp_path, Looks(), logger=logger, log_every_n_steps=5).fit(Regression(), loader())

    assert seen == [[4, 4]]


# Who is asked


def test_the_first_is_the_logger_and_the_module_has_them_too(tmp_path: Path) -> None:
    one, two = Rows(), CSVLogger(tmp_path)
    seen: list[Any] = []

    class Asks(Regression):
        def on_train_start(self) -> None:
            seen.extend([self.logger, list(self.loggers), self.trainer.logger, list(self.trainer.loggers)])

    trainer_in(tmp_path, logger=(one, two), max_epochs=1).fit(Asks(), loader())

    assert seen == [one, [one, two], one, [one, two]]


def test_the_log_dir_is_that_of_the_first_logger_that_has_one(tmp_path: Path) -> None:
    own, table = Rows(), CSVLogger(tmp_path, "csv", version=3)
    assert trainer_in(tmp_path, logger=[own, table]).log_dir == str(tmp_path / "csv" / "version_3")
    assert trainer_in(tmp_path, logger=own).log_dir == str(tmp_path)
    assert trainer_in(tmp_path, logger=False).log_dir == str(tmp_path)


def test_loggers_can_be_exchanged_between_and_during_runs(tmp_path: Path) -> None:
    one, two, three = Rows(), Rows(), Rows()
    trainer = trainer_in(tmp_path, logger=one, max_epochs=1, log_every_n_steps=1)
    trainer.loggers = [two, three]
    assert (trainer.logger, trainer.loggers) == (two, [two, three])
    trainer.logger = None
    assert (trainer.logger, trainer.loggers) == (None, [])
    trainer.logger = two

    class Exchanges(Regression):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
            if batch_idx == 3:
                self.trainer.loggers = [three]  # type: ignore[misc]

    trainer.fit(Exchanges(), loader())
    assert one.rows == []
    assert [step for step, _ in two.rows] == [0, 1, 2]
    assert [step for step, _ in three.rows] == [3, 4, 4]
    with pytest.raises(MisconfigurationError, match=r"logger=3 \(int\) is no logger"):
        trainer.loggers = [3]  # type: ignore[list-item]
    assert trainer.loggers == [three]


def test_the_same_logger_twice_is_an_error(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    with pytest.raises(MisconfigurationError, match=r"has the same CSVLogger twice, which would write every row twice"):
        Trainer(logger=[logger, Rows(), logger], registered_callbacks=False)


# When one raises


@pytest.mark.parametrize("raising", ["log_metrics", "log_graph"])
def test_when_one_raises_the_run_ends_and_all_are_finalized_as_failed(tmp_path: Path, raising: str) -> None:
    log: list[str] = []
    loggers = [Calls(log=log, name="one "), Calls(raising, log, "two "), Calls(log=log, name="three ")]
    with pytest.raises(ArithmeticError, match=f"planted in two {raising}"):
        trainer_in(tmp_path, logger=loggers, log_every_n_steps=1).fit(Regression(), loader())

    assert log.count(f"two {raising}") == 1
    assert f"three {raising}" not in log
    assert log[-3:] == ["one finalize failed", "two finalize failed", "three finalize failed"]


def test_one_that_cannot_begin_ends_the_run_before_anything_is_set_up(tmp_path: Path) -> None:
    loggers = [Calls(), Calls("save"), Calls()]
    stages: list[str] = []

    class SetsUp(Regression):
        def setup(self, stage: str) -> None:
            stages.append(stage)

    with pytest.raises(ArithmeticError, match="planted in save"):
        trainer_in(tmp_path, logger=loggers).fit(SetsUp(), loader())

    assert stages == []
    assert [logger.calls[-1] for logger in loggers] == ["finalize failed"] * 3


def test_the_first_exception_is_raised_and_those_of_loggers_hang_on_it(tmp_path: Path) -> None:
    class Failing(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            raise LookupError("first")

    loggers = [Calls("finalize"), Calls()]
    with pytest.raises(LookupError, match="first") as raised:
        trainer_in(tmp_path, logger=loggers).fit(Failing(), loader())

    [note] = raised.value.__notes__
    assert "Calls" in note
    assert "planted in finalize failed" in note
    assert loggers[1].calls[-1] == "finalize failed"


def test_an_exception_of_finalize_is_raised_after_the_others_were_finalized(tmp_path: Path) -> None:
    loggers = [Calls("finalize"), Calls()]
    with pytest.raises(ArithmeticError, match="planted in finalize success"):
        trainer_in(tmp_path, logger=loggers).fit(Regression(), loader())

    assert loggers[1].calls[-1] == "finalize failed"


def test_a_writer_that_failed_is_replaced_by_the_next_fit(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=1)
    logger.log_metrics({"a": 1.0})
    broken = logger.experiment
    broken.close, closing = _refuses, broken.close
    with pytest.raises(OSError, match="No space left"):
        trainer.fit(Regression(), loader())
    closing()

    trainer.fit(Regression(), loader())
    assert logger.experiment is not broken
    assert [step for step, _ in scalars(logger.log_dir)["loss_epoch"]] == [4, 4]
    logger.finalize("success")


def _refuses() -> None:
    raise OSError("No space left on device")


# Trial runs


def test_a_trial_run_leaves_no_files_and_code_that_uses_a_logger_can_be_tried(tmp_path: Path) -> None:
    kept: list[Any] = []

    class Uses(Regression):
        def on_train_start(self) -> None:
            assert self.logger is not None
            self.logger.experiment.add_image("x", 1)
            self.logger.log_hyperparams({"lr": 0.5})
            kept.extend(self.loggers)

    loggers: list[Logger] = [CSVLogger(tmp_path), TensorBoardLogger(tmp_path, log_graph=True), Rows()]
    trainer = trainer_in(tmp_path, logger=loggers, fast_dev_run=2)
    trainer.fit(Uses(), loader(), loader(2))

    assert [type(logger) for logger in kept] == [DummyLogger]
    assert trainer.log_dir == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        (None, [CSVLogger]),
        (True, [CSVLogger]),
        (False, []),
        ([], []),
        (Rows(), [Rows]),
        ([Rows(), TensorBoardLogger("logs")], [Rows, TensorBoardLogger]),
    ],
)
def test_what_the_argument_logger_means(tmp_path: Path, given: Any, kinds: list[type]) -> None:
    assert [type(logger) for logger in trainer_in(tmp_path, logger=given).loggers] == kinds
    tried = trainer_in(tmp_path, logger=given, fast_dev_run=True).loggers
    assert [type(logger) for logger in tried] == ([DummyLogger] if kinds else [])
