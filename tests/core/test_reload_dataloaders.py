"""`Trainer(reload_dataloaders_every_n_epochs=...)`: in which epochs loaders are asked for, and that they are used."""

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningDataModule, LightningModule

from .fitting import Saves, trainer_in


def numbers(value: float, count: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.full((count,), value)))


class Fits(LightningModule):
    """Writes down the number that each epoch and each validation is about."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.trained: list[float] = []
        self.validated: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.trained.append(batch[0].item())
        return self.weight * 0

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validated.append(batch[0].item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Supplies(Fits):
    """Supplies loaders of the running epoch's number, and remembers when it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: dict[str, list[int]] = {"train": [], "val": []}

    def train_dataloader(self) -> Any:
        self.asked["train"].append(self.trainer.current_epoch)
        return numbers(self.trainer.current_epoch)

    def val_dataloader(self) -> Any:
        self.asked["val"].append(self.trainer.current_epoch)
        return numbers(100 + self.trainer.current_epoch, count=1)


# every n epochs, sanity check, check_val_every_n_epoch; and the epochs in which both are asked for, of six. These are
# what Lightning 2.6 was seen to do, also with val_check_interval=0.5.
CASES: list[tuple[int, int, int, list[int], list[int]]] = [
    (0, 0, 1, [0], [0]),
    (0, 2, 1, [0], [0]),
    (0, 2, 2, [0], [0]),
    (1, 0, 1, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
    (1, 2, 1, [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 5]),
    (1, 0, 2, [0, 1, 2, 3, 4, 5], [1, 3, 5]),
    (1, 2, 2, [0, 1, 2, 3, 4, 5], [0, 1, 3, 5]),
    (2, 0, 1, [0, 2, 4], [0, 2, 4]),
    (2, 2, 1, [0, 2, 4], [0, 2, 4]),
    (2, 0, 2, [0, 2, 4], [1, 3, 5]),
    (2, 2, 2, [0, 2, 4], [0, 1, 3, 5]),
    (3, 0, 1, [0, 3], [0, 3]),
    (3, 0, 2, [0, 3], [1, 5]),
    (3, 2, 2, [0, 3], [0, 1, 5]),
    (7, 0, 1, [0], [0]),
]


@pytest.mark.parametrize("interval", [1.0, 0.5])
@pytest.mark.parametrize(("every", "sanity", "check_val", "train", "val"), CASES)
def test_loaders_are_asked_for_in_these_epochs_and_no_others(
    tmp_path: Path, every: int, sanity: int, check_val: int, train: list[int], val: list[int], interval: float
) -> None:
    module = Supplies()
    trainer = trainer_in(
        tmp_path,
        max_epochs=6,
        num_sanity_val_steps=sanity,
        check_val_every_n_epoch=check_val,
        val_check_interval=interval,
        reload_dataloaders_every_n_epochs=every,
    )
    trainer.fit(module)
    assert module.asked == {"train": train, "val": val}
    assert trainer.reload_dataloaders_every_n_epochs == every
    # And what they gave is what is trained on until the next time.
    assert module.trained == [max(one for one in train if one <= epoch) for epoch in range(6) for _ in range(4)]


def test_validation_runs_on_the_new_loader(tmp_path: Path) -> None:
    module = Supplies()
    trainer_in(tmp_path, max_epochs=4, reload_dataloaders_every_n_epochs=2).fit(module)
    assert module.validated == [100, 100, 102, 102]


def test_a_datamodule_is_asked_in_the_same_way(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, int]] = []

        def train_dataloader(self) -> Any:
            self.asked.append(("train", self.trainer.current_epoch))
            return numbers(self.trainer.current_epoch)

        def val_dataloader(self) -> Any:
            self.asked.append(("val", self.trainer.current_epoch))
            return numbers(0)

    data, module = Data(), Fits()
    trainer_in(tmp_path, max_epochs=4, reload_dataloaders_every_n_epochs=2).fit(module, datamodule=data)
    assert data.asked == [("train", 0), ("val", 0), ("train", 2), ("val", 2)]
    assert module.trained == [0] * 8 + [2] * 8


def test_loaders_that_were_passed_stay(tmp_path: Path) -> None:
    training = numbers(7)
    trainer, module = trainer_in(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1), Fits()
    trainer.fit(module, training)
    assert trainer.train_dataloader is training
    assert module.trained == [7] * 12


