"""Ctrl-C: everything is torn down, once, and KeyboardInterrupt reaches the caller.

The first tests start a program that trains without end, wait for a line that says where it is, and interrupt it.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import pytest

import hookloop
from hookloop import LambdaCallback

from .planted_world import World, assert_clean_run, assert_failed, assert_idle, assert_the_next_runs_work, world_with
from .planting import Fault

CORE = str(Path(hookloop.__file__).parent)

PROGRAM = '''
import logging
import multiprocessing
import sys
from pathlib import Path

import torch
from hookloop import Callback, LightningDataModule, LightningModule, Order, Trainer
from hookloop.loggers import CSVLogger
from torch.utils.data import DataLoader, Dataset, IterableDataset

scenario, folder = sys.argv[1], Path(sys.argv[2])


def say(line):
    print(line, flush=True)


def mark(line):
    with (folder / "marks").open("a") as file:
        file.write(line + "\\n")


class Marker(Callback):
    def on_exception(self, trainer, pl_module, exception):
        mark(f"{self.order.name} on_exception {type(exception).__name__}")

    def teardown(self, trainer, pl_module, stage):
        mark(f"{self.order.name} teardown {stage}")


class First(Marker):
    order = Order.FIRST


class Slow(Callback):
    """Its teardown ends when somebody says so, or is interrupted."""

    def teardown(self, trainer, pl_module, stage):
        try:
            say("tearing down")
            sys.stdin.readline()
        finally:
            mark("slow teardown over")


class Monitor(Marker):
    order = Order.MONITOR


class Last(Marker):
    order = Order.LAST


class Points(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return torch.full((2,), float(index))


class EndlessPoints(IterableDataset):
    def __iter__(self):
        while True:
            yield torch.ones(2)


class Data(LightningDataModule):
    def train_dataloader(self):
        if scenario == "workers":
            # One epoch without an end, so that the signal never meets workers that are being started.
            return DataLoader(EndlessPoints(), batch_size=1, num_workers=2)
        return DataLoader(Points(), batch_size=1)

    def val_dataloader(self):
        return DataLoader(EndlessPoints() if scenario == "validation" else Points(), batch_size=4)

    def teardown(self, stage):
        mark(f"data teardown {stage}")


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.steps = 0

    def training_step(self, batch, batch_idx):
        self.steps += 1
        # By then every worker has delivered.
        if self.steps == 20 and scenario != "validation":
            say("training")
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        if batch_idx == 5 and scenario == "validation":
            say("validating")
        self.log("val_loss", self.layer(batch).square().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)

    def teardown(self, stage):
        mark(f"module teardown {stage}")


class Log(CSVLogger):
    def finalize(self, status):
        super().finalize(status)
        mark(f"logger {status}")


def new_trainer(**arguments):
    return Trainer(
        accelerator="cpu",
        callbacks=[Last(), First(), Monitor(), *([Slow()] if scenario == "second" else []), Marker()],
        logger=Log(folder / "logs"),
        default_root_dir=folder,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        registered_callbacks=False,
        **arguments,
    )


if scenario == "uncaught":
    new_trainer(max_epochs=-1).fit(Module(), datamodule=Data())
for _ in range(2 if scenario == "workers" else 1):
    trainer, module = new_trainer(max_epochs=-1), Module()
    try:
        trainer.fit(module, datamodule=Data())
    except KeyboardInterrupt:
        say(f"caught {trainer.state.fn} {trainer.state.status} {trainer.state.stage}")
        say(f"train mode {module.training}, gradients {torch.is_grad_enabled()}")
    say(f"children {len(multiprocessing.active_children())}")
if scenario == "training":
    last = new_trainer(max_epochs=2)
    last.fit(module, datamodule=Data())
    say(f"then {last.state.status} after {last.global_step} steps")
sys.exit(7)
'''

INTERRUPTED = [
    "FIRST on_exception KeyboardInterrupt",
    "NORMAL on_exception KeyboardInterrupt",
    "MONITOR on_exception KeyboardInterrupt",
    "LAST on_exception KeyboardInterrupt",
    "data teardown fit",
    "FIRST teardown fit",
    "NORMAL teardown fit",
    "module teardown fit",
    "MONITOR teardown fit",
    "LAST teardown fit",
    "logger failed",
]

CAUGHT = ["caught fit interrupted None", "train mode True, gradients True", "children 0"]

# A program that does not end is a failure; no test waits for it.
DEADLINE_S = 60


class Program:
    """The program above, in a process group of its own, as a shell would start it."""

    def __init__(self, scenario: str, folder: Path) -> None:
        self.folder = folder
        self.errors = folder / "stderr"
        script = folder / "program.py"
        script.write_text(PROGRAM)
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(script), scenario, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self.deadline = threading.Timer(DEADLINE_S, self.kill)
        self.deadline.start()

    def __enter__(self) -> "Program":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.deadline.cancel()
        self.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()

    def kill(self) -> None:
        """End whatever is left of the process group."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return

    def lines(self) -> Iterator[str]:
        """What it prints. The end comes when the program and all its children have closed their side."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            yield line.rstrip("\n")

    def next_line(self) -> str:
        """What it prints next."""
        return next(self.lines(), "")

    def wait_for(self, line: str) -> None:
        """Check that this is what the program prints next."""
        printed = self.next_line()
        assert printed == line, self.errors.read_text()

    def interrupt(self) -> None:
        """What a terminal does at Ctrl-C: SIGINT for every process of the group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def say(self, line: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self) -> tuple[list[str], int]:
        """What it prints until the end, and its exit code."""
        rest = list(self.lines())
        return rest, self.process.wait()

    def marks(self) -> list[str]:
        """What its parts wrote into the file of marks."""
        return (self.folder / "marks").read_text().splitlines()


