"""Limits that are set on a trainer: checked as its arguments are, and kept by the runs that follow."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError


class Counting(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.batches: dict[str, int] = dict.fromkeys(("training", "validation", "test", "predict"), 0)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches["training"] += 1
        return self.weight * batch.mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.batches["validation"] += 1

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.batches["test"] += 1

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        self.batches["predict"] += 1
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> Any:
    return DataLoader(torch.ones(8, 1))  # type: ignore[arg-type]


def trainer(folder: Path, **arguments: Any) -> Trainer:
    chosen: dict[str, Any] = {"max_epochs": 1, "num_sanity_val_steps": 0}
    return Trainer(logger=False, registered_callbacks=False, default_root_dir=folder, **(chosen | arguments))


def test_limits_of_batches_that_are_set_hold_for_the_entry_points_that_follow(tmp_path: Path) -> None:
    ours, module = trainer(tmp_path), Counting()
    ours.limit_train_batches, ours.limit_val_batches = 3, 0.25
    ours.limit_test_batches, ours.limit_predict_batches = 4, 5

    ours.fit(module, loader(), loader())
    ours.test(module, loader(), verbose=False)
    ours.predict(module, loader())

    assert module.batches == {"training": 3, "validation": 2, "test": 4, "predict": 5}
    assert (ours.limit_train_batches, ours.limit_val_batches) == (3, 0.25)
    assert (ours.limit_test_batches, ours.limit_predict_batches) == (4, 5)


def test_a_limit_that_is_set_between_two_fits_holds_for_the_second(tmp_path: Path) -> None:
    ours, module = trainer(tmp_path, limit_train_batches=2, limit_val_batches=0), Counting()
    ours.fit(module, loader(), loader())
    ours.max_epochs, ours.limit_train_batches, ours.limit_val_batches = 2, 5, 3

    ours.fit(module, loader(), loader())

    assert ours.num_training_batches == 5
    assert ours.num_val_batches == [3]
    assert module.batches["training"] == 2 + 5  # the second fit goes on where the first one ended
    assert module.batches["validation"] == 3


@pytest.mark.parametrize(
    ("setting", "value", "validations"),
    [
        ("val_check_interval", 2, 4),
        ("val_check_interval", 0.5, 2),
        ("check_val_every_n_epoch", 2, 0),
        ("num_sanity_val_steps", 1, 2),
    ],
)
def test_when_to_validate_can_be_set(setting: str, value: Any, validations: int, tmp_path: Path) -> None:
    ours, module = trainer(tmp_path, limit_val_batches=1), Counting()
    setattr(ours, setting, value)

    ours.fit(module, loader(), loader())

    assert getattr(ours, setting) == value
    assert module.batches["validation"] == validations


def test_a_time_between_validations_can_be_set_in_words(tmp_path: Path) -> None:
    ours = trainer(tmp_path)
    ours.val_check_interval = "00:00:10:00"

    assert ours.val_check_interval == timedelta(minutes=10)


def test_the_least_that_is_trained_can_be_set(tmp_path: Path) -> None:
    class Stops(Counting):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
            self.trainer.should_stop = True
            return super().training_step(batch, batch_idx)

    by_steps, by_epochs = (trainer(tmp_path, max_epochs=5) for _ in range(2))
    by_steps.min_steps, by_epochs.min_epochs = 3, 2
    modules = Stops(), Stops()
    by_steps.fit(modules[0], loader())
    by_epochs.fit(modules[1], loader())

    assert [module.batches["training"] for module in modules] == [3, 16]
    assert (by_steps.min_steps, by_epochs.min_epochs) == (3, 2)


def test_how_often_steps_are_logged_can_be_set_during_a_run(tmp_path: Path) -> None:
    class Asks(Counting):
        def __init__(self) -> None:
            super().__init__()
            self.logs: list[bool] = []

        def on_train_batch_start(self, batch: Tensor, batch_idx: int) -> None:
            if batch_idx == 4:
                self.trainer.log_every_n_steps = 1  # type: ignore[misc]
            self.logs.append(self.trainer.should_update_logs)

    module = Asks()
    trainer(tmp_path, log_every_n_steps=3).fit(module, loader())

    assert module.logs == [False, False, True, False, True, True, True, True]


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("limit_train_batches", 1.5, "limit_train_batches=1.5 must be"),
        ("limit_val_batches", -1, "limit_val_batches=-1 must be"),
        ("limit_test_batches", "all", "limit_test_batches='all' must be"),
        ("limit_predict_batches", None, "limit_predict_batches=None must be"),
        ("log_every_n_steps", -1, "log_every_n_steps=-1 must be"),
        ("num_sanity_val_steps", 0.5, "num_sanity_val_steps=0.5 must be"),
        ("check_val_every_n_epoch", 0, "check_val_every_n_epoch=0 must be"),
        ("val_check_interval", "ten", "val_check_interval='ten' must be"),
        ("reload_dataloaders_every_n_epochs", True, "reload_dataloaders_every_n_epochs=True must be"),
        ("min_steps", -1, "min_steps=-1 must be"),
        ("min_epochs", 2, "min_epochs=2 is larger than max_epochs=1"),
    ],
)
def test_what_an_argument_refuses_cannot_be_set_and_nothing_changes(
    setting: str, value: Any, message: str, tmp_path: Path
) -> None:
    ours = trainer(tmp_path)
    before = getattr(ours, setting)

    with pytest.raises(MisconfigurationError, match=message):
        setattr(ours, setting, value)

    assert getattr(ours, setting) == before


def test_how_often_loaders_are_asked_for_can_be_set(tmp_path: Path) -> None:
    class Supplies(Counting):
        asked = 0

        def train_dataloader(self) -> Any:
            self.asked += 1
            return loader()

    ours, module = trainer(tmp_path, max_epochs=3), Supplies()
    ours.reload_dataloaders_every_n_epochs = 1
    ours.fit(module)

    assert module.asked == 3
