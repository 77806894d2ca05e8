"""A save in the background while the run, or the whole process, comes to its end in one way or another."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LightningModule
from hookloop.checkpoint_file import read_checkpoint
from hookloop.errors import SIGTERMException
from hookloop.view import TrainerView

from .fitting import Regression, loader, trainer_in
from .gates import Gate, writers, written


class Ends(Callback):
    """Begins a save after the second batch, and ends the run by `how` in the third one."""

    def __init__(self, path: Path, how: Callable[[], object], gate: Gate) -> None:
        self.path = path
        self.how = how
        self.gate = gate
        self.heard: list[tuple[str, int]] = []
        self.failures: list[BaseException] = []

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path, background=True)

    def on_train_batch_start(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        if trainer.global_step == 2:
            self.how()

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        self.failures.append(exception)
        assert len(writers()) == 1  # it is still being written
        self.gate.opened.set()

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.heard.append((path, read_checkpoint(path)["global_step"]))


def fails() -> None:
    raise ValueError("in a hook")


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (fails, ValueError),
        (lambda: signal.raise_signal(signal.SIGINT), KeyboardInterrupt),
        (lambda: sys.exit(3), SystemExit),
    ],
    ids=["exception", "Ctrl-C", "sys.exit"],
)
def test_a_run_that_is_broken_off_waits_for_the_file_and_announces_it(
    tmp_path: Path, how: Callable[[], object], error: type[BaseException]
) -> None:
    gate = Gate(is_open=False)
    ends = Ends(tmp_path / "a.ckpt", how, gate)
    trainer = trainer_in(tmp_path, ends, plugins=gate)
    with pytest.raises(error):
        trainer.fit(Regression(), loader())

    assert ends.heard == [(str(tmp_path / "a.ckpt"), 2)]
    assert len(ends.failures) == 1
    assert not list(tmp_path.glob(".*"))


def test_an_error_of_the_thread_is_a_note_of_the_exception_that_ended_the_run(tmp_path: Path) -> None:
    gate = Gate(is_open=False, fails=("a.ckpt",))
    ends = Ends(tmp_path / "a.ckpt", fails, gate)
    trainer = trainer_in(tmp_path, ends, plugins=gate)
    with pytest.raises(ValueError, match="in a hook") as caught:
        trainer.fit(Regression(), loader())

    assert caught.value.__notes__ == [
        f"Saves.wait raised after that: OSError: [Errno 28] No space left on device: '{tmp_path / 'a.ckpt'}'"
    ]
    assert ends.heard == []


class SavesLast(Callback):
    """What ModelCheckpoint does when the process is asked to end."""

    def __init__(self, path: Path, gate: Gate) -> None:
        self.path = path
        self.gate = gate

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        self.gate.opened.set()
        trainer.save_checkpoint(self.path)


def test_a_sigterm_during_a_save_gives_both_files_and_exit_code_143(tmp_path: Path) -> None:
    gate = Gate(is_open=False)
    ends = Ends(tmp_path / "a.ckpt", lambda: signal.raise_signal(signal.SIGTERM), gate)
    ends.on_exception = lambda *args: None  # type: ignore[method-assign]
    trainer = trainer_in(tmp_path, ends, SavesLast(tmp_path / "last.ckpt", gate), plugins=gate)
    with pytest.raises(SIGTERMException) as caught:
        trainer.fit(Regression(), loader())

    assert caught.value.code == 143
    assert ends.heard == [(str(tmp_path / "a.ckpt"), 2), (str(tmp_path / "last.ckpt"), 3)]
    assert gate.most == 1


def test_a_file_that_failed_does_not_cost_the_one_that_is_saved_at_a_sigterm(tmp_path: Path) -> None:
    gate = Gate(is_open=False, fails=("a.ckpt",))

    def asked_to_end() -> None:
        gate.opened.set()
        written()
        signal.raise_signal(signal.SIGTERM)

    ends = Ends(tmp_path / "a.ckpt", asked_to_end, gate)
    ends.on_exception = lambda *args: None  # type: ignore[method-assign]
    trainer = trainer_in(tmp_path, ends, SavesLast(tmp_path / "last.ckpt", gate), plugins=gate)
    with pytest.warns(UserWarning, match=r"OSError: \[Errno 28\] No space left"), pytest.raises(SIGTERMException):
        trainer.fit(Regression(), loader())

    assert ends.heard == [(str(tmp_path / "last.ckpt"), 3)]


def test_the_loops_lower_the_flag_once_they_have_seen_to_it(tmp_path: Path) -> None:
    gate = Gate(is_open=False)
    seen: list[bool] = []

    class Looks(Callback):
        def on_train_batch_start(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
            if trainer.global_step == 2:
                gate.opened.set()
                written()
            seen.append(trainer.state.attention)

        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
            if trainer.global_step == 2:
                trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
                seen.append(trainer.state.attention)

    trainer_in(tmp_path, Looks(), max_epochs=1, plugins=gate).fit(Regression(), loader())

    assert seen == [False, False, False, True, False, False]


# ------------------------------------------------------------------------------------------- the end of the process

SCRIPT = """
import os, signal, sys, threading
from hookloop import Callback, Trainer
from hookloop.checkpoint_io import TorchCheckpointIO
from tests.core.fitting import Regression, loader, trainer_in
from pathlib import Path

