"""Fits that can be begun in Lightning and ended in hookloop: the same modules and data for both.

Nothing here draws a random number: weights and data are given by formulas.
"""

from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

BATCHES = 5


class Fit(nn.Module):
    """What all modules here have in common; a mixin, which becomes a LightningModule of either library."""

    # What LightningModules have.
    log: Any
    hparams: Any
    save_hyperparameters: Any
    optimizers: Any
    manual_backward: Any
    automatic_optimization: bool

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.copy_(torch.linspace(-0.7, 0.9, parameter.numel()).view_as(parameter))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor | None:
        loss = nn.functional.mse_loss(self.net(batch[0]), batch[1])
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return {"optimizer": optimizer, "lr_scheduler": torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)}


class Plateau(Fit):
    """A scheduler that steps on a metric after each validation, and gives up quickly."""

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class Adversaries(Fit):
    """Two optimizers, stepped by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.critic = nn.Linear(1, 1)
        with torch.no_grad():
            self.critic.weight.fill_(0.3)
            self.critic.bias.fill_(-0.1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:
        first, second = self.optimizers()
        first.zero_grad()
        self.manual_backward(-self.critic(self.net(batch[0])).mean())
        first.step()
        second.zero_grad()
        gap = self.critic(self.net(batch[0]).detach()).mean() - self.critic(batch[1]).mean()
        self.manual_backward(gap + self.critic.weight.pow(2).sum())
        second.step()

    def configure_optimizers(self) -> Any:
        return [
            torch.optim.Adam(self.net.parameters(), lr=0.01, betas=(0.5, 0.9)),
            torch.optim.RMSprop(self.critic.parameters(), lr=0.02),
        ]


class Bare(Fit):
    """SGD alone, for the precisions."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Settled(Fit):
    """Settings of all the kinds that a file can have."""

    def __init__(self, width: int = 4, args: Namespace | None = None, folder: Path | None = None) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.args, self.folder = args, folder


class OfOneObject(Fit):
    """Settings that are one object with attributes."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.save_hyperparameters(config)
        self.rate = config.rate


class Data:
    """A datamodule with settings and a state; a mixin."""

    save_hyperparameters: Any

    def __init__(self, size: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.rounds = 0

    def train_dataloader(self) -> Iterable[Any]:
        self.rounds += 1
        return loader()

    def state_dict(self) -> dict[str, Any]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rounds = state_dict["rounds"]


class Counting:
    """A callback of a user's, with a tensor in its state; a mixin."""

    def __init__(self) -> None:
        self.batches = torch.tensor(0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches.clone()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        assert isinstance(state_dict["batches"], Tensor)
        self.batches = state_dict["batches"].clone()


def of(library: ModuleType, mixin: type, base: str = "LightningModule") -> Any:
    """A mixin as a class of a library's: `hookloop`, or `lightning.pytorch`."""
    return type(mixin.__name__, (mixin, getattr(library, base)), {"__module__": __name__})


def loader(batches: int = BATCHES, samples: int = 2) -> DataLoader[Any]:
    x = torch.linspace(-1, 1, 2 * batches * samples).view(-1, 2)
    return DataLoader(TensorDataset(x, x[:, :1] * x[:, 1:] + 0.3), batch_size=samples)
