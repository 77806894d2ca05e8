"""RequeueOnSignal: the job is saved, and queued again by a real command."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import LambdaCallback
from hookloop.errors import MisconfigurationError, SIGTERMException
from hookloop_callbacks_checkpoint import ModelCheckpoint, RequeueOnSignal

if TYPE_CHECKING:
    from conftest import Runs

DEADLINE_S = 120


def send(number: int, n: int = 2, hook: str = "on_train_batch_start") -> LambdaCallback:
    """Has the process get a signal when a hook is called for the n-th time."""
    calls: list[int] = []

    def count(*args: Any) -> None:
        calls.append(number)
        if len(calls) == n:
            signal.raise_signal(number)

    return LambdaCallback(**{hook: count})


@pytest.fixture(autouse=True)
def outside_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)


def scheduler(folder: Path, name: str = "scontrol", script: str = 'echo "$@" >> "$0.log"') -> Path:
    """A program that stands for the scheduler's."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


PROGRAM = """
import signal
import sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LambdaCallback, LightningModule, Trainer
from hookloop_callbacks_checkpoint import ModelCheckpoint, RequeueOnSignal

folder, stops = Path(sys.argv[1]), sys.argv[2] == "stops"


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        torch.nn.init.ones_(self.layer.weight)
        torch.nn.init.zeros_(self.layer.bias)

    def training_step(self, batch, batch_idx):
        return self.layer(batch[0]).pow(2).mean()

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.1)


def interrupt(trainer, *args):
    if stops and trainer.global_step == 5:
        signal.raise_signal(signal.SIGUSR1)


runs = folder / "runs"
again = [sys.executable, str(folder / "restart.py")]
trainer = Trainer(
    max_epochs=3,
    callbacks=[
        RequeueOnSignal(command=again),  # before the one that saves, and runs after it all the same
        ModelCheckpoint(runs, save_top_k=0, save_last=True),
        LambdaCallback(on_train_batch_start=interrupt),
    ],
    logger=False, enable_progress_bar=False,
)
net = Net()
data = DataLoader(TensorDataset(torch.arange(16.0).view(8, 2) / 16), batch_size=2)
last = runs / "last.ckpt"
trainer.fit(net, data, ckpt_path=last if last.exists() else None)
torch.save(net.state_dict(), folder / "end.partial")
(folder / "end.partial").rename(folder / "end.pt")
"""

RESTART = """
import subprocess, sys
from pathlib import Path
folder = Path(__file__).parent
assert (folder / "runs" / "last.ckpt").exists(), "the command runs when the file is there"
(folder / "requeued").touch()
with (folder / "second.log").open("w") as log:
    subprocess.Popen(
        [sys.executable, str(folder / "train.py"), str(folder), "goes on"],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
    )
"""


