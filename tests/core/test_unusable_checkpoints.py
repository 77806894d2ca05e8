"""Checkpoints that cannot be used: "last" and "auto" pass over them, and never begin anew over one that is whole."""

import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookloop.checkpoint_io import TorchCheckpointIO
from hookloop.errors import CheckpointError, DamagedCheckpointError

from .fitting import Regression, assert_same_training, loader, trainer_in
from .offering import INTACT, LOST, Knows, checkpoints_in, flipped, not_as_root


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    return checkpoints_in(tmp_path)


@pytest.mark.parametrize("which", ["last", "auto"])
@pytest.mark.parametrize("spoil", [*LOST, *INTACT], ids=lambda spoil: spoil.__name__)
def test_a_file_that_cannot_be_used_is_named_and_the_next_one_is_taken(
    spoil: Callable[[Path], None], which: str, files: list[Path]
) -> None:
    straight = trainer_in(files[0].parent, max_epochs=1)
    straight.fit(Regression(), loader())
    spoil(files[3])
    spoil(files[2])
    trainer, module = trainer_in(files[0].parent, Knows(**{which: files[::-1]}), max_epochs=1), Regression()
    with pytest.warns(UserWarning, match="passes over") as warned:
        trainer.fit(module, loader(), ckpt_path=which)
    said = [str(one.message) for one in warned]
    assert [f'ckpt_path="{which}" passes over {path}: ' for path in (files[3], files[2])] == [
        text[: text.index(".ckpt: ") + 7] for text in said
    ]
    assert all(text.count(str(files[0].parent)) >= 2 for text in said)  # the cause names it too
    assert module.marks == ["t2", "t3", "t4"]
    assert trainer.ckpt_path == str(files[1])
    assert_same_training(straight, trainer)


@pytest.mark.parametrize("spoil", [*LOST, *INTACT], ids=lambda spoil: spoil.__name__)
def test_a_path_given_outright_is_an_error(spoil: Callable[[Path], None], files: list[Path]) -> None:
    spoil(files[3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CheckpointError, match=INTACT.get(spoil, r"step4\.ckpt")):
            trainer_in(files[0].parent, Knows(last=files)).fit(Regression(), loader(), ckpt_path=files[3])


def test_best_is_an_error_if_it_is_damaged_as_the_next_best_is_not_what_was_asked_for(files: list[Path]) -> None:
    flipped(files[3])
    with pytest.raises(DamagedCheckpointError, match=r"step4\.ckpt"):
        trainer_in(files[0].parent, Knows(best=files[::-1])).fit(Regression(), loader(), ckpt_path="best")


@pytest.mark.parametrize("spoil", [*LOST, *INTACT], ids=lambda spoil: spoil.__name__)
def test_last_is_an_error_if_no_file_can_be_used(spoil: Callable[[Path], None], files: list[Path]) -> None:
    for path in files[2:]:
        spoil(path)
    trainer = trainer_in(files[0].parent, Knows(last=[files[3], files[2]]))
    message = r'"last": none of the checkpoints .*step4\.ckpt, .*step3\.ckpt\); the warnings say why\. Choose another'
    with pytest.warns(UserWarning, match="passes over"), pytest.raises(CheckpointError, match=message):
        trainer.fit(Regression(), loader(), ckpt_path="last")


@pytest.mark.parametrize("spoil", LOST, ids=lambda spoil: spoil.__name__)
def test_auto_begins_anew_if_all_files_are_lost(
    spoil: Callable[[Path], None], files: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    for path in files:
        spoil(path)
    trainer, module = trainer_in(files[0].parent, Knows(auto=files), max_epochs=1), Regression()
    with pytest.warns(UserWarning, match="passes over") as warned, caplog.at_level(logging.INFO, "hookloop"):
        trainer.fit(module, loader(), ckpt_path="auto")
    assert len(warned) == 4
    assert module.marks == ["t0", "t1", "t2", "t3", "t4"]
    assert trainer.ckpt_path is None
    assert 'ckpt_path="auto": there is no intact checkpoint of this run yet, so training starts anew.' in caplog.text


@pytest.mark.parametrize("spoil", INTACT, ids=lambda spoil: spoil.__name__)
def test_auto_does_not_begin_anew_over_a_file_that_is_whole(spoil: Callable[[Path], None], files: list[Path]) -> None:
    spoil(files[0])
    for path in files[1:]:
        flipped(path)
    message = r'"auto": none of the checkpoints .*does not start anew, as not all of them are lost.*ckpt_path=None'
    module = Regression()
    with pytest.warns(UserWarning, match="passes over") as warned, pytest.raises(CheckpointError, match=message):
        trainer_in(files[0].parent, Knows(auto=files[::-1])).fit(module, loader(), ckpt_path="auto")
    assert re.search(INTACT[spoil], str(warned[3].message))
    assert module.marks == []


def test_auto_does_not_begin_anew_over_a_file_that_a_checkpoint_io_failed_to_read(files: list[Path]) -> None:
    class Offline(TorchCheckpointIO):
        def load_checkpoint(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
            raise ConnectionError("no route to host")

    trainer = trainer_in(files[0].parent, Knows(auto=files[0]), plugins=Offline())
    with (
        pytest.warns(UserWarning, match=r"step1\.ckpt: ConnectionError: no route to host"),
        pytest.raises(CheckpointError, match="not all of them are lost") as caught,
    ):
        trainer.fit(Regression(), loader(), ckpt_path="auto")
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.parametrize("closed", ["the files", "their folder"])
def test_auto_does_not_begin_anew_over_a_file_that_it_may_not_read(closed: str, files: list[Path]) -> None:
    for path in files if closed == "the files" else [files[0].parent]:
        path.chmod(0o000)
    trainer = trainer_in(Path.cwd(), Knows(auto=files))
    with (
        not_as_root(),
        pytest.warns(UserWarning, match="passes over") as warned,
        pytest.raises(CheckpointError, match="not all of them are lost"),
    ):
        trainer.fit(Regression(), loader(), ckpt_path="auto")
    assert all(re.search(r"step.*PermissionError.*Change the permissions", str(one.message)) for one in warned)
    with not_as_root(), pytest.raises(CheckpointError, match=r"step1.*PermissionError.*Change the permissions"):
        trainer.fit(Regression(), loader(), ckpt_path=files[0])
    files[0].parent.chmod(0o700)
