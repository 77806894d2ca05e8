"""A small network in three parts, data for it, and what is looked at in its runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer

BATCHES = 3
"""Of an epoch."""

Optimize = Callable[["Net"], Any]


def adam(net: "Net") -> Any:
    """Only what learns from the beginning, under a schedule that knows its groups."""
    optimizer = torch.optim.Adam(net.learning(), lr=0.02, weight_decay=0.1)
    return [optimizer], [torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=8)]


class Net(LightningModule):
    """`backbone`: two layers with a batch norm each; `head`: one layer."""

    def __init__(self, optimize: Optimize = adam) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh()),
            nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Tanh()),
        )
        self.head = nn.Linear(6, 1)
        self.optimize = optimize

    def learning(self) -> list[nn.Parameter]:
        return [one for one in self.parameters() if one.requires_grad]

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.head(self.backbone(x))
        return answers

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self(x), y)
        self.log("loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return self.optimize(self)


def loader(seed: int = 0) -> DataLoader[Any]:
    x = torch.randn(4 * BATCHES, 4, generator=torch.Generator().manual_seed(seed))
    return DataLoader(TensorDataset(x, x.sum(dim=1, keepdim=True)), batch_size=4)


def look(trainer: Any, module: nn.Module) -> dict[str, Any]:
    """What learns, the modes, weights and buffers, the groups by name, the optimizers' and the schedulers' states."""
    names = {one: name for name, one in module.named_parameters()}
    return {
        "requires_grad": {name: one.requires_grad for name, one in module.named_parameters()},
        "training": {name: part.training for name, part in module.named_modules()},
        "weights": {name: one.clone() for name, one in module.state_dict().items()},
        "groups": [
            [[names[one] for one in group["params"]] for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ],
        "optimizers": [copied(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "schedulers": [copied(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs],
    }


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: copied(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [copied(one) for one in value]
    return value.detach().clone() if isinstance(value, Tensor) else value


class StoppedError(Exception):
    pass


class Watch(Callback):
    """Looks at everything after each batch and each epoch, and saves and stops at one of these moments."""

    order = Order.LAST

    def __init__(self, stop_at: tuple[int, int] | None = None, path: Path | None = None) -> None:
        self.seen: dict[tuple[int, int], dict[str, Any]] = {}
        self.stop_at, self.path = stop_at, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.see(trainer, pl_module, batch_idx + 1)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.see(trainer, pl_module, BATCHES + 1)

    def see(self, trainer: Any, pl_module: Any, batches: int) -> None:
        moment = trainer.current_epoch, batches
        self.seen[moment] = look(trainer, pl_module)
        if moment == self.stop_at:
            trainer.save_checkpoint(self.path)
            raise StoppedError


def fit(
    callbacks: Callback | Sequence[Callback],
    net: LightningModule | None = None,
    max_epochs: int = 4,
    checkpoint: Path | None = None,
    validate: bool = True,
    **arguments: Any,
) -> Trainer:
    """Fit a network quietly; `seeded` makes the default one."""
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=callbacks,
        registered_callbacks=False,
        logger=False,
        num_sanity_val_steps=0,
        **arguments,
    )
    trainer.fit(seeded() if net is None else net, loader(), loader(1) if validate else None, ckpt_path=checkpoint)
    return trainer


def seeded(optimize: Optimize = adam, kind: type[Net] = Net) -> Net:
    torch.manual_seed(3)
    return kind(optimize)
