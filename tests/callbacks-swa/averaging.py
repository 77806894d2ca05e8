"""A small model with everything that averages differ in, its data, and the plain loop that it is compared with."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order

BATCHES = 5
"""Training batches, and so optimizer steps, of an epoch."""


class Net(LightningModule):
    """Two linear layers with a batch norm between; its weights are the same each time."""

    net: nn.Sequential

    def __init__(self, lr: float = 0.1, gamma: float | None = None, interval: str = "epoch") -> None:
        super().__init__()
        self.lr, self.gamma, self.interval = lr, gamma, interval
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 1))
        self.rates: list[float] = []
        self.seen: list[Tensor] = []  # the first weight, in each validation or test

    @property
    def first_weight(self) -> Tensor:
        return self.get_parameter("net.0.weight")

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.net(x)
        return answers

    def loss(self, batch: Any) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.forward(x), y)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.loss(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.first_weight.detach().clone())
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.seen.append(self.first_weight.detach().clone())

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.first_weight.detach().clone()

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        if self.gamma is None:
            return optimizer
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, self.gamma)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}


def data(batches: int = BATCHES, shuffle: bool = False) -> DataLoader[Any]:
    """Batches of four samples: x of shape (4, 4), y of shape (4, 1)."""
    x = torch.randn(4 * batches, 4, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=4, shuffle=shuffle)


class PlainLoop:
    """Trains a `Net` on the same batches without hookloop; yields after each step and after each epoch."""

    def __init__(self, model: Net) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=model.lr, momentum=0.9)

    def run(self, epochs: int, loader: Any = None) -> Iterator[tuple[str, int]]:
        step = 0
        for epoch in range(epochs):
            for batch in data() if loader is None else loader:
                self.model.train()
                self.optimizer.zero_grad()
                self.model.loss(batch).backward()
                self.optimizer.step()
                yield "step", step
                step += 1
            yield "epoch", epoch


def weights(module: nn.Module) -> dict[str, Tensor]:
    """A copy of a module's state_dict."""
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(one: Any, other: Any) -> bool:
    """Whether two state_dicts have the same names and, bit for bit, the same values."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


class Saves(Callback):
    """Saves in a hook, when a condition holds."""

    order = Order.LAST

    def __init__(self, path: Path, hook: str, when: Callable[[Any], bool], *, stop: bool = False, **options: Any):
        self.path, self.when, self.stop, self.options = path, when, stop, options
        setattr(self, hook, self.save)

    def save(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        if self.when(trainer):
            trainer.save_checkpoint(self.path, **self.options)
            if self.stop:
                raise StoppedError


class StoppedError(Exception):
    """The end of a run that is to be resumed."""