assert "hookloop.checkpoint_io.writer" not in sys.modules and threading.active_count() == 1

class AfterTheEnd(TorchCheckpointIO):
    def save_checkpoint(self, checkpoint, path, storage_options=None):
        threading.main_thread().join()  # until the script has ended
        print("ended", flush=True)
        {write}

class Hears(Callback):
    def on_checkpoint_saved(self, trainer, pl_module, path):
        print("announced", Path(path).name, Path(path).stat().st_size > 0, flush=True)

folder = Path(sys.argv[1])
trainer = trainer_in(folder, Hears(), max_epochs=1, plugins=AfterTheEnd())
trainer.fit(Regression(), loader())
trainer.save_checkpoint(folder / "a.ckpt", background=True)
print("goes on", flush=True)
{end}
"""

WRITES = "super().save_checkpoint(checkpoint, path, storage_options)"


def process(folder: Path, end: str, write: str = WRITES) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(end=end, write=write), str(folder)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=root,
        env=environment,
        check=False,
    )


@pytest.mark.parametrize(
    ("end", "code", "last_words"),
    [
        ("", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('at the end')", 1, "ValueError: at the end\n"),
        ("os.kill(os.getpid(), signal.SIGINT)", -2, "KeyboardInterrupt\n"),
    ],
    ids=["the end of the script", "sys.exit", "an exception", "Ctrl-C"],
)
def test_the_process_does_not_end_before_the_file_is_there(
    tmp_path: Path, end: str, code: int, last_words: str
) -> None:
    ended = process(tmp_path, end)

    assert ended.stdout == "goes on\nended\nannounced a.ckpt True\n", ended.stderr
    assert ended.returncode == code
    assert ended.stderr.endswith(last_words)
    assert read_checkpoint(tmp_path / "a.ckpt")["global_step"] == 5


def test_an_error_after_the_end_of_the_script_is_printed(tmp_path: Path) -> None:
    ended = process(tmp_path, "", "raise OSError(28, 'No space left on device', str(path))")

    assert ended.stdout == "goes on\nended\n"
    assert f"OSError: [Errno 28] No space left on device: '{tmp_path / 'a.ckpt'}'" in ended.stderr


def test_a_fork_leaves_the_file_to_the_process_that_saves_it(tmp_path: Path) -> None:
    end = """
if os.fork() == 0:
    trainer.wait_for_checkpoints()
    sys.exit(0)
print("child", os.wait()[1])
"""
    ended = process(tmp_path, end)

    assert ended.stdout == "goes on\nchild 0\nended\nannounced a.ckpt True\n", ended.stderr
