"""A small network, data for it, and what is looked at in its runs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer

BATCHES = 3
"""Of an epoch."""


class Net(LightningModule):
    """Two layers: `body`, with 8 x 4 weights, and `head`, with 1 x 8."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Linear(4, 8)
        self.head = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        answers: Tensor = self.head(torch.tanh(self.body(x)))
        return answers

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", nn.functional.mse_loss(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05, weight_decay=0.01)


def data(seed: int = 0) -> TensorDataset:
    x = torch.randn(4 * BATCHES, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(x, x.sum(dim=1, keepdim=True))


def loader(seed: int = 0) -> DataLoader[Any]:
    return DataLoader(data(seed), batch_size=4)


def masks(module: nn.Module) -> dict[str, Tensor]:
    return {name.removesuffix("_mask"): one.clone() for name, one in module.named_buffers() if name.endswith("_mask")}


def zeros(module: nn.Module) -> dict[str, int]:
    """Of each mask."""
    return {name: int((one == 0).sum()) for name, one in masks(module).items()}


def look(trainer: Any, module: nn.Module) -> dict[str, Any]:
    """Masks, parameters (what is under the masks too) and the optimizer's state by names."""
    optimizer = trainer.optimizers[0]
    names = {one: name for name, one in module.named_parameters()}
    return {
        "masks": masks(module),
        "parameters": {name: one.detach().clone() for name, one in module.named_parameters()},
        "moments": {names[one]: state["exp_avg"].clone() for one, state in optimizer.state.items()},
        "order": [names[one] for group in optimizer.param_groups for one in group["params"]],
        "random": torch.get_rng_state(),
    }


class StoppedError(Exception):
    pass


class Watch(Callback):
    """Looks at everything after each batch, validation and epoch, and saves and stops at one of these moments."""

    order = Order.LAST

    def __init__(self, stop_at: tuple[int, float] | None = None, path: Path | None = None) -> None:
        self.seen: dict[tuple[int, float], dict[str, Any]] = {}
        self.stop_at, self.path = stop_at, path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.see(trainer, pl_module, batch_idx + 1)

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        self.see(trainer, pl_module, trainer.batch_idx + 0.5)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.see(trainer, pl_module, BATCHES + 1)

    def see(self, trainer: Any, pl_module: Any, batches: float) -> None:
        moment = trainer.current_epoch, batches
        self.seen[moment] = look(trainer, pl_module)
        if moment == self.stop_at:
            trainer.save_checkpoint(self.path)
            raise StoppedError


def fit(
    callbacks: Callback | Sequence[Callback],
    net: LightningModule | None = None,
    max_epochs: int = 3,
    checkpoint: Path | None = None,
    make_trainer: Callable[..., Trainer] = Trainer,
    **arguments: Any,
) -> Trainer:
    trainer = make_trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        callbacks=callbacks,
        registered_callbacks=False,
        logger=False,
        num_sanity_val_steps=0,
        **arguments,
    )
    net = Net() if net is None else net
    torch.manual_seed(4)
    trainer.fit(net, loader(), loader(1), ckpt_path=checkpoint)
    return trainer
