"""A model whose scores are written down beforehand."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer

BATCHES = 4
"""Training batches, and so optimizer steps, of an epoch."""


class Scripted(LightningModule):
    """Logs a score a validation, as it was told; its only weight holds the number of its optimizer steps.

    In its `n`-th validation it logs `scores[n]` under "score", and nothing where that is None. The last score is
    repeated. In training it logs the epoch's index under "train_score".
    """

    def __init__(self, scores: Sequence[float | None], validations_before: int = 0) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(1))
        self.scores = list(scores)
        self.validations = validations_before

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.log("train_score", float(self.current_epoch), on_step=False, on_epoch=True)
        return -self.steps.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        score = self.scores[min(self.validations, len(self.scores) - 1)]
        self.validations += 1
        if score is not None:
            self.log("score", score)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(batches, 1)))


class Runs:
    """Fits scripted models in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.module: Scripted

    def trainer(self, *callbacks: Callback, **arguments: Any) -> Trainer:
        given = {
            "max_epochs": 10,
            "logger": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": self.folder,
            "registered_callbacks": False,
            "accelerator": "cpu",
        }
        return Trainer(callbacks=list(callbacks), **{**given, **arguments})

    def fit(
        self,
        *callbacks: Callback,
        scores: Sequence[float | None],
        before: int = 0,
        ckpt_path: str | Path | None = None,
        validate: bool = True,
        **arguments: Any,
    ) -> Trainer:
        """Train for 10 epochs of 4 steps, if nothing else is said; `before` is how many validations there were."""
        trainer = self.trainer(*callbacks, **arguments)
        self.module = Scripted(scores, before)
        trainer.fit(self.module, loader(BATCHES), loader(1) if validate else None, ckpt_path=ckpt_path)
        return trainer


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


@pytest.fixture
def batches() -> Callable[[int], DataLoader[Any]]:
    """A loader of so many batches."""
    return loader
