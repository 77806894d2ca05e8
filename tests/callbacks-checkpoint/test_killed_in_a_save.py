"""A process is killed before each thing that a save does to the folder; what the next process leaves is as if not."""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import LambdaCallback
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Runs

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the process to be killed is a fork")

DEEDS = {"os.rename", "os.remove", "os.link", "os.symlink"}
SCORES = [3.0, 2.0, 1.0]


def dies(work: Callable[[Callable[[], None]], object], folder: Path, deeds: int) -> bool:
    """Do the work in a fork that is killed before it does so much to the folder after it said from when on to count."""
    child = os.fork()
    if child == 0:
        left: list[int] = []

        def look(event: str, arguments: tuple[Any, ...]) -> None:
            if left and event in DEEDS and any(str(folder) in str(argument) for argument in arguments[:2]):
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        try:
            work(lambda: left.append(deeds))
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("epoch", [1, 2])
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, {"epoch=2-step=6.ckpt": 6}),
        ({"save_last": True}, {"epoch=2-step=6.ckpt": 6, "last.ckpt": 6}),
        ({"save_last": "link"}, {"epoch=2-step=6.ckpt": 6, "last.ckpt": 6}),
        (
            {"save_last": "link", "monitor": "score", "save_top_k": 2},
            {"epoch=1-step=4.ckpt": 4, "epoch=2-step=6.ckpt": 6, "last.ckpt": 6},
        ),
    ],
    ids=["newest", "last", "link", "best two"],
)
def test_a_job_that_was_killed_anywhere_in_a_save_leaves_the_files_of_one_that_was_not(
    arguments: dict[str, Any], expected: dict[str, float], epoch: int, runs: Runs, tmp_path: Path
) -> None:
    for deeds in count():
        folder = tmp_path / str(deeds)

        def job(counts: Callable[[], None], folder: Path = folder) -> None:
            def begin(trainer: Any, module: Any) -> None:
                if trainer.current_epoch == epoch:
                    counts()

            checkpoint = ModelCheckpoint(folder, **arguments)
            runs.fit(checkpoint, LambdaCallback(on_train_epoch_start=begin), scores=SCORES, ckpt_path="auto")

        killed = dies(job, folder, deeds)
        at = max((int(runs.steps_in(path)) for path in folder.glob("*.ckpt")), default=0) // 2

        runs.fit(ModelCheckpoint(folder, **arguments), scores=SCORES, before=at, ckpt_path="auto")

        assert {path.name: runs.steps_in(path) for path in folder.iterdir()} == expected
        if not killed:
            break
    assert deeds >= 3  # a new name, its temporary one, and a deletion at the least
