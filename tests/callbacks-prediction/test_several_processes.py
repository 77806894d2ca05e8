"""Two real processes that write one prediction.

There is no strategy for several devices yet, so each rank has a sampler of its own here, as torch's users write it.
"""

import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop.testing import run_on_ranks
from hookloop_callbacks_prediction import read_predictions

ON_RANKS = """
import torch
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset
from hookloop import LightningModule, Trainer
from hookloop_callbacks_prediction import PredictionWriter


class Squares(LightningModule):
    def __init__(self, stop_at=None):
        super().__init__()
        self.stop_at, self.computed = stop_at, []

    def predict_step(self, batch, batch_idx):
        if batch_idx == self.stop_at:
            raise LookupError("out of ink")
        self.computed.append(batch_idx)
        return batch[0] ** 2


def predict(strategy, folder, form, stop_at=None, rerun="refuse"):
    numbers = TensorDataset(torch.arange(11.0))
    ranks = strategy.collectives
    sampler = DistributedSampler(numbers, ranks.world_size, ranks.global_rank, shuffle=True, seed=3)
    loader = DataLoader(numbers, batch_size=2, sampler=sampler)
    writer = PredictionWriter(folder, form, batches_per_part=1, rerun=rerun)
    trainer = Trainer(callbacks=[writer], strategy=strategy, logger=False, registered_callbacks=False)
    model = Squares(stop_at)
    try:
        trainer.predict(model, loader, return_predictions=False)
    except (LookupError, ValueError) as error:
        return str(error)
    return model.computed
"""


@pytest.fixture
def on_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Functions in a module that a new process can import."""
    (tmp_path / "predicting_on_ranks.py").write_text(ON_RANKS)
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module("predicting_on_ranks")


def test_two_ranks_write_one_prediction_go_on_with_it_and_refuse_to_write_over_it(
    on_ranks: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert run_on_ranks(on_ranks.predict, str(out), "npz", 1) == ["out of ink"] * 2
    assert run_on_ranks(on_ranks.predict, str(out), "npz") == [[1, 2]] * 2

    # Eleven samples for two ranks: the sampler repeats one, so that both have six.
    assert sum(len(part.name) > 0 for part in out.glob("part-*")) == 6
    read = read_predictions(out)
    assert read["sample"].tolist() == list(range(11))
    assert torch.equal(read["prediction"], torch.arange(11.0) ** 2)

    told = run_on_ranks(on_ranks.predict, str(out), "npz")
    assert all("holds a complete prediction" in one for one in told)
