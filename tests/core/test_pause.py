"""`trainer.pause`: a callback ends a run that another one goes on with, as a preemption does, but for the process."""

from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LambdaCallback, Order
from hookloop.errors import PausedException, SIGTERMException
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, assert_same_training, loader, trainer_in


def pause_at(hook: str, n: int = 1, *reasons: str) -> LambdaCallback:
    """Pauses the run when a hook is called for the n-th time."""
    calls = []

    def count(trainer: TrainerView, *args: Any) -> None:
        calls.append(hook)
        if len(calls) == n:
            for reason in reasons or ("enough",):
                trainer.pause(reason)

    return LambdaCallback(**{hook: count})


class Listener(Callback):
    """Saves in on_preemption, after everybody else, and writes down what it heard."""

    order = Order.LAST

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.heard: list[Any] = []

    def on_preemption(self, trainer: TrainerView, pl_module: Any, signum: int) -> None:
        self.heard.append(("on_preemption", signum))
        if self.path is not None:
            trainer.save_checkpoint(self.path)

    def on_exception(self, trainer: TrainerView, pl_module: Any, exception: BaseException) -> None:
        self.heard.append((type(exception), str(exception)))

    def teardown(self, trainer: TrainerView, pl_module: Any, stage: str) -> None:
        self.heard.append(("teardown", stage))


PAUSED = [("on_preemption", 0), (PausedException, "enough"), ("teardown", "fit")]


@pytest.mark.parametrize("k", range(1, 2 * BATCHES + 1))
def test_the_batch_is_done_fit_returns_and_the_resumed_run_is_the_uninterrupted_one(k: int, tmp_path: Path) -> None:
    whole, whole_module = trainer_in(tmp_path), Regression()
    whole.fit(whole_module, loader(), loader(2))
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    trainer = trainer_in(tmp_path, pause_at("on_train_batch_end", k), listener)

    trainer.fit(module, loader(), loader(2))

    assert trainer.interrupted
    assert trainer.global_step == k
    assert listener.heard == PAUSED
    resumed, again = trainer_in(tmp_path), Regression()
    resumed.fit(again, loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert not resumed.interrupted
    assert module.marks + again.marks == whole_module.marks
    assert_same_training(resumed, whole)


def test_a_validation_that_was_cut_short_is_run_anew_by_who_resumes(tmp_path: Path) -> None:
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    trainer = trainer_in(tmp_path, pause_at("on_validation_batch_end"), listener)

    trainer.fit(module, loader(), loader(2))

    first_epoch = [f"t{i}" for i in range(BATCHES)]
    assert module.marks == [*first_epoch, "v0"]
    assert listener.heard == PAUSED
    again = Regression()
    trainer_in(tmp_path).fit(again, loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert again.marks == ["v0", "v1", *first_epoch, "v0", "v1"]


@pytest.mark.parametrize("hook", ["setup", "on_train_start", "on_train_epoch_end"])
def test_a_pause_between_batches_is_honoured_before_the_next_one(hook: str, tmp_path: Path) -> None:
    listener, module = Listener(), Regression()

    trainer_in(tmp_path, pause_at(hook), listener).fit(module, loader())

    assert module.marks == [f"t{i}" for i in range(BATCHES)] * (hook == "on_train_epoch_end")
    assert listener.heard == PAUSED


def test_the_sanity_check_can_be_paused(tmp_path: Path) -> None:
    listener, module = Listener(), Regression()

    trainer = trainer_in(tmp_path, pause_at("on_validation_batch_end"), listener, num_sanity_val_steps=2)
    trainer.fit(module, loader(), loader(2))

    assert module.marks == ["v0"]
    assert listener.heard == PAUSED


def test_it_does_not_wait_for_min_epochs(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, pause_at("on_train_batch_end", 2), min_epochs=2)

    trainer.fit(Regression(), loader())

    assert trainer.global_step == 2


def test_a_pause_after_the_last_batch_comes_too_late_to_interrupt_anything(tmp_path: Path) -> None:
    listener = Listener()
    trainer = trainer_in(tmp_path, pause_at("on_train_end"), listener)

    trainer.fit(Regression(), loader())

    assert not trainer.interrupted
    assert listener.heard == [("teardown", "fit")]


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_the_other_entry_points_return_nothing_after_the_batch(entry: str, tmp_path: Path) -> None:
    stage = "validation" if entry == "validate" else entry
    ends: list[int] = []
    counter = LambdaCallback(**{f"on_{stage}_batch_end": lambda *args: ends.append(1)})
    trainer = trainer_in(tmp_path, pause_at(f"on_{stage}_batch_start", 2), counter)

    assert not getattr(trainer, entry)(Regression(), loader())

    assert trainer.interrupted
    assert len(ends) == 2


def test_the_first_reason_counts_and_the_next_fit_knows_nothing_of_it(tmp_path: Path) -> None:
    listener, module = Listener(), Regression()
    trainer = trainer_in(tmp_path, pause_at("on_train_batch_end", 3, "enough", "too much"), listener)

    trainer.fit(module, loader())
    trainer.fit(module, loader())

    assert listener.heard == [*PAUSED, ("teardown", "fit")]
    assert not trainer.interrupted
    assert trainer.current_epoch == 2


def test_whoever_leaves_preempted_runs_alone_leaves_paused_ones_alone() -> None:
    assert issubclass(PausedException, SIGTERMException)
    assert PausedException("enough").reason == "enough"


def test_what_goes_wrong_in_teardown_after_a_pause_is_a_warning(tmp_path: Path) -> None:
    def fail(*args: Any) -> None:
        raise ValueError("no disk")

    trainer = trainer_in(tmp_path, pause_at("on_train_batch_end"), LambdaCallback(teardown=fail))

    with pytest.warns(UserWarning, match=r"fit was paused. LambdaCallback.teardown raised after that: .*no disk"):
        trainer.fit(Regression(), loader())
