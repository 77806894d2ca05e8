"""What loggers learn of the files: when, how often, and what the callback can tell them by then."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop.loggers import Logger
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs


class Uploads(Logger):
    """Keeps what a logger that uploads files would: names, scores, and whether the files can be loaded."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, float | None]] = []
        self.steps: list[int] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        best, last = checkpoint_callback.best_model_path, checkpoint_callback.last_model_path
        self.heard.append((Path(best).name, Path(last).name, checkpoint_callback.best_model_score))
        self.steps.append(torch.load(last or best, weights_only=True)["global_step"])


def test_a_logger_hears_of_a_file_when_the_callback_names_it_and_it_can_be_loaded(runs: Runs) -> None:
    logger = Uploads()

    runs.fit(ModelCheckpoint(monitor="score"), scores=[3.0, 1.0, 2.0], logger=logger)

    assert logger.heard == [("epoch=0-step=2.ckpt", "", 3.0), ("epoch=1-step=4.ckpt", "", 1.0)]
    assert logger.steps == [2, 4]


def test_a_logger_hears_of_the_best_file_and_of_the_last_one_by_turns(runs: Runs) -> None:
    logger = Uploads()

    runs.fit(ModelCheckpoint(monitor="score", save_last=True), scores=[1.0, 2.0], logger=logger)

    assert logger.heard == [
        ("epoch=0-step=2.ckpt", "", 1.0),
        ("epoch=0-step=2.ckpt", "last.ckpt", 1.0),
        ("epoch=0-step=2.ckpt", "last.ckpt", 1.0),
    ]
    assert logger.steps == [2, 2, 4]


def test_every_logger_hears_of_every_file_of_every_callback(runs: Runs, tmp_path: Path) -> None:
    loggers = [Uploads(), Uploads()]
    one = ModelCheckpoint(monitor="score", dirpath=tmp_path / "one")
    two = ModelCheckpoint(dirpath=tmp_path / "two", save_top_k=-1)

    runs.fit(one, two, scores=[2.0, 3.0], logger=loggers)

    # The first callback saves once, the second one in both epochs.
    assert [len(logger.heard) for logger in loggers] == [3, 3]


def test_a_logger_that_raises_ends_the_fit_and_the_file_stays(runs: Runs, tmp_path: Path) -> None:
    class Refuses(Uploads):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            raise ConnectionError("planted")

    checkpoint = ModelCheckpoint(dirpath=tmp_path)
    with pytest.raises(ConnectionError, match="planted"):
        runs.fit(checkpoint, scores=[1.0], logger=Refuses())

    assert checkpoint.best_model_path == str(tmp_path / "epoch=0-step=2.ckpt")
    assert torch.load(checkpoint.best_model_path, weights_only=True)["global_step"] == 2


def test_nothing_is_told_in_a_trial_run(runs: Runs) -> None:
    logger = Uploads()

    runs.fit(ModelCheckpoint(), scores=[1.0], logger=logger, fast_dev_run=True)

    assert logger.heard == []
