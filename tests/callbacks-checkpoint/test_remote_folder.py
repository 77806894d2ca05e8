"""A folder that is no local one: fsspec's memory stands for all of them."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import torch

from hookloop import LambdaCallback, storage
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs


@pytest.fixture
def folder() -> str:
    return f"memory://{uuid4().hex}/checkpoints"


def names(folder: str) -> list[str]:
    import fsspec

    return sorted(path.rpartition("/")[2] for path in fsspec.filesystem("memory").ls(folder, detail=False))


def test_the_best_and_the_last_are_kept_there_and_found_again(runs: Runs, folder: str) -> None:
    def best() -> ModelCheckpoint:
        return ModelCheckpoint(folder, monitor="score", save_top_k=2, save_last=True)

    runs.fit(best(), scores=[3.0, 1.0, 2.0])
    assert names(folder) == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]
    resumed = best()

    runs.fit(resumed, scores=[3.0, 1.0, 2.0, 1.5], before=3, ckpt_path="last")

    assert names(folder) == ["epoch=1-step=4.ckpt", "epoch=3-step=8.ckpt", "last.ckpt"]
    assert resumed.best_model_path == f"{folder}/epoch=1-step=4.ckpt"
    assert resumed.last_model_path == f"{folder}/last.ckpt"
    assert resumed.resolve_checkpoint("best") == resumed.best_model_path


def test_there_are_no_links(folder: str) -> None:
    with pytest.raises(
        MisconfigurationError, match=r'save_last="link"\): there are no links in memory://.*save_last=True'
    ):
        ModelCheckpoint(folder, save_last="link")


def test_another_run_is_left_alone_there_too(runs: Runs, folder: str) -> None:
    arguments: dict[str, Any] = {"save_top_k": 0, "save_last": True}
    runs.fit(ModelCheckpoint(folder, **arguments), scores=[1.0])

    with pytest.warns(UserWarning, match=r"last\.ckpt is there already and was written by another run"):
        runs.fit(ModelCheckpoint(folder, **arguments), scores=[1.0])

    assert names(folder) == ["last-v1.ckpt", "last.ckpt"]


def contents(folder: str) -> dict[str, bytes]:
    import fsspec

    files = fsspec.filesystem("memory")
    return {name: files.cat_file(f"{folder}/{name}") for name in names(folder)}


class Killed:
    """Puts back what was there when a process was killed: files in the order in which they were written."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.before: dict[str, bytes] = {}

    def remember(self, *args: Any) -> None:
        with suppress(FileNotFoundError):  # before the first save
            self.before = contents(self.folder)

    def put_back(self, *names: str) -> None:
        """These as they were when they were remembered, and older than what was written since."""
        import fsspec

        files = fsspec.filesystem("memory")
        for name in names:
            files.pipe_file(f"{self.folder}/{name}", self.before[name])
            files.store[files._strip_protocol(f"{self.folder}/{name}")].created = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("which", ["auto", "last"])
def test_a_job_that_was_killed_between_its_best_and_its_last_file_leaves_no_other(
    runs: Runs, folder: str, which: str
) -> None:
    def best() -> ModelCheckpoint:
        return ModelCheckpoint(folder, monitor="score", save_last=True)

    killed = Killed(folder)
    at_first = LambdaCallback(on_validation_start=killed.remember)
    runs.fit(best(), at_first, scores=[3.0, 2.0])
    killed.put_back("epoch=0-step=2.ckpt", "last.ckpt")
    assert names(folder) == ["epoch=0-step=2.ckpt", "epoch=1-step=4.ckpt", "last.ckpt"]
    done = {"auto": 2, "last": 1}[which]

    runs.fit(best(), scores=[3.0, 2.0, 1.0], before=done, ckpt_path=which)

    assert names(folder) == ["epoch=2-step=6.ckpt", "last.ckpt"]


def test_the_last_file_of_a_job_that_was_killed_before_it_at_the_end_is_written_by_the_next_one(
    runs: Runs, folder: str
) -> None:
    killed = Killed(folder)
    at_first = LambdaCallback(on_validation_start=killed.remember)
    runs.fit(ModelCheckpoint(folder, save_last=True), at_first, scores=[3.0, 2.0])
    killed.put_back("epoch=0-step=2.ckpt", "last.ckpt")
    resumed = ModelCheckpoint(folder, save_last=True)

    runs.fit(resumed, scores=[3.0, 2.0], before=2, ckpt_path="auto")

    assert names(folder) == ["epoch=1-step=4.ckpt", "last.ckpt"]
    with storage.opened(resumed.last_model_path) as file:
        assert torch.load(file, weights_only=True)["global_step"] == 4
