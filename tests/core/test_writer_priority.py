"""Where training and a background save want the same core, training goes first."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop.checkpoint_io.writer import YIELDS, BackgroundWriter

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")

ON_ONE_CORE = """
import os
import sys
import time

import torch

from hookloop.checkpoint_file import write_checkpoint
from hookloop.checkpoint_io.writer import BackgroundWriter

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
state = {"state_dict": {str(index): torch.zeros(1_000_000) for index in range(20)}}
used = []


def write(copy):
    begin = time.thread_time()
    write_checkpoint(copy, sys.argv[1])
    used.append(time.thread_time() - begin)


writer, weights = BackgroundWriter(), torch.ones(200, 200)
done = writer.start(write, state)
begin = time.thread_time()
while not done.done():
    weights @ weights
trained = time.thread_time() - begin
writer.wait()
print(used[0] / (used[0] + trained))
"""


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_the_thread_that_writes_has_a_lower_priority_and_the_one_that_trains_keeps_its_own() -> None:
    before, seen = priority(), []
    writer = BackgroundWriter()

    writer.start(lambda copy: seen.append(priority()), {"weight": torch.ones(2)}).result(60)
    writer.wait()

    assert seen == [before + YIELDS]
    assert priority() == before


def test_where_no_thread_can_be_started_the_one_that_trains_writes_with_its_own_priority(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    before, seen = priority(), []
    writer = BackgroundWriter()

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        writer.start(lambda copy: seen.append(priority()), {"weight": torch.ones(2)}).result(0)

    assert seen == [before]
    assert priority() == before


def test_on_one_core_a_write_gets_a_tenth_of_the_time_until_somebody_waits_for_it(tmp_path: Path) -> None:
    environment: dict[str, Any] = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ON_ONE_CORE, str(tmp_path / "last.ckpt")]

    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=250)

    assert float(done.stdout) < 0.25  # equals would share: 0.5
    assert (tmp_path / "last.ckpt").exists()
