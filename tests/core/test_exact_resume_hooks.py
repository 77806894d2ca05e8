"""What a save means, for every hook: the table of docs/exact-resume.md, row by row."""

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Order
from hookloop.callback import HOOKS
from hookloop.view import TrainerView

from .fitting import Regression, Saves, SavesEarly, assert_same_training, loader, trainer_in
from .interrupted import NOT_TOLD, Case, Noisy, Outcome, assert_goes_on, run

CASE = Case(
    batches=4,
    validation=2,
    scheduler="plateau step",
    patience=2,
    arguments={"accumulate_grad_batches": 2, "val_check_interval": 1, "num_sanity_val_steps": 1, "max_epochs": 2},
)

OUTSIDE_OF_A_FIT = tuple(hook for hook in HOOKS if hook.startswith(("on_test", "on_predict")))
OF_AN_END = ("on_exception", "on_preemption")
IN_A_FIT = tuple(hook for hook in HOOKS if hook not in (*OUTSIDE_OF_A_FIT, *OF_AN_END, *NOT_TOLD))

pytestmark = pytest.mark.filterwarnings("ignore:There is nothing to train")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that saves in every call of every hook."""
    return run(CASE, tmp_path_factory.mktemp("straight"), turns=lambda number: True)


@pytest.mark.parametrize("hook", IN_A_FIT)
def test_a_run_saved_in_any_hook_goes_on_as_the_uninterrupted_one(hook: str, straight: Outcome, tmp_path: Path) -> None:
    moments = [moment for moment in straight.moments if moment.hook == hook]
    assert moments
    for moment in {moments[0], moments[len(moments) // 2], moments[-1]}:
        assert_goes_on(straight, moment, run(CASE, tmp_path, ckpt_path=moment.path, seed=100))


def test_the_table_is_of_all_hooks() -> None:
    page = Path(__file__).parents[2] / "docs" / "exact-resume.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in row.split("|")[1].replace("`", "").replace(",", " ").split()}
    assert named >= set(IN_A_FIT) | set(OF_AN_END)


# ---------------------------------------------------------------------------------------- saves before Order LAST


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_validation_end", "on_train_epoch_end"])
def test_what_a_save_before_order_last_owes_is_done_by_the_resumed_run(
    hook: str, interval: str, tmp_path: Path
) -> None:
    def configure(parameters: Any) -> Any:
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, mode="max")
        return [optimizer], [{"scheduler": scheduler, "monitor": "loss", "interval": interval}]

    savers = [SavesEarly(hook, tmp_path / f"{n}.ckpt", n) for n in (1, 2)]
    straight = trainer_in(tmp_path, *savers)
    straight.fit(Regression(configure), loader(), loader(2))
    for saver in savers:
        resumed = trainer_in(tmp_path)
        resumed.fit(Regression(configure), loader(), loader(2), ckpt_path=saver.path)
        assert_same_training(straight, resumed)


# -------------------------------------------------------------------------------------------------- the end of a fit


class Ends(Callback):
    """Adds one to every weight when training ends, as averaging of weights does with its own."""

    def __init__(self) -> None:
        self.ends = 0

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.ends += 1
        with torch.no_grad():
            for parameter in pl_module.parameters():
                parameter.add_(1.0)


@pytest.mark.parametrize(("hook", "ends"), [("on_train_epoch_end", 1), ("on_train_end", 0), ("on_fit_end", 0)])
def test_the_end_of_training_is_gone_through_once(hook: str, ends: int, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    straight = trainer_in(tmp_path, Ends(), Saves(hook, path, n=2 if hook == "on_train_epoch_end" else 1))
    straight.fit(Regression(), loader())
    callback = Ends()
    resumed = trainer_in(tmp_path, callback)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert callback.ends == ends
    assert_same_training(straight, resumed)


class Stops(Callback):
    order = Order.MONITOR

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            trainer.should_stop = True


def test_a_run_that_was_asked_to_stop_stops_after_a_resume_too(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    straight = trainer_in(tmp_path, Stops(), Saves("on_train_epoch_end", path, n=2), max_epochs=5)
    straight.fit(Regression(), loader())
    resumed = trainer_in(tmp_path, max_epochs=5)
    with pytest.warns(
        UserWarning, match=r"nothing to train: the run was asked to stop .* raise max_epochs or max_steps"
    ):
        resumed.fit(Regression(), loader(), ckpt_path=path)
    assert_same_training(straight, resumed)
    assert resumed.current_epoch == 2


class TakesBack(Callback):
    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        trainer.should_stop = False


def test_who_takes_the_request_back_goes_on_and_hears_no_warning(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    trainer_in(tmp_path, Stops(), Saves("on_train_epoch_end", path, n=2), max_epochs=5).fit(Regression(), loader())
    resumed = trainer_in(tmp_path, TakesBack(), max_epochs=5)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is nothing to train")
        resumed.fit(Regression(), loader(), ckpt_path=path)
    assert resumed.current_epoch == 5


def test_a_run_that_was_saved_after_its_end_is_not_told_of_a_hook_that_does_not_come(tmp_path: Path) -> None:
    path = tmp_path / "ended.ckpt"
    first = trainer_in(tmp_path, Stops(), max_epochs=5)
    first.fit(Regression(), loader())
    first.save_checkpoint(path)
    resumed = trainer_in(tmp_path, TakesBack(), max_epochs=5)
    with pytest.warns(UserWarning, match=r"raise max_epochs or max_steps above what they were\.$"):
        resumed.fit(Regression(), loader(), ckpt_path=path)
    assert resumed.current_epoch == 2


def test_who_raises_a_limit_wants_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "stopped.ckpt"
    trainer_in(tmp_path, Stops(), Saves("on_train_epoch_end", path, n=2), max_epochs=5).fit(Regression(), loader())
    resumed = trainer_in(tmp_path, max_epochs=6)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert resumed.current_epoch == 6


def test_should_stop_may_be_taken_back_when_training_starts(tmp_path: Path) -> None:
    class GoesOn(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.should_stop = False

    path = tmp_path / "stopped.ckpt"
    trainer_in(tmp_path, Stops(), Saves("on_train_epoch_end", path, n=2), max_epochs=5).fit(Regression(), loader())
    resumed = trainer_in(tmp_path, GoesOn(), max_epochs=5)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert resumed.current_epoch == 5


# ------------------------------------------------------------------------------------------ in the middle of a step


def test_a_save_in_the_middle_of_a_step_by_hand_says_what_it_leaves_out(tmp_path: Path) -> None:
    case = Case(optimizer="manual", batches=3)
    with pytest.warns(UserWarning, match=r"in the middle of a training_step that has stepped an optimizer by hand"):
        trainer_in(tmp_path, Saves("on_after_optimizer_step", tmp_path / "middle.ckpt")).fit(Noisy(case, []))
