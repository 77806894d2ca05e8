"""Objects that accumulate by themselves, logged while several loaders are gone through."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import MaxMetric, MetricCollection, SumMetric

from hookloop import LightningModule

from .fitting import trainer_in

FIRST = [torch.tensor([1.0, 2.0]), torch.tensor([3.0])]
SECOND = [torch.tensor([10.0, 20.0])]


class Shares(LightningModule):
    """Logs one collection for whatever loader comes."""

    def __init__(self) -> None:
        super().__init__()
        self.shared: Any = MetricCollection({"sum": SumMetric(), "max": MaxMetric()})

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.shared.update(batch)
        self.log_dict(self.shared)


class Fetches(Shares):
    def validation_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
        batch, batch_idx, dataloader_idx = next(dataloader_iter)
        super().validation_step(batch, batch_idx, dataloader_idx)


class OneEach(Shares):
    def __init__(self) -> None:
        super().__init__()
        self.each: Any = torch.nn.ModuleList(MetricCollection({"sum": SumMetric(), "max": MaxMetric()}) for _ in "ab")

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.each[dataloader_idx].update(batch)
        self.log_dict(self.each[dataloader_idx])


class OfAll(Shares):
    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.shared.update(batch)
        self.log_dict(self.shared, add_dataloader_idx=False)


@pytest.mark.parametrize("kind", [Shares, Fetches])
def test_the_value_of_a_loader_holds_no_sample_of_a_later_one(kind: type[Shares], tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="one SumMetric is logged for several dataloaders, so what dataloader 1 gets"):
        results = trainer_in(tmp_path).validate(kind(), [FIRST, SECOND], verbose=False)

    assert results == [
        {"sum/dataloader_idx_0": 6.0, "max/dataloader_idx_0": 3.0},
        {"sum/dataloader_idx_1": 36.0, "max/dataloader_idx_1": 20.0},
    ]


def test_one_metric_for_each_loader_is_what_it_takes(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*several dataloaders")
        results = trainer_in(tmp_path).validate(OneEach(), [FIRST, SECOND], verbose=False)

    assert results == [
        {"sum/dataloader_idx_0": 6.0, "max/dataloader_idx_0": 3.0},
        {"sum/dataloader_idx_1": 30.0, "max/dataloader_idx_1": 20.0},
    ]


def test_one_metric_of_all_loaders_under_one_name_is_no_mistake(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*several dataloaders")
        results = trainer_in(tmp_path).validate(OfAll(), [FIRST, SECOND], verbose=False)

    assert results == [{"sum": 36.0, "max": 20.0}] * 2
