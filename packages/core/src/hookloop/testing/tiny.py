"""`TinyModule` and `TinyDataModule`: a module and its data, the same in every process, for runs of milliseconds."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningDataModule, LightningModule

_WAVES = (3.0, 1.0, 2.0, 2.0, 4.0)


class TinyModule(LightningModule):
    """Learns a sum of four features: two linear layers, with normalization and dropout between.

    Its weights do not depend on the random state. It has an optimizer with a momentum and a scheduler, and it draws
    random numbers in each training step. Logged are:

        train_loss              per step and per epoch
        val_loss, test_loss     per epoch
        falling, rising         in validation: minus the epoch's index, and the index
        wavering                in validation: 3, 1, 2, 2, 4, and again

    Batches are those of `TinyDataModule`: a tensor of shape (batch, 4), float32. With several training loaders they are
    dicts or lists of such tensors.
    """

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(7)
            self.net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.25), nn.Linear(8, 1))

    def forward(self, batch: Any) -> Tensor:
        """The answers, shape (batch, 1)."""
        answers: Tensor = self.net(_first_tensor(batch))
        return answers

    def loss(self, batch: Any) -> Tensor:
        """The mean squared error, a scalar."""
        inputs = _first_tensor(batch)
        return nn.functional.mse_loss(self(inputs), inputs.sum(dim=1, keepdim=True))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=2)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        epoch = self.current_epoch
        values = {"falling": -float(epoch), "rising": float(epoch), "wavering": _WAVES[epoch % len(_WAVES)]}
        self.log_dict({"val_loss": self.loss(batch), **values}, batch_size=2)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("test_loss", self.loss(batch), batch_size=2)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)]


class TinyDataModule(LightningDataModule):
    """Batches of two samples with four features: tensors of shape (2, 4), float32, the same in every process.

    Args:
        batches: of an epoch of training; evaluation and prediction have two.
        loaders: of each stage. With several, training gets a dict of them, the others a list.
    """

    def __init__(self, batches: int = 4, loaders: int = 1) -> None:
        super().__init__()
        self.batches = batches
        self.loaders = loaders

    def train_dataloader(self) -> Any:
        if self.loaders == 1:
            return _loader(self.batches, seed=0)
        return {f"loader_{index}": _loader(self.batches, index) for index in range(self.loaders)}

    def val_dataloader(self) -> Any:
        return self._evaluated(10)

    def test_dataloader(self) -> Any:
        return self._evaluated(20)

    def predict_dataloader(self) -> Any:
        return self._evaluated(30)

    def _evaluated(self, seed: int) -> Any:
        several = [_loader(2, seed + index) for index in range(self.loaders)]
        return several[0] if self.loaders == 1 else several


def _loader(batches: int, seed: int) -> DataLoader[Any]:
    samples = torch.randn(2 * batches, 4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(_Samples(samples), batch_size=2)


class _Samples(TensorDataset):
    """A sample is its tensor, and no tuple."""

    def __getitem__(self, index: int) -> Any:
        return self.tensors[0][index]


def _first_tensor(batch: Any) -> Tensor:
    while not isinstance(batch, Tensor):
        batch = next(iter(batch.values() if isinstance(batch, dict) else batch))
    return batch
