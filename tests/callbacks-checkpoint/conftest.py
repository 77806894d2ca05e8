"""A model whose scores are written down beforehand, and a folder to look at."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer

BATCHES = 2
"""Training batches, and so optimizer steps, of an epoch."""


class Scripted(LightningModule):
    """Logs the scores that it was given, one a validation; its only weight holds the number of its optimizer steps."""

    def __init__(self, scores: Sequence[float] = (), validations_before: int = 0) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(1))
        self.scores = list(scores)
        self.validations = validations_before

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("train_score", float(self.current_epoch), on_step=False, on_epoch=True)
        return -self.steps.sum()

    def on_validation_epoch_end(self) -> None:
        if not self.trainer.sanity_checking:
            self.log("score", self.scores[self.validations])
            self.log("twice/score", 2 * self.scores[self.validations])
            self.validations += 1

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("steps", self.steps.sum())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(batches, 1)))


class Runs:
    """Fits scripted models in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fit(
        self,
        *callbacks: Callback,
        scores: Sequence[float],
        before: int = 0,
        ckpt_path: str | Path | None = None,
        validate: bool = True,
        batches: int = BATCHES,
        **arguments: Any,
    ) -> Trainer:
        """Train for as many epochs as there are scores, without anything that was not asked for.

        `before` is the number of validations that an earlier process did.
        """
        given = {"max_epochs": len(scores), "logger": False, "num_sanity_val_steps": 0, "default_root_dir": self.folder}
        trainer = Trainer(callbacks=list(callbacks), registered_callbacks=False, **{**given, **arguments})
        loaders = (loader(batches), loader(1) if validate else None)
        trainer.fit(Scripted(scores, before), *loaders, ckpt_path=ckpt_path)
        return trainer

    @property
    def files(self) -> list[str]:
        """The files in the folder for checkpoints, sorted by name."""
        return sorted(path.name for path in self.checkpoints.iterdir()) if self.checkpoints.exists() else []

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go in a run without a logger."""
        return self.folder / "checkpoints"

    def steps_in(self, path: str | Path) -> float:
        """How many optimizer steps went into the weights of a file."""
        weights = torch.load(path, weights_only=True)["state_dict"]
        return float(weights["steps"])


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def model() -> Scripted:
    return Scripted()


@pytest.fixture
def batches() -> Callable[[int], DataLoader[Any]]:
    """A loader of so many batches."""
    return loader
