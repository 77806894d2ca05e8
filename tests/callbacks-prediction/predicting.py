"""A model with a few weights, numbered samples, and predictions by a plain loop."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hookloop import Callback, LightningModule, Trainer

FEATURES, CLASSES = 3, 2


class Samples(Dataset[Tensor]):
    """Sample i is a vector of three numbers that no other sample has."""

    def __init__(self, samples: int, seed: int = 0) -> None:
        self.values = torch.randn(samples, FEATURES, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> Tensor:
        return self.values[index]


class Stream(IterableDataset[Tensor]):
    """The same, in order, without an index."""

    def __init__(self, samples: int) -> None:
        self.samples = Samples(samples)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.samples.values)


class Classifier(LightningModule):
    """Predicts two numbers for each sample. `computed` has the batches that were computed, by loader and index."""

    def __init__(self, seed: int = 1, stop_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self.net = nn.Sequential(nn.Linear(FEATURES, 4), nn.Dropout(0.5), nn.Linear(4, CLASSES))
        self.stop_at = stop_at
        self.computed: list[tuple[int, int]] = []

    def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
        if (dataloader_idx, batch_idx) == self.stop_at:
            raise StoppedError
        self.computed.append((dataloader_idx, batch_idx))
        return self.shaped(self.net(batch))

    def shaped(self, answer: Tensor) -> Any:
        return answer


class Named(Classifier):
    """Predicts a dict with a tensor of one dimension, one of three, words, and a pair."""

    def shaped(self, answer: Tensor) -> Any:
        best = answer.argmax(1)
        return {
            "best": best,
            "cube": torch.stack([answer, -answer], 2).half(),
            "word": ["no" if one else "yes" for one in best.tolist()],
            "pair": (answer[:, 0], answer[:, 1] > 0),
        }


class StoppedError(Exception):
    pass


def plainly(model: Classifier, *datasets: Dataset[Tensor]) -> list[Tensor]:
    """What the model predicts for each dataset, by a plain loop over single batches: shape (samples, 2)."""
    model.net.eval()
    with torch.no_grad():
        return [model.net(torch.stack([data[i] for i in range(len(data))])) for data in datasets]  # type: ignore[arg-type]


class Runs:
    """Predicts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"

    def trainer(self, *callbacks: Callback, **arguments: Any) -> Trainer:
        given = {
            "logger": False,
            "registered_callbacks": False,
            "accelerator": "cpu",
            "default_root_dir": self.folder,
        }
        return Trainer(callbacks=list(callbacks), **{**given, **arguments})

    def predict(
        self,
        callbacks: Callback | Sequence[Callback],
        loaders: Any,
        model: LightningModule | None = None,
        keep: bool | None = False,
        **arguments: Any,
    ) -> Any:
        given = [callbacks] if isinstance(callbacks, Callback) else list(callbacks)
        trainer = self.trainer(*given, **arguments)
        return trainer.predict(Classifier() if model is None else model, loaders, return_predictions=keep)


def in_batches(samples: int = 10, batch_size: int = 2, **arguments: Any) -> DataLoader[Any]:
    return DataLoader(Samples(samples), batch_size=batch_size, **arguments)
