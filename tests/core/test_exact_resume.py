"""A run that is stopped and resumed goes on as if it had never been stopped: to the bit, random numbers included."""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import MeanMetric, MeanSquaredError

from hookloop import Callback, LightningModule, Order
from hookloop.loggers import Logger
from hookloop.view import TrainerView

from .fitting import BATCHES, assert_same_training, equal, samples, trainer_in


class Rows(Logger):
    """Keeps every row that it is given, with its step."""

    def __init__(self) -> None:
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))


class Noisy(LightningModule):
    """Drops out, draws in its steps, and logs in every way there is."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.net = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.error = MeanSquaredError()
        self.mean = MeanMetric()
        self.drawn: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        _, x, y = batch
        predicted = self.net(x)
        loss = nn.functional.mse_loss(predicted, y)
        self.drawn.append(torch.rand(()).item())
        self.error(predicted, y)
        self.mean.update(loss)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("largest", loss, reduce_fx="max", on_step=False, on_epoch=True)
        self.log("number", float(batch_idx), on_step=False, on_epoch=True)
        self.log("error", self.error, on_step=False, on_epoch=True)
        self.log("mean", self.mean, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_noise", torch.rand(()))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class SavesAll(Callback):
    """Saves whenever a training step, a validation or an epoch is over."""

    order = Order.LAST

    def __init__(self, folder: Path, module: Noisy, rows: Rows) -> None:
        self.folder, self.module, self.rows = folder, module, rows
        self.moments: list[tuple[Path, int, int]] = []

    def save(self, trainer: TrainerView, *args: Any) -> None:
        path = self.folder / f"{len(self.moments)}.ckpt"
        trainer.save_checkpoint(path)
        self.moments.append((path, len(self.module.drawn), len(self.rows.rows)))

    on_train_batch_end = on_validation_end = on_train_epoch_end = save  # type: ignore[assignment]


def in_order(values: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return sorted(values.items())


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("log_every", [1, 3])
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_weights_random_numbers_and_rows_are_those_of_the_uninterrupted_run(
    log_every: int, accumulate: int, tmp_path: Path
) -> None:
    data = DataLoader(samples(), batch_size=2)
    arguments: dict[str, Any] = {
        "log_every_n_steps": log_every,
        "accumulate_grad_batches": accumulate,
        "val_check_interval": 2,
    }
    module, rows = Noisy(), Rows()
    saver = SavesAll(tmp_path, module, rows)
    straight = trainer_in(tmp_path, saver, logger=rows, **arguments)
    torch.manual_seed(3)
    straight.fit(module, data, data)
    after = torch.rand(3)
    assert len(saver.moments) == 2 * (BATCHES + 2 + 1)

    for number, (path, drawn, sent) in enumerate(saver.moments):
        torch.manual_seed(100 + number)
        again, more = Noisy(), Rows()
        resumed = trainer_in(tmp_path, logger=more, **arguments)
        resumed.fit(again, data, data, ckpt_path=path)
        assert again.drawn == module.drawn[drawn:], path
        assert more.rows == rows.rows[sent:], path
        assert_same_training(resumed, straight)
        assert equal(in_order(resumed.callback_metrics), in_order(straight.callback_metrics)), path
        if again.drawn:
            assert equal(torch.rand(3), after), path


def test_a_run_that_is_interrupted_twice_is_the_uninterrupted_one(tmp_path: Path) -> None:
    data = DataLoader(samples(), batch_size=2)
    module, rows = Noisy(), Rows()
    saver = SavesAll(tmp_path, module, rows)
    straight = trainer_in(tmp_path, saver, logger=rows)
    torch.manual_seed(3)
    straight.fit(module, data)
    middle = [path for path, _, _ in saver.moments]

    for first, second in itertools.pairwise(middle[:-1:2]):
        steps = torch.load(second, weights_only=True)["global_step"]
        folder = tmp_path / "again"
        again = Noisy()
        once = trainer_in(folder, SavesAll(folder, again, Rows()), logger=False)
        once.fit(again, data, ckpt_path=first)
        later = next(
            path for path in folder.glob("*.ckpt") if torch.load(path, weights_only=True)["global_step"] == steps
        )
        twice = trainer_in(folder)
        twice.fit(Noisy(), data, ckpt_path=later)
        assert_same_training(twice, straight)
        for path in folder.glob("*.ckpt"):
            path.unlink()
