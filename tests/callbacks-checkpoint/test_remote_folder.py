"""A folder that is no local one: fsspec's memory stands for all of them."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs

pytestmark = pytest.mark.skipif(find_spec("hookloop.storage") is None, reason="this core keeps files in local folders")


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
