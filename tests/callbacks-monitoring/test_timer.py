"""`Timer` measures stages, and ends training or a run of it when its time is over. A clock that is told the time."""

import copy
import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hookloop.callbacks.timer
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.stage import RunningStage
from hookloop.testing import calls_between, run_on_ranks
from hookloop_callbacks_monitoring import Interval, Timer

BATCHES = 4


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(batches, 1)))


class Clock:
    """Goes on when it is told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(Timer, "clock", staticmethod(clock))
    return clock


class Slow(LightningModule):
    """Its only weight is the number of its steps; a batch takes as many seconds as it is told."""

    def __init__(self, clock: Clock, train: float = 1.0, val: float = 0.0, start: float = 0.0) -> None:
        super().__init__()
        self.steps = nn.Parameter(torch.zeros(1))
        self.clock, self.train_s, self.val_s, self.start_s = clock, train, val, start
        self.marks: list[str] = []

    def setup(self, stage: str) -> None:
        self.clock.now += self.start_s

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.clock.now += self.train_s
        self.marks.append(f"t{batch_idx}")
        return -self.steps.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += self.val_s
        self.marks.append(f"v{batch_idx}")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += 7.0

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.clock.now += 11.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Saves(Callback):
    """Saves where checkpoint callbacks do: when a run is preempted, and at the end of epochs."""

    order = Order.LAST
    family = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self.file = folder / "saved.ckpt"

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        trainer.save_checkpoint(self.file)

    def on_preemption(self, trainer: Any, pl_module: Any, signum: int) -> None:
        if not trainer.sanity_checking:
            trainer.save_checkpoint(self.file)


def trainer_of(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 3, "num_sanity_val_steps": 0, "logger": False, "accelerator": "cpu", **arguments}
    return Trainer(callbacks=[*callbacks, Saves(folder)], registered_callbacks=False, default_root_dir=folder, **given)


def fit(timer: Timer, module: Slow, folder: Path, val: int = 0, ckpt_path: Any = None, **arguments: Any) -> Trainer:
    trainer = trainer_of(folder, timer, **arguments)
    trainer.fit(module, loader(BATCHES), loader(val) if val else None, ckpt_path=ckpt_path)
    return trainer


# The time of training as a whole


def test_training_ends_after_the_batch_in_which_the_time_is_over(clock: Clock, tmp_path: Path, capsys: Any) -> None:
    timer, module = Timer(6), Slow(clock)

    trainer = fit(timer, module, tmp_path)

    assert module.marks == ["t0", "t1", "t2", "t3", "t0", "t1"]
    assert trainer.should_stop
    assert not trainer.interrupted
    assert (
        capsys.readouterr().out.count("Timer: training ends in epoch 1, after 6 steps: duration=0:00:06 is over.") == 1
    )


@pytest.mark.parametrize(
    "given",
    [5, 5.0, "5s", "0.05m2s", "00:00:00:05", "0:0:0:5", timedelta(seconds=5), {"seconds": 5}, {"milliseconds": 5000}],
)
def test_a_length_of_time_can_be_written_in_many_ways(given: Any, clock: Clock, tmp_path: Path) -> None:
    assert fit(Timer(given), Slow(clock), tmp_path).global_step == 5


def test_hours_and_days_are_added_up() -> None:
    assert Timer("1d12h").time_remaining() == 36 * 3600
    assert Timer("1w 1.5h").time_remaining() == 7 * 86400 + 5400
    assert Timer({"hours": 1, "minutes": 30}).time_remaining() == 5400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"duration": "tomorrow"},
            r"duration='tomorrow' \(str\) is no length of time.* A number of seconds, or \"4h30m\"",
        ),
        ({"duration": 0}, r"Timer\(duration=0\) must be a number of seconds above 0"),
        ({"duration": -3.0}, r"Timer\(duration=-3.0\) must be a number of seconds above 0"),
        ({"duration": float("nan")}, r"Timer\(duration=nan\) must be a number of seconds above 0"),
        ({"duration": float("inf")}, r"Timer\(duration=inf\) must be a number of seconds above 0"),
        ({"duration": True}, "duration=True .* is no length of time"),
        ({"duration": "0s"}, r"Timer\(duration=0.0\) must be a number of seconds above 0"),
        ({"duration": timedelta(-1)}, "must be longer than no time at all"),
        ({"per_run": {"hour": 1}}, "per_run=.* has 'hour', and a dict of time holds any of"),
        ({"reserve": -1}, r"Timer\(reserve=-1\) must be a number of seconds at least 0"),
        ({"per_run": "4m", "reserve": "5m"}, "the reserve is the end of per_run, and there is nothing before it"),
        ({"duration": 5, "reserve": 5}, "the reserve is the end of duration"),
        ({"interval": "batch"}, 'must be "step", to look at the clock after every batch, or "epoch"'),
    ],
)
def test_bad_arguments_say_what_is_allowed(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Timer(**arguments)


def test_without_a_limit_it_measures_and_costs_no_call_in_a_step(clock: Clock, tmp_path: Path) -> None:
    timer, module = Timer(), Slow(clock)

    fit(timer, module, tmp_path, max_epochs=1)

    assert timer.time_elapsed() == 4.0
    assert timer.time_remaining() is None

    def calls(callback: Callback) -> int:
        trainer = trainer_of(tmp_path, callback, max_epochs=1)
        return sum(calls_between(Slow.training_step, lambda: trainer.fit(Slow(clock), loader(9)))[4:])

    assert calls(Timer()) == calls(Callback())
    assert calls(Timer("4h")) > calls(Callback())


def test_the_time_of_a_validation_inside_training_counts_and_a_long_one_is_cut_short(
    clock: Clock, tmp_path: Path
) -> None:
    timer, module = Timer(30), Slow(clock, val=10.0)

    trainer = fit(timer, module, tmp_path, val=9)

    assert module.marks == ["t0", "t1", "t2", "t3", "v0", "v1", "v2"]
    assert trainer.interrupted
    assert timer.time_elapsed() == 34.0
    assert timer.time_elapsed(RunningStage.VALIDATING) == 30.0


def test_whoever_resumes_does_the_last_validation_anew_and_is_through(clock: Clock, tmp_path: Path) -> None:
    fit(Timer(30), Slow(clock, val=10.0), tmp_path, val=9)
    module = Slow(clock, val=10.0)

    trainer = fit(Timer(30), module, tmp_path, val=9, ckpt_path=tmp_path / "saved.ckpt")

    assert module.marks == [f"v{i}" for i in range(9)]
    assert not trainer.interrupted
    assert trainer.current_epoch == 1
    again = Slow(clock)
    with pytest.warns(UserWarning, match="asked to stop"):
        fit(Timer(30), again, tmp_path, val=9, ckpt_path=tmp_path / "saved.ckpt")
    assert again.marks == []


def test_the_validation_with_which_training_ends_is_not_cut_short(clock: Clock, tmp_path: Path) -> None:
    module = Slow(clock, val=10.0)

    trainer = fit(Timer(2), module, tmp_path, val=3)

    assert module.marks == ["t0", "t1", "v0", "v1", "v2"]
    assert not trainer.interrupted


def test_min_epochs_and_min_steps_come_first(clock: Clock, tmp_path: Path) -> None:
    assert fit(Timer(2), Slow(clock), tmp_path, min_epochs=2).global_step == 8
    assert fit(Timer(2), Slow(clock), tmp_path, min_steps=5).global_step == 5
    module = Slow(clock, val=10.0)
    assert fit(Timer(2), module, tmp_path, val=1, min_epochs=1).global_step == 4


def test_a_window_of_gradients_is_completed(clock: Clock, tmp_path: Path) -> None:
    module = Slow(clock)

    trainer = fit(Timer(1), module, tmp_path, accumulate_grad_batches=2)

    assert module.marks == ["t0", "t1"]
    assert trainer.global_step == 1


def test_with_the_interval_epoch_epochs_are_completed(clock: Clock, tmp_path: Path) -> None:
    assert hookloop.callbacks.timer.Interval is Interval
    copied = copy.deepcopy(Timer(2, "epoch"))
    assert fit(copied, Slow(clock, val=1.0), tmp_path, val=3).global_step == 4
    assert fit(Timer(per_run=2, interval=Interval.epoch), Slow(clock), tmp_path).global_step == 4


def test_a_timer_that_says_nothing(clock: Clock, tmp_path: Path, capsys: Any) -> None:
    fit(Timer(2, verbose=False), Slow(clock), tmp_path)
    fit(Timer(per_run=2, verbose=False), Slow(clock), tmp_path)
    assert "Timer" not in capsys.readouterr().out


# After a resume


@pytest.mark.parametrize("k", range(1, 8))
def test_a_resumed_run_ends_where_one_that_never_stopped_does(k: int, clock: Clock, tmp_path: Path) -> None:
    class Stops(Callback):
        order = Order.LAST

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if trainer.global_step == k:
                trainer.save_checkpoint(tmp_path / "k.ckpt")
                raise KeyError(k)

    with pytest.raises(KeyError):
        trainer_of(tmp_path, Timer(8.5), Stops()).fit(Slow(clock), loader(BATCHES))
    clock.now += 5000.0  # between two runs
    timer, module = Timer(8.5), Slow(clock)

    trainer = fit(timer, module, tmp_path, ckpt_path=tmp_path / "k.ckpt")

    assert len(module.marks) == 9 - k
    assert trainer.global_step == 9
    assert timer.time_elapsed() == 9.0
    assert timer.time_remaining() == -0.5


def test_the_seconds_of_every_stage_survive_a_resume(clock: Clock, tmp_path: Path) -> None:
    timer = Timer(100)
    trainer = fit(timer, Slow(clock, val=2.0), tmp_path, val=3, max_epochs=2, num_sanity_val_steps=2)
    trainer.test(dataloaders=loader(2))
    trainer.predict(dataloaders=loader(3))
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    expected = {"sanity_check": 4.0, "train": 20.0, "validate": 12.0, "test": 14.0, "predict": 33.0}

    again = Timer(100)
    trainer_of(tmp_path, again).validate(
        Slow(clock, val=2.0), loader(1), ckpt_path=tmp_path / "end.ckpt", verbose=False
    )

    assert {stage: timer.time_elapsed(stage) for stage in expected} == expected
    assert {stage: again.time_elapsed(stage) for stage in expected} == {**expected, "validate": 14.0}
    assert again.time_remaining("test") == 86.0


def test_start_and_end_of_a_stage_are_moments_of_the_clock(clock: Clock, tmp_path: Path) -> None:
    timer = Timer()
    assert timer.start_time() is None
    assert timer.end_time() is None
    fit(timer, Slow(clock, start=5.0), tmp_path, max_epochs=1)
    assert (timer.start_time(), timer.end_time()) == (1005.0, 1009.0)


def test_training_that_is_given_more_time_goes_on(clock: Clock, tmp_path: Path) -> None:
    fit(Timer(6), Slow(clock), tmp_path)
    module = Slow(clock)

    trainer = fit(Timer(10), module, tmp_path, ckpt_path=tmp_path / "saved.ckpt")

    # Six steps took six seconds; the epoch that was cut is over.
    assert module.marks == ["t0", "t1", "t2", "t3"]
    assert trainer.global_step == 10


def test_what_somebody_else_stopped_stays_stopped(clock: Clock, tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            trainer.should_stop = True

    trainer_of(tmp_path, Stops(), Timer(1)).fit(Slow(clock), loader(BATCHES))
    module = Slow(clock)
    with pytest.warns(UserWarning, match="asked to stop"):
        fit(Timer(100), module, tmp_path, ckpt_path=tmp_path / "saved.ckpt")
    assert module.marks == []


def test_a_second_fit_goes_on_with_the_time_and_one_that_begins_anew_does_not(clock: Clock, tmp_path: Path) -> None:
    timer, module = Timer(6), Slow(clock)
    trainer = fit(timer, module, tmp_path, max_epochs=1)
    trainer.max_epochs = 3
    trainer.fit(module, loader(BATCHES))
    assert trainer.global_step == 6

    assert fit(timer, Slow(clock), tmp_path).global_step == 6


def test_the_seconds_of_lightnings_timer_count(clock: Clock, tmp_path: Path) -> None:
    timer = Timer(10)
    timer.load_state_dict({"time_elapsed": {"train": 8.0, "sanity_check": 0.0, "validate": 0.0, "test": 0.0}})
    assert timer.time_elapsed() == 8.0
    assert timer.time_remaining() == 2.0


# The time of one run


def test_a_run_ends_when_its_own_time_is_over_and_the_next_one_goes_on_with_the_next_batch(
    clock: Clock, tmp_path: Path, capsys: Any
) -> None:
    whole = Slow(clock)
    fit(Timer(), whole, tmp_path)
    marks: list[str] = []
    steps: list[int] = []
    checkpoint: Any = None
    interrupted = True
    while interrupted:
        module = Slow(clock, start=2.0)  # what comes before training counts
        trainer = fit(Timer(per_run=7), module, tmp_path, ckpt_path=checkpoint)
        checkpoint, interrupted = tmp_path / "saved.ckpt", trainer.interrupted
        marks += module.marks
        steps.append(trainer.global_step)

    assert steps == [5, 10, 12]
    assert marks == whole.marks
    assert torch.equal(module.steps, whole.steps)
    assert "this run ends in epoch 1, after 5 steps: per_run=0:00:07 is over. What is saved" in capsys.readouterr().out


def test_a_long_validation_is_cut_short_and_done_anew(clock: Clock, tmp_path: Path) -> None:
    fit(Timer(per_run=30), Slow(clock, val=10.0), tmp_path, val=4)
    module = Slow(clock, val=1.0)

    trainer = fit(Timer(per_run=30), module, tmp_path, val=4, max_epochs=1, ckpt_path=tmp_path / "saved.ckpt")

    assert module.marks == ["v0", "v1", "v2", "v3"]
    assert not trainer.interrupted


def test_the_reserve_is_kept_for_the_save(clock: Clock, tmp_path: Path) -> None:
    timer = Timer(per_run="10s", reserve="4s")
    assert fit(timer, Slow(clock), tmp_path).global_step == 6
    assert timer.run_time_remaining() is None
    assert fit(Timer("10s", reserve={"seconds": 3}), Slow(clock), tmp_path).global_step == 7


def test_what_is_left_of_a_run_can_be_asked_for(clock: Clock, tmp_path: Path) -> None:
    left: list[float | None] = []

    class Asks(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            left.append(timer.run_time_remaining())

    timer = Timer(per_run=20, reserve=1)
    assert timer.run_time_remaining() is None
    trainer_of(tmp_path, timer, Asks()).fit(Slow(clock), loader(BATCHES))
    assert left == [16.0, 12.0, 8.0]


def test_the_first_of_both_budgets_counts(clock: Clock, tmp_path: Path) -> None:
    assert fit(Timer(8, per_run=5), Slow(clock), tmp_path).global_step == 5
    trainer = fit(Timer(8, per_run=5), Slow(clock), tmp_path, ckpt_path=tmp_path / "saved.ckpt")
    assert trainer.global_step == 8
    assert not trainer.interrupted


def test_a_run_is_ended_before_min_epochs_too(clock: Clock, tmp_path: Path) -> None:
    assert fit(Timer(per_run=2), Slow(clock), tmp_path, min_epochs=3).global_step == 2


def test_a_sanity_check_that_takes_too_long_ends_the_run(clock: Clock, tmp_path: Path) -> None:
    module = Slow(clock, val=10.0)
    trainer = fit(Timer(per_run=15), module, tmp_path, val=9, num_sanity_val_steps=5)
    assert module.marks == ["v0", "v1"]
    assert trainer.interrupted


def test_a_run_that_nobody_saves_is_told_so(clock: Clock, tmp_path: Path) -> None:
    trainer = Trainer(
        max_epochs=1, callbacks=[Timer(per_run=9)], registered_callbacks=False, logger=False, default_root_dir=tmp_path
    )
    with pytest.warns(UserWarning, match=r"Timer\(per_run=\.\.\.\) ends a run .* nothing saves it. Add a callback"):
        trainer.fit(Slow(clock), loader(2))


def test_validate_test_and_predict_have_no_limit(clock: Clock, tmp_path: Path) -> None:
    trainer, module = trainer_of(tmp_path, Timer(1, per_run=1)), Slow(clock, val=9.0)
    for entry in (trainer.validate, trainer.test, trainer.predict):
        entry(module, loader(3))
        assert not trainer.interrupted


# Trainer(max_time=...)


@pytest.mark.parametrize("given", ["00:00:00:05", timedelta(seconds=5), {"seconds": 5}])
def test_max_time_has_a_timer_added(given: Any, clock: Clock, tmp_path: Path) -> None:
    trainer = Trainer(max_time=given, max_epochs=9, logger=False, accelerator="cpu", default_root_dir=tmp_path)
    assert [type(one) for one in trainer.callbacks if one.family == "timer"] == [Timer]
    trainer.fit(Slow(clock), loader(BATCHES))
    assert trainer.global_step == 5


def test_max_time_alone_is_a_limit_of_its_own(clock: Clock, tmp_path: Path) -> None:
    trainer = Trainer(max_time="00:00:00:05", max_epochs=-1, logger=False, accelerator="cpu", default_root_dir=tmp_path)
    trainer.fit(Slow(clock), loader(BATCHES))
    assert trainer.global_step == 5


def test_a_timer_that_was_passed_keeps_its_own_limit(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="max_time='00:00:00:05' is not used, because callbacks holds Timer"):
        trainer = Trainer(max_time="00:00:00:05", callbacks=[Timer(9)], logger=False, default_root_dir=tmp_path)
    assert [one.time_remaining() for one in trainer.callbacks if isinstance(one, Timer)] == [9.0]


# Several processes


ON_RANKS = """
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule, Trainer
from hookloop_callbacks_monitoring import Timer


