"""hookloop."""

from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn

from hookloop import Callback, LightningModule, Trainer

from ..column import Column
from ..work import Work
from .subject import Subject


class Module(Work, LightningModule):
    pass


class LoggingModule(Module):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layer(inputs), targets)
        self.log("loss", loss, on_step=True, on_epoch=True)
        return loss


class Idle(Callback):
    """Overrides no hook."""


class Active(Callback):
    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None: ...

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None: ...


def trainer(*callbacks: Callback, **arguments: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        registered_callbacks=False,
        callbacks=list(callbacks),
        **arguments,
    )


class Hookloop(Subject):
    name = "hookloop"

    def supports(self, column: Column) -> bool:
        return not column.bar or find_spec("hookloop_callbacks_progress") is not None

    def train(self, column: Column, loader: Any) -> None:
        callback = Active if column.hooks else Idle
        callbacks: list[Callback] = [callback() for _ in range(column.callbacks)]
        if column.bar:
            from hookloop_callbacks_progress import TQDMProgressBar

            callbacks.append(TQDMProgressBar())
        run = trainer(*callbacks, gradient_clip_val=column.clip, accumulate_grad_batches=column.accumulate)
        run.fit(LoggingModule() if column.log else Module(), loader)

    def validate(self, loader: Any) -> None:
        trainer().validate(Module(), loader, verbose=False)

    def predict(self, loader: Any) -> None:
        trainer().predict(Module(), loader, return_predictions=False)


SUBJECT = Hookloop()