def test_ctrl_c_while_training_tears_everything_down_and_the_process_can_train_again(tmp_path: Path) -> None:
    with Program("training", tmp_path) as program:
        program.wait_for("training")
        program.interrupt()
        assert program.end() == ([*CAUGHT, "then finished after 16 steps"], 7), program.errors.read_text()
        again = [line for line in INTERRUPTED if line.split()[1] == "teardown"]
        assert program.marks() == [*INTERRUPTED, *again, "logger success"]
    first = min((tmp_path / "logs").rglob("metrics.csv"))
    rows = first.read_text().splitlines()
    assert "loss" in rows[0].split(",")
    assert len(rows) > 19


def test_ctrl_c_while_validating_tears_everything_down_and_reaches_the_caller(tmp_path: Path) -> None:
    with Program("validation", tmp_path) as program:
        program.wait_for("validating")
        program.interrupt()
        assert program.end() == (CAUGHT, 7), program.errors.read_text()
        assert program.marks() == INTERRUPTED


def test_ctrl_c_with_loader_workers_leaves_no_process_behind(tmp_path: Path) -> None:
    with Program("workers", tmp_path) as program:
        # First as from a terminal, where the workers get the signal too; then as from another process.
        program.wait_for("training")
        program.interrupt()
        assert [program.next_line() for _ in CAUGHT] == CAUGHT, program.errors.read_text()
        program.wait_for("training")
        program.process.send_signal(signal.SIGINT)
        assert program.end() == (CAUGHT, 7), program.errors.read_text()
        assert program.marks() == [*INTERRUPTED, *INTERRUPTED]


def test_a_second_ctrl_c_during_a_slow_teardown_does_not_keep_the_others_from_theirs(tmp_path: Path) -> None:
    with Program("second", tmp_path) as program:
        program.wait_for("training")
        program.interrupt()
        program.wait_for("tearing down")
        program.interrupt()
        program.say("go on")
        assert program.end() == (CAUGHT, 7), program.errors.read_text()
        expected = list(INTERRUPTED)
        expected.insert(expected.index("NORMAL teardown fit"), "slow teardown over")
        assert program.marks() == expected


def test_a_ctrl_c_that_nobody_catches_ends_the_process_as_python_does(tmp_path: Path) -> None:
    with Program("uncaught", tmp_path) as program:
        program.wait_for("training")
        program.interrupt()
        assert program.end() == ([], -signal.SIGINT)
        assert program.marks() == INTERRUPTED
    assert program.errors.read_text().splitlines()[-1].startswith("KeyboardInterrupt")


# Signals in this process, at a known place.


