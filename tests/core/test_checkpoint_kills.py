"""A process that is killed while it saves: its target can always be loaded, and is one of the files that it wrote."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from hookloop.checkpoint_file import read_checkpoint, write_checkpoint
from hookloop.errors import CheckpointError

ELEMENTS = 40_000
"""Enough for several writes to the disk."""

COMMON = '''
import collections
import os
import random
import resource
import signal
import sys
import time
from pathlib import Path

import torch

from hookloop.checkpoint_file import read_checkpoint, write_checkpoint

folder, elements = Path(sys.argv[1]), int(sys.argv[2])
path = folder / "model.ckpt"


def checkpoint(value):
    return {"state_dict": {"weight": torch.full((elements,), float(value))}, "epoch": value}


def child(body):
    """Runs it in a process of its own, and returns that process's id."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os._exit(1)
    return pid


def ended(pid):
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "lived"
'''

AT_A_PLACE = '''
def report(what, pid):
    end = ended(pid)
    torch.load(path, weights_only=True)
    print(what, end, path.read_bytes() == old, flush=True)


class Announces:
    """Says so when its file is being written, and waits to be killed."""

    def __init__(self, pipe):
        self.pipe = pipe

    def __reduce__(self):
        if list(folder.glob(".*.partial")):
            os.write(self.pipe, b"here")
            signal.pause()
        return collections.OrderedDict, ()


def killed_from_outside():
    reading, writing = os.pipe()
    pid = child(lambda: write_checkpoint(checkpoint(2) | {"blocks": Announces(writing)}, path))
    os.read(reading, 4)
    os.kill(pid, signal.SIGKILL)
    return pid


def killed_at_a_byte(limit):
    """The kernel ends the process in the very write that passes the limit."""

    def write():
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        write_checkpoint(checkpoint(2), path)

    return child(write)


write_checkpoint(checkpoint(1), path)
old = path.read_bytes()
report("outside", killed_from_outside())
for limit in (0, 1, 4096, len(old) // 2, len(old) - 1):
    report(limit, killed_at_a_byte(limit))
'''

AT_RANDOM = """
def save_for_ever(first, started):
    value = first
    while True:
        write_checkpoint(checkpoint(value), path)
        if value == first:
            os.write(started, b"1")
        value += 1


draw = random.Random(7)
first = 0
reading, writing = os.pipe()
for _ in range(int(sys.argv[3])):
    begun = first
    pid = child(lambda: save_for_ever(begun, writing))
    os.read(reading, 1)
    time.sleep(draw.uniform(0.0, 0.03))
    os.kill(pid, signal.SIGKILL)
    end = ended(pid)
    in_the_middle = len(list(folder.glob(".*.partial")))
    found = read_checkpoint(path)
    weight = found["state_dict"]["weight"]
    whole = weight.shape == (elements,) and bool((weight == found["epoch"]).all())
    print(end, whole and found["epoch"] >= begun, in_the_middle, flush=True)
    first = found["epoch"] + 1
"""


def lines_of(program: str, folder: Path, *arguments: object) -> list[list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", COMMON + program, str(folder), str(ELEMENTS), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_process_that_is_killed_in_the_middle_of_a_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    # When it was killed, by what, and whether the old file is the same to the byte.
    found = [line[1:] for line in lines_of(AT_A_PLACE, tmp_path)]
    assert found == [["SIGKILL", "True"]] + 5 * [["SIGXFSZ", "True"]]
    assert read_checkpoint(path)["epoch"] == 1

    # What the killed ones left lying about is no checkpoint, and in nobody's way.
    assert len(names_in(tmp_path)) > 1
    path.unlink()
    with pytest.raises(CheckpointError, match="there is no checkpoint in that folder"):
        read_checkpoint(path)
    write_checkpoint({"state_dict": {"weight": torch.ones(2)}}, path)
    # Each of them is as large as a checkpoint: the next save that succeeds clears them away.
    assert names_in(tmp_path) == ["model.ckpt"]


def test_of_a_loop_of_saves_that_is_killed_at_40_random_moments_the_target_always_loads(tmp_path: Path) -> None:
    found = lines_of(AT_RANDOM, tmp_path, 40)
    # How it ended, whether the file is one of those that were written since, and how many it left unfinished.
    assert [line[:2] for line in found] == 40 * [["SIGKILL", "True"]]
    assert sum(int(line[2]) for line in found) > 10, "the kills have to fall into saves"