def test_lengths_and_what_follows_from_them_are_those_of_the_new_loader(tmp_path: Path) -> None:
    seen: list[tuple[float, list[float], int]] = []

    class Grows(Supplies):
        def train_dataloader(self) -> Any:
            return numbers(0, count=2 + self.trainer.current_epoch)

        def val_dataloader(self) -> Any:
            return numbers(0, count=1 + self.trainer.current_epoch)

        def on_train_epoch_end(self) -> None:
            trainer = self.trainer
            seen.append((trainer.num_training_batches, trainer.num_val_batches, trainer.global_step))

    # Windows of two: the last one of an epoch of three batches has one, and its length decides how it is scaled.
    trainer = trainer_in(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1, accumulate_grad_batches=2)
    trainer.fit(Grows())
    assert seen == [(2, [1], 1), (3, [2], 3), (4, [3], 5)]


def test_windows_are_scaled_by_the_new_length(tmp_path: Path) -> None:
    class Grows(Supplies):
        def train_dataloader(self) -> Any:
            return numbers(1, count=2 + self.trainer.current_epoch)

        def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
            return self.weight * batch[0].item()

    module = Grows()
    trainer_in(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1, accumulate_grad_batches=4).fit(module)
    # One step of 0.1 times a mean of ones in each epoch, whether of two or of three.
    weight = torch.ones(())
    for count in (2, 3):
        gradient = sum((torch.ones(()) / count for _ in range(count)), torch.zeros(()))
        weight = weight - 0.1 * gradient
    assert torch.equal(module.weight.detach(), weight)


def test_a_new_loader_that_cannot_work_ends_the_fit_with_what_is_wrong(tmp_path: Path) -> None:
    class Breaks(Supplies):
        def train_dataloader(self) -> Any:
            return numbers(0) if self.trainer.current_epoch == 0 else 5

    with pytest.raises(ValueError, match=r"Breaks\.train_dataloader\(\) gave 5 \(int\), which cannot be iterated"):
        trainer_in(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(Breaks())


@pytest.mark.parametrize("saved_in", [1, 2, 3, 4])
def test_a_resumed_run_asks_in_the_epochs_in_which_it_would_have_asked(tmp_path: Path, saved_in: int) -> None:
    path = tmp_path / "middle.ckpt"
    saving = Saves("on_train_epoch_end", path, n=saved_in)
    trainer_in(tmp_path, saving, max_epochs=saved_in).fit(Supplies())
    module = Supplies()
    trainer_in(tmp_path, max_epochs=7, reload_dataloaders_every_n_epochs=3).fit(module, ckpt_path=path)
    # When it begins, and then in epochs 3 and 6 like a run without a pause.
    assert module.asked["train"] == sorted({saved_in, *(epoch for epoch in (3, 6) if epoch > saved_in)})


def test_estimating_the_steps_asks_no_second_time(tmp_path: Path) -> None:
    class Asks(Supplies):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            assert self.trainer.estimated_stepping_batches == 8
            return super().configure_optimizers()

    module = Asks()
    trainer_in(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1).fit(module)
    assert module.asked["train"] == [0, 1]


def test_persistent_workers_of_a_loader_that_is_given_up_end_and_those_of_one_that_is_kept_go_on(
    tmp_path: Path,
) -> None:
    def with_a_worker() -> DataLoader[Any]:
        data = TensorDataset(torch.zeros(2))
        return DataLoader(data, num_workers=1, persistent_workers=True)

    kept = with_a_worker()
    workers: list[set[int | None]] = []

    class Keeps(Fits):
        def train_dataloader(self) -> Any:
            return [kept, with_a_worker()]

        def training_step(self, batch: list[Any], batch_idx: int) -> Tensor:
            return self.weight * 0

        def on_train_epoch_end(self) -> None:
            workers.append({child.pid for child in multiprocessing.active_children()})

    trainer_in(tmp_path, max_epochs=3, reload_dataloaders_every_n_epochs=1).fit(Keeps())
    # One worker lives as long as the run; the others are gone with the loader that was given up.
    assert [len(alive) for alive in workers] == [2, 2, 2]
    assert len(set.intersection(*workers)) == 1
    assert len(set.union(*workers)) == 1 + 3
    assert multiprocessing.active_children() == []
