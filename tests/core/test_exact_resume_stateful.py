"""Resuming with training loaders that know where they are: state_dict and load_state_dict, as torchdata has them."""

from pathlib import Path
from typing import Any

import pytest

from hookloop.utilities import CombinedLoader

from . import interrupted
from .interrupted import Case, Knowing, assert_goes_on, run

KINDS = [name for name in interrupted.LOADERS if name in ("knows where it is", "draws when opened", "one of two knows")]
KINDS += [name for name in interrupted.LOADERS if name.endswith(" of those")]


@pytest.mark.parametrize("limits", [{}, {"limit_train_batches": 2}], ids=["all of it", "left early"])
@pytest.mark.parametrize("loader", KINDS)
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_what_opening_a_loader_draws_is_drawn_as_often_as_without_a_pause(
    loader: str, limits: dict[str, Any], tmp_path: Path
) -> None:
    case = Case(loader=loader, batches=4, validation=1, arguments={"max_epochs": 3, "val_check_interval": 2, **limits})
    hooks = ("on_train_start", "on_train_batch_end", "on_validation_end", "on_train_epoch_end")
    straight = run(case, tmp_path / "straight", turns=lambda number: True, hooks=hooks)
    assert len(straight.moments) >= 3 * 4
    for moment in straight.moments:
        resumed = run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100)
        assert_goes_on(straight, moment, resumed)


@pytest.mark.parametrize("loader", ["knows where it is", "draws when opened"])
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_asking_for_the_number_of_steps_does_not_lose_the_place_of_a_loader(loader: str, tmp_path: Path) -> None:
    # Its state has to outlive trainer.estimated_stepping_batches, for which configure_optimizers asks for the loader.
    case = Case(loader=loader, batches=8, scheduler="one cycle", arguments={"max_epochs": 2})
    straight = run(case, tmp_path / "straight", turns=lambda number: True, hooks=("on_train_batch_end",))
    assert len(straight.moments) == 2 * 8
    assert straight.end["lr_schedulers"][0]["total_steps"] == 2 * 2 * 8
    for moment in straight.moments:
        assert_goes_on(straight, moment, run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100))


def test_what_cannot_go_on_in_the_middle_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        interrupted, "training_loader", lambda *args: CombinedLoader([Knowing(3), Knowing(3)], "sequential")
    )
    case = Case(batches=6, arguments={"max_epochs": 1})
    straight = run(case, tmp_path, turns=lambda number: number == 3, hooks=("on_train_batch_end",))
    with pytest.warns(UserWarning, match='in mode "sequential".*may repeat batches or leave some out'):
        run(case, tmp_path / "resumed", ckpt_path=straight.moments[0].path)
