"""Settings in TensorBoard's table of hyperparameters, and in hparams.yaml beside it."""

from __future__ import annotations

import enum
import math
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookloop.errors import MisconfigurationError
from hookloop.loggers import TensorBoardLogger

from .event_files import event_files, scalars, shown_settings


def settings_text(logger: TensorBoardLogger) -> str:
    return Path(logger.log_dir, "hparams.yaml").read_text(encoding="utf-8")


class Colour(enum.Enum):
    RED = 1


@dataclass
class Nested:
    rate: float
    sizes: tuple[int, ...]


def test_settings_are_shown_flat_and_kept_nested_on_disk(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams(
        {
            "lr": 0.1,
            "steps": 3,
            "flag": True,
            "none": None,
            "name": "sgd",
            "sizes": (64, 32),
            "nested": Nested(0.25, (1,)),
            "space": Namespace(x=1, deeper={"y": 2}),
            "loaders": [{"a": 1}, {"a": 2}],
            "empty": {},
            "colour": Colour.RED,
            "tensor": torch.tensor(0.5),
            "vector": torch.tensor([1.0, 2.0]),
            "numpy": np.float32(0.25),
            "class": torch.optim.SGD,
            "huge": 10**400,
            "nan": math.nan,
            "surrogate": "\udcff",
            3: "key",
        }
    )
    logger.finalize("success")

    [(shown, metrics)] = shown_settings(logger.log_dir)
    assert math.isnan(shown.pop("nan"))
    assert shown == {
        "lr": 0.1,
        "steps": 3.0,
        "flag": 1.0,
        "none": "None",
        "name": "sgd",
        "sizes": "[64, 32]",
        "nested/rate": 0.25,
        "nested/sizes": "[1]",
        "space/x": 1.0,
        "space/deeper/y": 2.0,
        "loaders/0/a": 1.0,
        "loaders/1/a": 2.0,
        "empty": "{}",
        "colour": "RED",
        "tensor": 0.5,
        "vector": "tensor([1., 2.])",
        "numpy": 0.25,
        "class": "torch.optim.sgd.SGD",
        "huge": str(10**400),
        "surrogate": r"\udcff",
        "3": "key",
    }
    assert metrics == ["hp_metric"]
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0)]}
    assert "nested:\n  rate: 0.25\n  sizes:\n    - 1\n" in settings_text(logger)
    assert logger.hparams["nested"] == {"rate": 0.25, "sizes": [1]}


def test_settings_may_come_with_metrics(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    logger.log_hyperparams({"lr": 0.5})
    assert settings_text(logger) == "lr: 0.5\n"
    assert event_files(logger.log_dir) == []
    logger.log_hyperparams({"layers": 2}, {"best": torch.tensor(0.75), "worst": 3}, step=8)
    logger.finalize("success")

    assert shown_settings(logger.log_dir) == [({"lr": 0.5, "layers": 2.0}, ["best", "worst"])]
    assert scalars(logger.log_dir) == {"best": [(8, 0.75)], "worst": [(8, 3.0)]}


def test_a_single_metric_is_the_hp_metric(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.5}, 0.25)
    logger.finalize("success")

    assert shown_settings(logger.log_dir) == [({"lr": 0.5}, ["hp_metric"])]
    assert scalars(logger.log_dir) == {"hp_metric": [(0, 0.25)]}


def test_settings_logged_again_add_nothing_and_no_placeholder_comes_after_a_result(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_hyperparams({"lr": 0.5})
    logger.log_metrics({"hp_metric": 0.75}, step=9)
    logger.log_hyperparams({"lr": 0.5})
    logger.log_hyperparams({"layers": 2})
    logger.finalize("success")

    assert shown_settings(logger.log_dir) == [({"lr": 0.5}, ["hp_metric"]), ({"lr": 0.5, "layers": 2.0}, ["hp_metric"])]
    assert scalars(logger.log_dir) == {"hp_metric": [(0, -1.0), (9, 0.75)]}


@pytest.mark.parametrize("nothing", [None, {}, Namespace()])
def test_no_settings_are_none(tmp_path: Path, nothing: Any) -> None:
    logger = TensorBoardLogger(tmp_path, default_hp_metric=False)
    logger.log_hyperparams(nothing)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("params", "metrics"), [(0.5, None), (["lr"], None), ({"lr": 1}, "best"), ({}, {"a": None})])
def test_settings_that_are_no_mapping_and_metrics_that_are_no_number_are_errors(
    tmp_path: Path, params: Any, metrics: Any
) -> None:
    logger = TensorBoardLogger(tmp_path)
    with pytest.raises(MisconfigurationError, match=r"TensorBoardLogger.log_(hyperparams|metrics) got .*(give|is) "):
        logger.log_hyperparams(params, metrics)
    logger.finalize("failed")
