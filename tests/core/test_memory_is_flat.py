"""A run of many steps holds no more memory at its end than after its first steps."""

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.loggers import CSVLogger
from hookloop.profilers import PassThroughProfiler
from hookloop.utilities import CombinedLoader

FIRST, LAST = 1_000, 6_000
BATCHES_OF_AN_EPOCH = 10

# One object kept per step would be 5,000, one for each row of the loggers 2,500. What is gathered and then dealt with
# together may stand at another point of its course.
FEW = 200

# Blocks that Python gives out for its own caches, which fill up slowly: the one of attributes that were looked up keeps
# up to 4,096 names.
FEW_BLOCKS = 1_000


class Traced(torch.autograd.Function):
    """Does nothing, but a graph that goes through it holds a Python object, which the garbage collector can count."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


class Module(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss: Tensor = Traced.apply(self.layer(batch[0]).square().mean())  # type: ignore[no-untyped-call]
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("count", float(batch_idx), on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).square().mean(), on_step=True, on_epoch=True)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        result: Tensor = self.layer(batch[0])
        return result

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.001)


class ByHand(Module):
    """Manual optimization: two optimizers in turns, one of them with a closure."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        first, second = self.optimizers()

        def closure() -> Tensor:
            second.zero_grad()
            loss = super(ByHand, self).training_step(batch, batch_idx)
            self.manual_backward(loss)
            return loss

        self.toggle_optimizer(first)
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        self.clip_gradients(first, gradient_clip_val=1.0)
        first.step()
        first.zero_grad()
        self.untoggle_optimizer(first)
        second.step(closure)
        return loss

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.001), torch.optim.Adam(self.parameters(), lr=0.001)]


class OfSeveral(Module):
    """Its training batches are a dict, of a batch of each loader, and so are those of its combined validation."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["left"], batch_idx) + super().training_step(batch["right"], batch_idx)

    def validation_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        super().validation_step(batch, batch_idx)


class Census(Callback):
    """Counts what the garbage collector knows, and the blocks of memory that Python has given out, at two moments.

    Args:
        moments: after how many batches.
    """

    def __init__(self, *moments: int) -> None:
        self.moments = moments
        self.batches = 0
        self.objects: list[int] = []
        self.blocks: list[int] = []

    def count(self) -> None:
        self.batches += 1
        if self.batches in self.moments:
            gc.collect()
            self.objects.append(len(gc.get_objects()))
            self.blocks.append(sys.getallocatedblocks())

    def on_train_batch_end(self, *args: Any) -> None:
        self.count()

    def on_validation_batch_end(self, *args: Any) -> None:
        self.count()

    def on_predict_batch_end(self, *args: Any) -> None:
        self.count()


def batches(count: int) -> DataLoader[tuple[Tensor, ...]]:
    return DataLoader(TensorDataset(torch.randn(count, 2)), batch_size=1)


def trainer(census: Census, folder: Path, **arguments: Any) -> Trainer:
    return Trainer(
        logger=CSVLogger(folder),
        log_every_n_steps=2,
        registered_callbacks=False,
        callbacks=[census],
        num_sanity_val_steps=0,
        **arguments,
    )


def fit(census: Census, folder: Path) -> None:
    trainer(census, folder, max_epochs=1, gradient_clip_val=1.0).fit(Module(), batches(LAST))


def fit_in_short_epochs_with_validation(census: Census, folder: Path) -> None:
    epochs = LAST // (2 * BATCHES_OF_AN_EPOCH)
    run = trainer(census, folder, max_epochs=epochs)
    run.fit(Module(), batches(BATCHES_OF_AN_EPOCH), batches(BATCHES_OF_AN_EPOCH))


def fit_by_hand(census: Census, folder: Path) -> None:
    trainer(census, folder, max_epochs=1).fit(ByHand(), batches(LAST))


def fit_with_several_loaders(census: Census, folder: Path) -> None:
    several = CombinedLoader({"left": batches(LAST), "right": batches(BATCHES_OF_AN_EPOCH)}, "max_size_cycle")
    trainer(census, folder, max_epochs=1).fit(OfSeveral(), several)


def validate_with_several_loaders(census: Census, folder: Path) -> None:
    trainer(census, folder).validate(OfSeveral(), [batches(LAST // 2), batches(LAST // 2)], verbose=False)


def fit_beside_a_profiler_that_is_off(census: Census, folder: Path) -> None:
    trainer(census, folder, max_epochs=1, profiler=PassThroughProfiler()).fit(Module(), batches(LAST))


def validate(census: Census, folder: Path) -> None:
    trainer(census, folder).validate(Module(), batches(LAST), verbose=False)


def predict_without_keeping(census: Census, folder: Path) -> None:
    trainer(census, folder).predict(Module(), batches(LAST), return_predictions=False)


@pytest.mark.parametrize(
    "run",
    [
        fit,
        fit_by_hand,
        fit_with_several_loaders,
        fit_beside_a_profiler_that_is_off,
        fit_in_short_epochs_with_validation,
        validate,
        validate_with_several_loaders,
        predict_without_keeping,
    ],
)
def test_nothing_is_kept_of_5000_batches(run: Callable[[Census, Path], None], tmp_path: Path) -> None:
    census = Census(FIRST, LAST)

    run(census, tmp_path)

    assert census.batches == LAST
    assert census.objects[1] - census.objects[0] < FEW
    assert census.blocks[1] - census.blocks[0] < FEW_BLOCKS


def test_the_census_sees_a_run_that_keeps_its_losses(tmp_path: Path) -> None:
    class Hoarding(Module):
        def on_train_start(self) -> None:
            self.total = torch.tensor(0.0)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            loss = super().training_step(batch, batch_idx)
            self.total = self.total + loss
            return loss

    census = Census(100, 600)

    trainer(census, tmp_path, max_epochs=1).fit(Hoarding(), batches(600))

    # The graph of each of 500 steps hangs on the total.
    assert census.objects[1] - census.objects[0] > 2 * FEW
