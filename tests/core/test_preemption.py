"""SIGTERM: the running batch is done, callbacks save, the run is unwound, and the process ends with exit code 143."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LambdaCallback, Order, Trainer
from hookloop.errors import SIGTERMException
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, assert_same_training, equal, loader, trainer_in

DEADLINE_S = 60


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    after = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, before)
    assert after == before


def terminate_at(hook: str, n: int = 1) -> LambdaCallback:
    """Has the process get a SIGTERM when a hook is called for the n-th time."""
    calls = []

    def count(*args: Any) -> None:
        calls.append(hook)
        if len(calls) == n:
            signal.raise_signal(signal.SIGTERM)

    return LambdaCallback(**{hook: count})


class Listener(Callback):
    """Saves when the process is asked to end, after everybody else, and writes down what it heard."""

    order = Order.LAST

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.heard: list[Any] = []

    def on_preemption(self, trainer: TrainerView, pl_module: Any, signum: int) -> None:
        self.heard.append(("on_preemption", signum))
        if self.path is not None:
            trainer.save_checkpoint(self.path)

    def on_exception(self, trainer: TrainerView, pl_module: Any, exception: BaseException) -> None:
        self.heard.append(("on_exception", type(exception).__name__))

    def teardown(self, trainer: TrainerView, pl_module: Any, stage: str) -> None:
        self.heard.append(("teardown", stage))


PREEMPTED = [("on_preemption", 15), ("on_exception", "SIGTERMException"), ("teardown", "fit")]
TOO_LATE = [("on_exception", "SIGTERMException"), ("teardown", "fit")]


def uninterrupted(folder: Path, **arguments: Any) -> tuple[Trainer, Regression]:
    trainer, module = trainer_in(folder, **arguments), Regression()
    trainer.fit(module, loader(), loader(2))
    return trainer, module


@pytest.mark.parametrize("k", range(1, 2 * BATCHES + 1))
def test_the_batch_is_done_and_the_resumed_run_is_the_uninterrupted_one(k: int, tmp_path: Path) -> None:
    whole, whole_module = uninterrupted(tmp_path)
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    trainer = trainer_in(tmp_path, terminate_at("on_before_backward", k), listener)

    with pytest.raises(SIGTERMException) as ended:
        trainer.fit(module, loader(), loader(2))

    assert ended.value.code == 143
    assert ended.value.signum == signal.SIGTERM
    assert listener.heard == PREEMPTED
    assert trainer.global_step == k
    assert [mark for mark in module.marks if mark[0] == "t"] == [f"t{i % BATCHES}" for i in range(k)]
    resumed, again = trainer_in(tmp_path), Regression()
    resumed.fit(again, loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert module.marks + again.marks == whole_module.marks
    assert_same_training(resumed, whole)


@pytest.mark.parametrize(
    "hook",
    [
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_after_optimizer_step",
        "on_train_batch_end",
    ],
)
def test_wherever_in_a_step_the_signal_comes_the_step_is_finished(hook: str, tmp_path: Path) -> None:
    whole, _ = uninterrupted(tmp_path)
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()

    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, terminate_at(hook, 3), listener).fit(module, loader(), loader(2))

    assert module.marks == ["t0", "t1", "t2"]
    resumed = trainer_in(tmp_path)
    resumed.fit(Regression(), loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert_same_training(resumed, whole)


def test_a_validation_that_was_cut_short_is_run_anew_by_who_resumes(tmp_path: Path) -> None:
    whole, whole_module = uninterrupted(tmp_path)
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    trainer = trainer_in(tmp_path, terminate_at("on_validation_batch_start"), listener)

    with pytest.raises(SIGTERMException):
        trainer.fit(module, loader(), loader(2))

    first_epoch = [f"t{i}" for i in range(BATCHES)]
    assert module.marks == [*first_epoch, "v0"]
    assert module.training
    assert listener.heard == PREEMPTED
    resumed, again = trainer_in(tmp_path), Regression()
    resumed.fit(again, loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert again.marks == ["v0", "v1", *first_epoch, "v0", "v1"]
    assert first_epoch + again.marks == whole_module.marks
    assert_same_training(resumed, whole)


@pytest.mark.parametrize(
    ("hook", "batches"),
    [("setup", 0), ("on_fit_start", 0), ("on_train_start", 0), ("on_train_epoch_end", BATCHES)],
)
def test_a_signal_between_batches_is_honoured_before_the_next_one(hook: str, batches: int, tmp_path: Path) -> None:
    listener, module = Listener(), Regression()

    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, terminate_at(hook), listener).fit(module, loader())

    assert module.marks == [f"t{i}" for i in range(batches)]
    assert listener.heard == PREEMPTED


def test_a_signal_in_the_sanity_check_is_honoured_there(tmp_path: Path) -> None:
    listener, module = Listener(), Regression()
    trainer = trainer_in(tmp_path, terminate_at("on_validation_batch_end"), listener, num_sanity_val_steps=2)

    with pytest.raises(SIGTERMException):
        trainer.fit(module, loader(), loader(2))

    assert module.marks == ["v0"]
    assert listener.heard == PREEMPTED


@pytest.mark.parametrize("hook", ["on_train_end", "on_fit_end", "teardown"])
def test_a_signal_after_the_last_batch_ends_the_process_when_everything_is_done(hook: str, tmp_path: Path) -> None:
    listener, module = Listener(), Regression()
    trainer = trainer_in(tmp_path, terminate_at(hook), listener)

    with pytest.raises(SIGTERMException):
        trainer.fit(module, loader())

    assert trainer.current_epoch == 2
    assert sorted(listener.heard) == sorted(TOO_LATE)
    assert trainer.interrupted


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_the_other_entry_points_end_after_the_batch_too(entry: str, tmp_path: Path) -> None:
    stage = "validation" if entry == "validate" else entry
    ends: list[int] = []
    counter = LambdaCallback(**{f"on_{stage}_batch_end": lambda *args: ends.append(1)})
    listener = Listener()
    trainer = trainer_in(tmp_path, terminate_at(f"on_{stage}_batch_start", 2), counter, listener)

    with pytest.raises(SIGTERMException):
        getattr(trainer, entry)(Regression(), loader())

    assert len(ends) == 2
    assert listener.heard == [("on_preemption", 15), ("on_exception", "SIGTERMException"), ("teardown", entry)]


def test_callbacks_of_order_last_save_after_those_that_give_weights_back(tmp_path: Path) -> None:
    class Zeroes(Callback):
        """Has other weights in the module, for as long as training goes on."""

        def on_preemption(self, trainer: TrainerView, pl_module: Any, signum: int) -> None:
            torch.nn.init.zeros_(pl_module.net[2].bias)

    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, Listener(tmp_path / "saved.ckpt"), Zeroes(), terminate_at("on_train_batch_start", 2)).fit(
            Regression(), loader()
        )

    saved = torch.load(tmp_path / "saved.ckpt", weights_only=True)
    assert equal(saved["state_dict"]["net.2.bias"], torch.zeros(1))


def test_a_handler_of_the_users_is_called_too_and_is_there_afterwards(tmp_path: Path) -> None:
    calls: list[int] = []

    def own(number: int, frame: object) -> None:
        calls.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with pytest.raises(SIGTERMException):
            trainer_in(tmp_path, terminate_at("on_train_batch_start")).fit(Regression(), loader())
        assert calls == [15]
        assert signal.getsignal(signal.SIGTERM) is own
        with pytest.raises(ZeroDivisionError):
            trainer_in(tmp_path, LambdaCallback(on_train_start=lambda *args: 1 / 0)).fit(Regression(), loader())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_handler_that_is_installed_during_the_run_is_left_alone(tmp_path: Path) -> None:
    def own(number: int, frame: object) -> None:
        raise AssertionError("not called")

    def install(*args: Any) -> None:
        signal.signal(signal.SIGTERM, own)

    before = signal.getsignal(signal.SIGTERM)
    try:
        trainer_in(tmp_path, LambdaCallback(on_train_start=install)).fit(Regression(), loader())
        assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_process_that_ignores_the_signal_goes_on_ignoring_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        trainer = trainer_in(tmp_path, terminate_at("on_train_batch_start"))
        trainer.fit(Regression(), loader())
        assert trainer.global_step == 2 * BATCHES
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_nothing_is_installed_and_training_works(tmp_path: Path) -> None:
    seen: list[Any] = []
    trainer = trainer_in(
        tmp_path, LambdaCallback(on_train_start=lambda *args: seen.append(signal.getsignal(signal.SIGTERM)))
    )
    thread = threading.Thread(target=trainer.fit, args=(Regression(), loader()))
    thread.start()
    thread.join()

    assert seen == [signal.getsignal(signal.SIGTERM)]
    assert trainer.global_step == 2 * BATCHES


def test_the_next_fit_knows_nothing_of_the_last_ones_signal(tmp_path: Path) -> None:
    trainer, module = trainer_in(tmp_path, terminate_at("on_train_batch_start", 2)), Regression()
    with pytest.raises(SIGTERMException):
        trainer.fit(module, loader())
    assert trainer.state.received_signal == signal.SIGTERM

    trainer.fit(module, loader())

    assert trainer.state.received_signal is None
    assert trainer.state.finished
    assert trainer.current_epoch == 2


def test_an_exception_of_the_step_that_was_to_be_finished_is_the_one_that_is_seen(tmp_path: Path) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError("planted")

    listener = Listener()
    with pytest.raises(ZeroDivisionError, match="planted"):
        trainer_in(
            tmp_path, terminate_at("on_train_batch_start"), LambdaCallback(on_after_backward=fail), listener
        ).fit(Regression(), loader())

    assert listener.heard == [("on_exception", "ZeroDivisionError"), ("teardown", "fit")]


PROGRAM = """
import sys
from pathlib import Path

