"""Loggers written outside, with and without the base class, and the names that they import."""

import copy
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import hookloop.loggers
import hookloop.loggers.csv_logs
import hookloop.loggers.logger
import hookloop.loggers.tensorboard
from hookloop.loggers import CSVLogger, Logger, TensorBoardLogger
from hookloop.loggers.logger import DummyExperiment, DummyLogger, merge_dicts, rank_zero_experiment

from .fitting import Regression, Rows, loader, trainer_in


class ByShape:
    """Has the six methods, and nothing else: no base class, no property."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self.calls.append(("log_metrics", step, sorted(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("log_hyperparams", params))

    def log_graph(self, model: Any) -> None:
        self.calls.append(("log_graph", type(model)))

    def save(self) -> None:
        self.calls.append(("save",))

    def finalize(self, status: str) -> None:
        self.calls.append(("finalize", status))

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        self.calls.append(("after_save_checkpoint", checkpoint_callback))


def test_a_logger_by_shape_is_called_as_any_other(tmp_path: Path) -> None:
    shaped = ByShape()
    logger: Any = shaped
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=5)
    trainer.fit(Regression(), loader(), loader(2))

    assert issubclass(ByShape, Logger)
    assert trainer.logger is logger
    assert trainer.log_dir == str(tmp_path)
    assert shaped.calls == [
        ("save",),
        ("log_graph", Regression),
        ("log_metrics", 4, ["epoch", "loss_step"]),
        ("log_metrics", 4, ["epoch", "val_loss"]),
        ("save",),
        ("log_metrics", 4, ["epoch", "loss_epoch"]),
        ("save",),
        ("finalize", "success"),
    ]


class Outside(Logger):
    """Written as Lightning's documentation shows it, with everything that is optional."""

    def __init__(self) -> None:
        self.opened = 0
        self.lines: list[str] = []
        self.disk: list[str] = []

    @property
    def name(self) -> str:
        return "outside"

    @property
    def version(self) -> int | str:
        return "0.1"

    @property
    def save_dir(self) -> str:
        return "somewhere"

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        self.opened += 1
        return self.lines

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.experiment.append(f"params {params}")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.append(f"{step} {' '.join(metrics)}")

    def save(self) -> None:
        super().save()
        self.disk = list(self.lines)


def test_a_logger_that_inherits_works_as_it_does_in_lightning(tmp_path: Path) -> None:
    logger = Outside()
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=5)
    assert trainer.log_dir == str(Path("somewhere/outside/0.1"))
    assert logger.opened == 0
    trainer.fit(Regression(), loader())

    assert logger.disk == ["4 loss_step epoch", "4 loss_epoch epoch"]


def test_finalize_saves_unless_it_is_overridden() -> None:
    logger = Outside()
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize("success")
    assert logger.disk == ["0 a"]


def test_a_logger_says_where_it_keeps_things_and_how_it_groups_names(tmp_path: Path) -> None:
    assert (Rows().root_dir, Rows().group_separator) == (None, "/")
    for logger in (CSVLogger(tmp_path, "n"), TensorBoardLogger(tmp_path, "n")):
        assert logger.root_dir == str(tmp_path / "n")
        assert logger.group_separator == "/"


def test_only_rank_zero_opens_the_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = Outside()
    monkeypatch.setenv("RANK", "2")
    logger.log_metrics({"a": 1.0}, 0)
    assert (logger.opened, logger.lines) == (0, [])
    monkeypatch.setenv("RANK", "0")
    logger.log_metrics({"a": 1.0}, 0)
    assert (logger.opened, logger.lines) == (1, ["0 a"])
    # A decorated getter is the same to readers of its documentation.
    assert rank_zero_experiment(Outside.log_metrics).__name__ == "log_metrics"  # type: ignore[arg-type]


# Those that do nothing


def test_a_dummy_takes_everything_and_returns_nothing() -> None:
    logger = DummyLogger()
    logger.log_metrics({"a": 1.0}, step=3)
    logger.log_hyperparams({"lr": 0.5}, 1, more=2)
    logger.log_graph(torch.nn.Identity())
    logger.after_save_checkpoint(object())
    logger.save()
    logger.finalize("success")
    assert logger.whatever(1, two=2) is None
    assert logger[3] is logger
    experiment = logger.experiment
    assert experiment.add_image("x", torch.zeros(1), step=3) is None
    assert experiment["a"]["b"] is experiment
    experiment["a"] = 3
    assert (logger.name, logger.version, logger.save_dir, logger.log_dir) == ("", "", None, None)
    assert isinstance(logger, Logger)


def test_a_dummy_can_be_copied_and_pickled() -> None:
    for dummy in (DummyLogger(), DummyExperiment()):
        assert type(copy.deepcopy(dummy)) is type(dummy)
        assert type(pickle.loads(pickle.dumps(dummy))) is type(dummy)
        with pytest.raises(AttributeError, match="has no attribute '__missing__'"):
            dummy.__missing__  # noqa: B018


# Names


def test_names_are_where_lightning_has_them() -> None:
    assert hookloop.loggers.logger.Logger is Logger
    assert hookloop.loggers.csv_logs.CSVLogger is CSVLogger
    assert hookloop.loggers.tensorboard.TensorBoardLogger is TensorBoardLogger


@pytest.mark.parametrize("name", ["CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger", "WandbLogger"])
def test_a_logger_of_another_service_is_an_error_that_says_how_to_write_one(name: str) -> None:
    with pytest.raises(
        ImportError, match=rf"hookloop has no {name}: it brings CSVLogger and .* write log_metrics"
    ) as no:
        exec(f"from hookloop.loggers import {name}")
    page, heading = re.search(r"(\S+\.md) shows a whole one under '(.*)'", str(no.value)).groups()  # type: ignore[union-attr]
    root = Path(__file__).parents[2]
    if (root / "docs").exists():
        assert f"## {heading}" in (root / page).read_text(encoding="utf-8")


def test_dicts_merge_key_by_key() -> None:
    one = {"a": 1.7, "b": 2.0, "c": 1, "d": {"x": 1, "z": 3}, "none": None}
    two = {"a": 1.1, "b": 2.2, "v": 1, "d": {"x": 2, "y": 3}}
    three = {"a": 1.1, "v": 2.3, "d": {"y": 3, "deep": {"w": 1}}, "none": 4}

    assert merge_dicts([one, two, three], {"a": max, "d": {"x": sum}}, min) == {
        "a": 1.7,
        "b": 2.0,
        "c": 1,
        "v": 1,
        "none": 4,
        "d": {"x": 3, "y": 3, "z": 3, "deep": {"w": 1}},
    }
    assert merge_dicts([{"a": 1}, {"a": 2}]) == {"a": 1.5}
    assert merge_dicts([]) == {}
