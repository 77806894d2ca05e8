"""Resuming with persistent workers: a resumed run has to start those that the uninterrupted one still has."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop.loaders.workers import PersistentWorkers

from .interrupted import Augmented, Case, assert_goes_on, run

pytestmark = pytest.mark.filterwarnings("ignore:There is nothing to train", "ignore:The training data has no index")


def goes_on_exactly(case: Case, hooks: tuple[str, ...], folder: Path, every: int = 1) -> None:
    straight = run(case, folder / "straight", turns=lambda number: number % every == 0, hooks=hooks)
    assert straight.moments
    for moment in straight.moments:
        assert_goes_on(straight, moment, run(case, folder / "resumed", ckpt_path=moment.path, seed=100))


@pytest.mark.parametrize("loader", ["plain", "shuffled", "own generator", "max_size_cycle", "sequential", "stream"])
def test_workers_that_live_on_draw_no_second_seed_in_a_resumed_run(loader: str, tmp_path: Path) -> None:
    case = Case(loader=loader, batches=3, workers=1, persistent=True, optimizer="sgd", arguments={"max_epochs": 2})
    goes_on_exactly(case, ("on_train_epoch_start", "on_train_epoch_end"), tmp_path)


def test_workers_of_a_loader_that_is_done_for_this_epoch_draw_none_in_the_next(tmp_path: Path) -> None:
    case = Case(loader="sequential", batches=3, workers=1, persistent=True, arguments={"max_epochs": 2})
    goes_on_exactly(case, ("on_train_batch_end",), tmp_path, every=4)


@pytest.mark.parametrize("sanity", [0, 1])
def test_persistent_workers_of_validation_draw_the_same_whoever_starts_them(sanity: int, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"max_epochs": 2, "num_sanity_val_steps": sanity}
    case = Case(loader="plain", batches=2, workers=1, persistent=True, validation=1, arguments=arguments)
    hooks = ("on_fit_start", "on_validation_start", "on_validation_end", "on_train_epoch_end")
    goes_on_exactly(case, hooks, tmp_path, every=2)


def test_starting_workers_draws_what_it_draws_without_hookloop_the_first_time_and_nothing_later() -> None:
    def seed_of(started: bool, generator: torch.Generator | None) -> tuple[float, int]:
        loader = DataLoader(Augmented(2), num_workers=1, persistent_workers=True, generator=generator)
        PersistentWorkers(loader, started)
        torch.manual_seed(1)
        seed = iter(loader)._base_seed
        return seed, int(torch.randint(1000, (), generator=generator))

    for own in (False, True):

        def generator(own: bool = own) -> torch.Generator | None:
            return torch.Generator().manual_seed(1) if own else None

        torch.manual_seed(1)
        plain = iter(DataLoader(Augmented(2), generator=generator()))._base_seed
        after = torch.Generator().manual_seed(1)
        undrawn = int(torch.randint(1000, (), generator=torch.Generator().manual_seed(1)))
        torch.empty((), dtype=torch.int64).random_(generator=after)
        drawn = int(torch.randint(1000, (), generator=after))
        assert seed_of(False, generator()) == (plain, drawn)
        assert seed_of(True, generator()) == (plain, undrawn)
