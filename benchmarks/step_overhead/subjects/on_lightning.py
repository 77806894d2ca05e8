"""PyTorch Lightning."""

import logging
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from ..column import Column
from ..work import Work
from .subject import Subject

# What it says about devices and workers at every start is not what is measured.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


# It is not installed where types are checked: nothing is known of its classes there.
class Module(Work, LightningModule):  # type: ignore[misc]
    log: Callable[..., None]


class LoggingModule(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layer(inputs), targets)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss


class Idle(Callback):  # type: ignore[misc]
    """Overrides no hook."""


class Active(Callback):  # type: ignore[misc]
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None: ...

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None: ...


def trainer(bar: bool = False, **arguments: Any) -> Any:
    return Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=bar,
        **arguments,
    )


class Lightning(Subject):
    name = "Lightning"

    def train(self, column: Column, loader: Any) -> None:
        callback = Active if column.hooks else Idle
        run = trainer(
            column.bar,
            callbacks=[callback() for _ in range(column.callbacks)],
            gradient_clip_val=column.clip,
            accumulate_grad_batches=column.accumulate,
        )
        run.fit(LoggingModule() if column.log else Module(), loader)

    def validate(self, loader: Any) -> None:
        trainer().validate(Module(), loader, verbose=False)

    def predict(self, loader: Any) -> None:
        trainer().predict(Module(), loader, return_predictions=False)


SUBJECT = Lightning()
