"""A job that is killed and started again ends with what it would have ended with, byte for byte.

The starts of the job are forked from a process that has imported torch (see process.py), which is a process of its own,
since pytest's may have threads.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

TOGETHER = Path(__file__).resolve().parents[1]

KILLS, TERMINATIONS = 40, 20


def crash(folder: Path, *options: str) -> dict[str, Any]:
    """Have the job ended at random moments; every start of it, and the folders of the runs."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "crash", "--folder", str(folder), "--json", str(report), *options]
    done = subprocess.run(command, cwd=TOGETHER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    return found


def tensors(value: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by the way to it; callbacks' states aside, whose names are paths."""
    if isinstance(value, torch.Tensor):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return {way: found for key, one in items for way, found in tensors(one, f"{name}/{key}").items()}


def assert_all_equal_the_run_that_was_never_ended(found: dict[str, Any]) -> None:
    expected = tensors(torch.load(Path(found["never_killed"], "final.ckpt"), weights_only=True))
    assert len(expected) > 30  # weights, statistics, Adam's moments, random states
    for folder in found["folders"]:
        resumed = tensors(torch.load(Path(folder, "final.ckpt"), weights_only=True))
        assert list(resumed) == list(expected)
        for name, tensor in expected.items():
            assert torch.equal(resumed[name], tensor), (folder, name)
        for best in Path(found["never_killed"], "best").iterdir():
            assert Path(folder, "best", best.name).exists()
        assert not list(Path(folder).rglob("*.partial"))  # what killed saves left, the next ones have deleted


def test_a_job_that_is_killed_40_times_ends_as_if_it_never_was(tmp_path: Path) -> None:
    found = crash(tmp_path, "--kills", str(KILLS), "--signal", "SIGKILL")

    killed = [end for end in found["ends"] if end["exit_code"] == -signal.SIGKILL]
    assert len(killed) >= KILLS
    assert sum(end["in_save"] for end in killed) >= KILLS // 2
    assert sum(end["left_behind"] for end in killed) >= KILLS // 10  # it was the writing itself that was hit
    assert {end["to_group"] for end in killed} == {False, True}
    assert {end["exit_code"] for end in found["ends"]} == {0, -signal.SIGKILL}
    assert_all_equal_the_run_that_was_never_ended(found)


def test_a_job_that_is_asked_to_end_20_times_loses_nothing(tmp_path: Path) -> None:
    found = crash(tmp_path, "--kills", str(TERMINATIONS), "--signal", "SIGTERM")

    # Before fit has begun, and after it has ended, there is nobody to hear the signal, and nothing to lose.
    asked = [end for end in found["ends"] if end["exit_code"] == 128 + signal.SIGTERM]
    assert len(asked) >= TERMINATIONS // 2
    assert {end["exit_code"] for end in found["ends"]} <= {0, -signal.SIGTERM, 128 + signal.SIGTERM}
    assert_all_equal_the_run_that_was_never_ended(found)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for others")
def test_a_program_that_is_asked_to_end_has_exit_code_143_and_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "crash.job", str(tmp_path)]
    with subprocess.Popen(command, cwd=TOGETHER, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        for line in job.stdout:
            if line.startswith("batch 7 "):
                job.terminate()
                break
        told = job.stdout.read().splitlines()
    assert job.returncode == 143
    preempted = next(line for line in told if line.startswith("preempted")).split()[1:]

    done = subprocess.run(command, cwd=TOGETHER, capture_output=True, text=True, check=True)
    assert f"training {' '.join(preempted)}" in done.stdout.splitlines()
    assert "Resuming from" in done.stderr
