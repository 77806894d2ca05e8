"""Averages and ModelCheckpoint: the best file is best by its averaged weights, and has the live ones too."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule, Trainer
from hookloop.callbacks import EarlyStopping, EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging

ROOT = Path(__file__).parents[2]


class Mean(LightningModule):
    """Learns a mean from noisy samples: the optimum is 3 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(20))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = ((self.weight - batch[0]) ** 2).sum(1).mean()
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("distance", distance(self.weight))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("distance", distance(self.weight))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.2)


def distance(weight: Tensor) -> Tensor:
    return ((weight.detach() - 3) ** 2).mean()


def noisy() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(6)
    samples = 3 + torch.randn(96, 20, generator=generator)
    return DataLoader(TensorDataset(samples), batch_size=8, shuffle=True, generator=generator)


def one() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(1)), batch_size=1)


def make(folder: Path, *callbacks: Any, epochs: int = 6) -> Trainer:
    return Trainer(
        max_epochs=epochs, callbacks=list(callbacks), registered_callbacks=False, logger=False, default_root_dir=folder
    )


def test_the_best_file_is_best_by_its_averaged_weights(tmp_path: Path) -> None:
    keeps = ModelCheckpoint(tmp_path / "kept", monitor="distance", save_top_k=-1)
    run = make(tmp_path, EMAWeightAveraging(decay=0.9), keeps)

    run.fit(Mean(), noisy(), one())

    scores = {path: float(score) for path, score in keeps.best_k_models.items()}
    assert len(scores) == 6
    for path, score in scores.items():
        saved = torch.load(path)
        averaged = saved["weights"]["averaged"]["weight"]
        assert float(distance(averaged)) == pytest.approx(score, rel=1e-6)
        assert not torch.equal(saved["state_dict"]["weight"], averaged)
    best = keeps.best_model_path
    assert scores[best] == min(scores.values())

    (averaged_metrics,) = run.test(Mean(), one(), ckpt_path="best", weights="averaged", verbose=False)
    (live_metrics,) = run.test(Mean(), one(), ckpt_path="best", weights="live", verbose=False)
    assert averaged_metrics["distance"] == pytest.approx(scores[best], rel=1e-6)
    assert live_metrics["distance"] == pytest.approx(
        float(distance(torch.load(best)["state_dict"]["weight"])), rel=1e-6
    )
    assert averaged_metrics["distance"] < live_metrics["distance"]


def test_early_stopping_restarts_nothing_and_a_stop_of_its_leaves_the_averages(tmp_path: Path) -> None:
    stops = EarlyStopping("distance", patience=1, min_delta=10.0)
    module = Mean()

    run = make(tmp_path, EMAWeightAveraging(decay=0.9), stops, epochs=50)
    run.fit(module, noisy(), one())
    run.save_checkpoint(tmp_path / "stopped.ckpt")

    assert run.current_epoch < 50
    saved = torch.load(tmp_path / "stopped.ckpt")
    assert torch.equal(module.weight, saved["weights"]["averaged"]["weight"])
    assert not torch.equal(module.weight, saved["state_dict"]["weight"])


def test_the_last_file_of_swa_has_the_average_that_the_fit_ended_with(tmp_path: Path) -> None:
    module, keeps = Mean(), ModelCheckpoint(tmp_path / "kept", save_last=True)

    make(tmp_path, StochasticWeightAveraging(swa_epoch_start=3), keeps).fit(module, noisy(), one())

    loaded = Mean.load_from_checkpoint(keeps.last_model_path, weights="averaged")
    assert torch.equal(loaded.weight, module.weight)
    assert float(distance(module.weight)) < float(distance(Mean.load_from_checkpoint(keeps.last_model_path).weight))


def test_the_example_prints_its_table_and_averages_win_where_the_optimum_is_known(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "averaging.py"), "--seeds", "1"]

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)

    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    (last,) = (row for row in rows if row[0] == "noisy quadratic")
    assert [row[0] for row in rows[2:4]] == ["digits", "digits, a fifth of the labels random"]
    assert last[-2:] == ["1", "1"]