def test_a_job_that_is_requeued_ends_as_one_that_was_never_stopped(tmp_path: Path) -> None:
    ends = []
    for name, how in (("whole", "goes on"), ("stopped", "stops")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "train.py").write_text(PROGRAM)
        (folder / "restart.py").write_text(RESTART)
        command = [sys.executable, str(folder / "train.py"), str(folder), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        assert done.returncode == (138 if how == "stops" else 0), done.stderr
        assert (folder / "requeued").exists() == (how == "stops")
        deadline = time.monotonic() + DEADLINE_S
        while not (folder / "end.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.05)  # the second process is the first one's grandchild, which nobody can wait for
        ends.append(torch.load(folder / "end.pt"))
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def run(runs: Runs, *callbacks: Any, **options: Any) -> list[str]:
    """A fit that a signal ends; what was warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(SIGTERMException) as ended:
            runs.fit(*callbacks, scores=[2.0, 1.0], **options)
    assert ended.value.code == 128 + ended.value.signum
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(
    ("environment", "asked"),
    [
        ({"SLURM_JOB_ID": "71"}, "requeue 71"),
        ({"SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "3"}, "requeue 70_3"),
    ],
)
def test_slurm_is_asked_to_requeue_the_job(
    environment: dict[str, str], asked: str, runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = scheduler(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    told = run(runs, RequeueOnSignal(), ModelCheckpoint(tmp_path / "kept"), send(signal.SIGUSR1))
    assert not [line for line in told if "RequeueOnSignal" in line]
    assert Path(f"{program}.log").read_text().splitlines() == [asked]
    assert torch.load(tmp_path / "kept" / "last.ckpt")["global_step"] == 2


def test_sigterm_saves_and_requeues_nothing(runs: Runs, tmp_path: Path) -> None:
    program = scheduler(tmp_path)
    run(runs, RequeueOnSignal(command=[str(program)]), ModelCheckpoint(tmp_path / "kept"), send(signal.SIGTERM))
    assert not Path(f"{program}.log").exists()
    assert (tmp_path / "kept" / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["SIGUSR2", "usr2", int(signal.SIGUSR2)])
def test_the_signal_can_be_chosen(name: str | int, runs: Runs, tmp_path: Path) -> None:
    program = scheduler(tmp_path)
    before = signal.getsignal(signal.SIGUSR2)
    run(runs, RequeueOnSignal(name, [str(program), "x"]), ModelCheckpoint(tmp_path / "kept"), send(signal.SIGUSR2))
    assert Path(f"{program}.log").read_text() == "x\n"
    assert signal.getsignal(signal.SIGUSR2) is before


def test_a_missing_scontrol_is_told_when_the_run_begins_and_when_it_ends(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    command = ["scontrol-that-is-nowhere", "requeue", "{job_id}"]
    told = run(runs, RequeueOnSignal(command=command), ModelCheckpoint(tmp_path / "kept"), send(signal.SIGUSR1))
    told = [line for line in told if "RequeueOnSignal" in line]
    assert "there is no program 'scontrol-that-is-nowhere' here. Pass its path in command=[...]" in told[0]
    assert "scontrol-that-is-nowhere requeue 71 cannot be run, as there is no such program. The run is saved" in told[1]
    assert (tmp_path / "kept" / "last.ckpt").exists()


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo no such job >&2; exit 3", r"ended with exit code 3 \(no such job\)\. The run is saved; queue it by"),
        ("exit 4", r"ended with exit code 4 \(it said nothing\)"),
        ("exec sleep 60", r"did not end within 0\.5 s"),
    ],
)
def test_a_command_that_fails_is_told_and_the_file_is_there(script: str, told: str, runs: Runs, tmp_path: Path) -> None:
    program = scheduler(tmp_path, script=script)
    requeue = RequeueOnSignal(command=[str(program)], timeout=0.5)
    with pytest.warns(UserWarning, match=told), pytest.raises(SIGTERMException):
        runs.fit(requeue, ModelCheckpoint(tmp_path / "kept"), send(signal.SIGUSR1), scores=[2.0, 1.0])
    assert (tmp_path / "kept" / "last.ckpt").exists()


def test_outside_of_slurm_the_signal_saves_and_a_warning_says_the_rest(runs: Runs, tmp_path: Path) -> None:
    told = run(runs, RequeueOnSignal(), ModelCheckpoint(tmp_path / "kept"), send(signal.SIGUSR1))
    [line] = [line for line in told if "RequeueOnSignal" in line]
    assert "the job is not queued again: it runs outside of SLURM (SLURM_JOB_ID is not set)" in line
    assert (tmp_path / "kept" / "last.ckpt").exists()


def test_a_run_that_saves_nothing_is_told(runs: Runs, tmp_path: Path) -> None:
    told = run(runs, RequeueOnSignal(command=[str(scheduler(tmp_path))]), send(signal.SIGUSR1))
    assert any("no checkpoint callback is there, so nothing is saved on SIGUSR1" in line for line in told)


def test_a_run_that_is_done_is_not_requeued(runs: Runs, tmp_path: Path) -> None:
    program = scheduler(tmp_path)
    late = send(signal.SIGUSR1, n=1, hook="on_fit_end")
    run(runs, RequeueOnSignal(command=[str(program)]), ModelCheckpoint(tmp_path / "kept"), late)
    assert not Path(f"{program}.log").exists()


@pytest.mark.parametrize("given", ["SIGNAL", "", 0, 9999, True, None])
def test_what_is_no_signal_is_refused(given: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"is no signal\. Give its name or number"):
        RequeueOnSignal(given)


@pytest.mark.parametrize("given", ["SIGKILL", "SIGSTOP", "SIGINT", "SIGTERM"])
def test_a_signal_with_another_meaning_is_refused(given: str) -> None:
    with pytest.raises(MisconfigurationError, match=rf"{given} means something else, or cannot be handled"):
        RequeueOnSignal(given)


@pytest.mark.parametrize("given", ["scontrol requeue", [], [1]])
def test_a_command_that_is_no_list_of_texts_is_refused(given: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"give the program and its arguments as a list of texts"):
        RequeueOnSignal(command=given)


@pytest.mark.parametrize("given", [0, -1.0, True, "30"])
def test_a_timeout_that_is_none_is_refused(given: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"must be a number of seconds above 0"):
        RequeueOnSignal(timeout=given)