class Slow(LightningModule):
    def __init__(self, tick, seconds):
        super().__init__()
        self.steps = torch.nn.Parameter(torch.zeros(1))
        self.tick, self.seconds = tick, seconds

    def training_step(self, batch, batch_idx):
        self.tick(self.seconds)
        return -self.steps.sum()

    def validation_step(self, batch, batch_idx):
        self.tick(0.25)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=1.0)


def fit(strategy, folder, **arguments):
    # Each process has a clock of its own; by that of the second one the time is over at once.
    now = [0.0]
    Timer.clock = staticmethod(lambda: now[0])

    def tick(seconds):
        now[0] += seconds

    loader = DataLoader(TensorDataset(torch.zeros(4, 1)))
    trainer = Trainer(max_epochs=9, callbacks=[Timer(**arguments)], strategy=strategy, num_sanity_val_steps=0,
                      logger=False, registered_callbacks=False, default_root_dir=folder)
    trainer.fit(Slow(tick, 100.0 if torch.distributed.get_rank() else 0.25), loader, loader)
    return trainer.global_step, trainer.interrupted
"""


@pytest.mark.filterwarnings("ignore:.*nothing saves it")
@pytest.mark.parametrize(("budget", "ended"), [("duration", (9, False)), ("per_run", (9, True))])
def test_the_first_process_decides_and_all_end_in_the_same_batch(
    budget: str, ended: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "timers_on_ranks.py").write_text(ON_RANKS)
    monkeypatch.syspath_prepend(tmp_path)
    on_ranks = importlib.import_module("timers_on_ranks")

    # An epoch of four batches and as many of validation takes 2 s: 4.2 s are over in the first batch of the third.
    assert run_on_ranks(on_ranks.fit, str(tmp_path), **{budget: 4.2}) == [ended] * 2


def test_processes_agree_less_often_than_they_train() -> None:
    """A message a batch would cost more than many a batch."""
    said: list[Any] = []

    class Strategy:
        def broadcast(self, given: Any) -> Any:
            said.append(given)
            return given

    class View:
        world_size, strategy = 2, Strategy()

    clock = Clock()
    timer = Timer(duration=100.0)
    vars(timer)["clock"] = clock
    timer._train_ends = clock() + 100.0
    timer._agree_anew()
    batches = 0
    while not timer._over(View())[0]:  # type: ignore[arg-type]
        clock.now += 0.01
        batches += 1

    assert len(said) < batches / 50
    assert batches == pytest.approx(10_000, abs=1)