import torch
from hookloop import Callback, LightningModule, Order, Trainer
from torch.utils.data import DataLoader, TensorDataset

folder, catch, resume = Path(sys.argv[1]), sys.argv[2] == "catch", sys.argv[3:]


class Saver(Callback):
    order = Order.LAST

    def on_preemption(self, trainer, pl_module, signum):
        trainer.save_checkpoint(folder / "saved.ckpt")
        print("saved", signum, flush=True)

    def teardown(self, trainer, pl_module, stage):
        print("torn down", flush=True)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        if self.global_step == 20 and not resume:
            print("training", flush=True)
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


data = DataLoader(TensorDataset(torch.ones(64, 2)), batch_size=4)
trainer = Trainer(
    max_epochs=-1, callbacks=[Saver()], logger=False, default_root_dir=folder, registered_callbacks=False
)
if resume:
    state = torch.load(resume[0], weights_only=True)
    trainer.max_steps = state["global_step"] + 3
try:
    trainer.fit(Module(), data, ckpt_path=resume[0] if resume else None)
except SystemExit as ended:
    if not catch:
        raise
    print("caught", type(ended).__name__, ended.code, flush=True)
print("end", trainer.global_step, flush=True)
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    script = folder / "program.py"
    script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script), str(folder), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], act: Callable[[], None]) -> tuple[list[str], str, int]:
    """Let it train, act, and give back what it printed on both streams, and its exit code."""
    deadline = threading.Timer(DEADLINE_S, process.kill)
    deadline.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        act()
        out, err = process.communicate()
    finally:
        deadline.cancel()
        process.kill()
    return out.splitlines(), err, process.returncode


