"""A small fit that is the same in every process, and what is compared of it: batches, weights, states, rows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.loggers import Logger
from hookloop.view import TrainerView

Batch = list[Tensor]
Configure = Callable[[Iterable[nn.Parameter]], Any]

BATCHES = 5
"""Training batches of an epoch, unless a test says otherwise."""


def samples(batches: int = BATCHES) -> TensorDataset:
    """Two samples for each batch: the batch's index, three features, one target."""
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2 * batches, 3, generator=generator)
    return TensorDataset(torch.arange(2 * batches) // 2, x, x.pow(2).sum(dim=1, keepdim=True))


def loader(batches: int = BATCHES) -> DataLoader[Any]:
    return DataLoader(samples(batches), batch_size=2)


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


def loss_of(net: nn.Module, batch: Batch) -> Tensor:
    _, x, y = batch
    return functional.mse_loss(net(x), y)


def sgd(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.05, momentum=0.9)


class Regression(LightningModule):
    """Learns the squared length of its three features. `marks` tells which steps ran: t0 t1 v0 ..."""

    def __init__(self, configure: Configure = sgd) -> None:
        super().__init__()
        self.net = network()
        self.configure = configure
        self.marks: list[str] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.marks.append(f"t{int(batch[0][0])}")
        loss = loss_of(self.net, batch)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.marks.append(f"v{int(batch[0][0])}")
        self.log("val_loss", loss_of(self.net, batch))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("test_loss", loss_of(self.net, batch))

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        answer: Tensor = self.net(batch[1])
        return answer

    def configure_optimizers(self) -> Any:
        return self.configure(self.net.parameters())


class Rows(Logger):
    """Keeps every row that it is given, with its step."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))


class Saves(Callback):
    """Saves when one of its hooks is called for the n-th time, after everybody else."""

    order = Order.LAST

    def __init__(self, hook: str, path: Path, n: int = 1, weights_only: bool = False) -> None:
        self.path = path
        self.n = n
        self.weights_only = weights_only
        self.calls = 0
        setattr(self, hook, self._count)

    def _count(self, trainer: TrainerView, *args: Any) -> None:
        self.calls += 1
        if self.calls == self.n:
            trainer.save_checkpoint(self.path, weights_only=self.weights_only)


class SavesEarly(Saves):
    """The same, in the user's place among the others."""

    order = Order.NORMAL


def trainer_in(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    """A Trainer with nothing that was not asked for; two epochs."""
    settings: dict[str, Any] = {
        "accelerator": "cpu",
        "callbacks": list(callbacks),
        "default_root_dir": folder,
        "logger": False,
        "max_epochs": 2,
        "num_sanity_val_steps": 0,
        "registered_callbacks": False,
    }
    return Trainer(**(settings | arguments))


def equal(one: Any, other: Any) -> bool:
    """Whether two states are the same, their tensors bit for bit, dtypes and types of containers included."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, Mapping):
        return list(one) == list(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and not isinstance(one, str | bytes):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def assert_same_training(one: Trainer, other: Trainer) -> None:
    """Two trainers are at the same place with the same weights, optimizers and schedulers."""
    assert one.lightning_module is not None
    assert other.lightning_module is not None
    assert (one.current_epoch, one.global_step) == (other.current_epoch, other.global_step)
    assert equal(one.lightning_module.state_dict(), other.lightning_module.state_dict())
    for first, second in zip(one.optimizers, other.optimizers, strict=True):
        assert equal(first.state_dict(), second.state_dict())
    for one_config, other_config in zip(one.lr_scheduler_configs, other.lr_scheduler_configs, strict=True):
        assert equal(one_config.scheduler.state_dict(), other_config.scheduler.state_dict())
