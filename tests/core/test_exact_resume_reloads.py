"""Resuming where `reload_dataloaders_every_n_epochs` has the training loaders asked for anew."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule

from .fitting import Saves, trainer_in
from .interrupted import Case, assert_goes_on, run


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("loader", ["own generator", "knows where it is", "sampler with state"])
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_loader_that_is_asked_for_anew_does_not_go_on_where_the_one_before_it_was(
    loader: str, every: int, tmp_path: Path
) -> None:
    case = Case(loader=loader, batches=3, reloads=every, arguments={"max_epochs": 4})
    hooks = ("on_train_batch_end", "on_train_epoch_end")
    straight = run(case, tmp_path / "straight", turns=lambda number: True, hooks=hooks)
    assert len(straight.moments) == 4 * (3 + 1)
    for moment in straight.moments:
        resumed = run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100)
        assert_goes_on(straight, moment, resumed)


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_validation_loaders_that_only_the_sanity_check_asked_for_leave_no_trace(tmp_path: Path) -> None:
    arguments = {"max_epochs": 3, "check_val_every_n_epoch": 2, "num_sanity_val_steps": 1}
    case = Case(batches=3, validation=1, reloads=1, arguments=arguments)
    hooks = ("setup", "on_fit_start", "on_sanity_check_end", "on_train_epoch_end")
    straight = run(case, tmp_path / "straight", turns=lambda number: True, hooks=hooks)
    assert len(straight.moments) == 6
    for moment in straight.moments:
        assert_goes_on(straight, moment, run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100))


class Sees(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.seen: list[float] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch[0].item())
        return self.weight * 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_loader_that_was_passed_stays_and_its_generator_draws_on(tmp_path: Path) -> None:
    def shuffled() -> Any:
        data = TensorDataset(torch.arange(8.0))
        return DataLoader(data, shuffle=True, generator=torch.Generator().manual_seed(5))

    arguments = {"reload_dataloaders_every_n_epochs": 1}
    saves, straight = Saves("on_train_epoch_end", tmp_path / "saved.ckpt"), Sees()
    trainer_in(tmp_path, saves, max_epochs=2, **arguments).fit(straight, shuffled())
    assert straight.seen[:8] != straight.seen[8:]

    resumed = Sees()
    trainer_in(tmp_path, max_epochs=2, **arguments).fit(resumed, shuffled(), ckpt_path=tmp_path / "saved.ckpt")
    assert resumed.seen == straight.seen[8:]


@pytest.mark.parametrize(("epochs", "max_steps"), [(4, -1), (2, 5)])
@pytest.mark.filterwarnings("ignore")
def test_a_run_that_goes_on_asks_for_validation_loaders_when_they_are_due_and_not_before(
    epochs: int, max_steps: int, tmp_path: Path
) -> None:
    """Validated is every other epoch, and loaders are asked for anew in the same ones, for their validation."""
    arguments = {"max_epochs": epochs, "max_steps": max_steps, "check_val_every_n_epoch": 2, "num_sanity_val_steps": 1}
    case = Case(batches=3, validation=1, reloads=2, arguments=arguments)
    hooks = ("on_train_batch_start", "on_after_optimizer_step", "on_train_epoch_end")

    def always(number: int) -> bool:
        return True

    straight = run(case, tmp_path / "straight", turns=always, hooks=hooks)
    asked = [torch.load(one.path)["loaders"]["asked_in"] for one in straight.moments]
    assert len(asked) >= 2 * 5
    for moment in straight.moments:
        resumed = run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100, turns=always, hooks=hooks)
        assert_goes_on(straight, moment, resumed)
        # What the resumed run saves is what the one that never stopped saves.
        later = [torch.load(one.path)["loaders"]["asked_in"] for one in resumed.moments]
        assert later == asked[len(asked) - len(later) :]