def test_a_process_that_is_terminated_saves_and_ends_with_exit_code_143(tmp_path: Path) -> None:
    process = start(tmp_path, "-")

    out, err, code = finish(process, lambda: os.kill(process.pid, signal.SIGTERM))

    assert out == ["saved 15", "torn down"]
    assert code == 143, err
    assert err == "SIGTERM received: the batch is done, and the run ends here.\n"
    steps = torch.load(tmp_path / "saved.ckpt", weights_only=True)["global_step"]
    again = subprocess.run(
        [sys.executable, str(tmp_path / "program.py"), str(tmp_path), "-", str(tmp_path / "saved.ckpt")],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    assert again.stdout.splitlines() == ["torn down", f"end {steps + 3}"]


def test_a_program_may_catch_the_end_and_go_on(tmp_path: Path) -> None:
    process = start(tmp_path, "catch")

    out, err, code = finish(process, lambda: os.kill(process.pid, signal.SIGTERM))

    assert out[:3] == ["saved 15", "torn down", "caught SIGTERMException 143"]
    assert out[3].startswith("end ")
    assert code == 0, err


def test_a_second_signal_does_not_disturb_the_unwinding(tmp_path: Path) -> None:
    process = start(tmp_path, "-")

    def twice() -> None:
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGTERM)

    out, err, code = finish(process, twice)

    assert out == ["saved 15", "torn down"]
    assert code == 143, err