@pytest.mark.parametrize("hook", ["setup", "on_train_batch_start", "on_validation_batch_end", "on_train_epoch_end"])
def test_ctrl_c_in_a_hook_reaches_the_caller_as_keyboard_interrupt(hook: str, tmp_path: Path) -> None:
    armed = [True]

    def press(*arguments: Any) -> None:
        if armed.pop():
            signal.raise_signal(signal.SIGINT)
        armed.append(False)

    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(**{hook: press}),))
    with pytest.raises(KeyboardInterrupt):
        world.run("fit")
    assert world.trainer.interrupted
    assert_idle(world)
    for witness in world.witnesses:
        assert [type(exception) for _, _, exception in witness.exceptions] == [KeyboardInterrupt]
    setups = [name for name, event in world.trace if event == "setup"]
    assert [name for name, event in world.trace if event == "teardown"] == setups
    assert world.trace[-1] == ("logger", "failed")
    armed[:] = [False]
    assert_the_next_runs_work(world, "fit")


def test_the_users_own_handler_of_ctrl_c_decides_what_happens(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: received.append(number))
    try:

        def press(*arguments: Any) -> None:
            signal.raise_signal(signal.SIGINT)

        world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(on_train_start=press),))
        assert_clean_run(world, "fit")
        assert received == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


class Clock:
    """Counts lines of hookloop, and presses Ctrl-C at one of them."""

    def __init__(self, moment: int) -> None:
        self.moment = moment
        self.lines = 0

    def trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(CORE):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.moment:
                signal.raise_signal(signal.SIGINT)
        return self.trace


@contextmanager
def interrupting(world: World, moment: int, hook: str = "on_exception") -> Iterator[Clock]:
    """Press Ctrl-C at a moment of the unwinding, counted in lines of hookloop since the first callback's hook."""
    clock = Clock(moment)
    first = world.witnesses[0]
    original = getattr(first, hook)

    def start_the_clock(*arguments: Any) -> None:
        original(*arguments)
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code.co_filename.startswith(CORE):
                frame.f_trace = clock.trace
            frame = frame.f_back
        sys.settrace(clock.trace)

    before = sys.gettrace()
    setattr(first, hook, start_the_clock)
    try:
        yield clock
    finally:
        sys.settrace(before)
        delattr(first, hook)


def outcome(world: World) -> BaseException | None:
    """What a fit raises, whatever it is: a stray KeyboardInterrupt would end pytest."""
    try:
        world.run("fit")
    except BaseException as error:  # noqa: BLE001 - see above
        return error
    return None


PARTS = 16


@pytest.mark.parametrize("part", range(PARTS))
def test_another_ctrl_c_at_any_moment_of_the_unwinding_keeps_nobody_from_it(part: int, tmp_path: Path) -> None:
    def new_world() -> tuple[World, Fault]:
        fault = Fault(ValueError("planted"))
        return world_with(tmp_path, "fit", {("module", "training_step"): fault}), fault

    world, fault = new_world()
    with interrupting(world, -1) as clock:
        assert outcome(world) is fault.error
    moments = clock.lines
    assert moments > PARTS
    world, fault = new_world()
    with interrupting(world, moments * part // PARTS + 1) as clock:
        raised = outcome(world)
    assert clock.lines >= clock.moment
    assert raised is fault.error
    assert world.trace[fault.struck_at :] == [
        *((name, "on_exception") for name in world.exception_order),
        *((name, "teardown") for name in world.setup_order),
        ("logger", "failed"),
    ]
    assert_failed(world, fault, "fit")
    fault.armed = False
    assert_the_next_runs_work(world, "fit")


@pytest.mark.parametrize("part", range(PARTS))
def test_a_ctrl_c_at_any_moment_of_the_teardown_reaches_everyone_and_the_caller(part: int, tmp_path: Path) -> None:
    world = world_with(tmp_path, "fit", {})
    moments: list[int] = []
    with interrupting(world, -1, "teardown") as clock, pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.loggers[0], "finalize", lambda status: moments.append(clock.lines))
        assert outcome(world) is None
    world = world_with(tmp_path, "fit", {})
    with interrupting(world, moments[0] * part // PARTS + 1, "teardown") as clock:
        raised = outcome(world)
    assert clock.lines >= clock.moment
    assert isinstance(raised, KeyboardInterrupt)
    assert [name for name, hook in world.trace if hook == "teardown"] == world.setup_order
    assert [name for name, hook in world.trace if hook == "on_exception"] == world.exception_order
    assert [name for name, status in world.trace if status in ("success", "failed")] == ["logger"]
    assert world.trainer.interrupted
    assert_idle(world)
    assert_the_next_runs_work(world, "fit")
