"""What a ModelCheckpoint takes, where it puts its files, and what registers it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import Order, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop_callbacks_checkpoint import ModelCheckpoint, factory

if TYPE_CHECKING:
    from conftest import Runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_top_k": 3}, r"save_top_k=3\): supported are 1 \(keep the best file\), -1 \(keep all\) and 0"),
        ({"save_top_k": True}, r"save_top_k=True\): supported"),
        ({"save_last": "link"}, r"save_last='link'\): supported are True \(also write last.ckpt\), False and None"),
        ({"mode": "auto"}, r"mode='auto'\) must be \"min\" \(smaller scores are better\) or \"max\""),
        ({"every_n_epochs": 0}, r"every_n_epochs=0\) must be a whole number of at least 1; leave it out"),
        ({"every_n_epochs": 1.5}, r"every_n_epochs=1.5\) must be"),
        ({"every_n_epochs": True}, r"every_n_epochs=True\) must be"),
        ({"filename": "{epoch"}, "filename='{epoch'"),
    ],
)
def test_an_argument_that_cannot_work_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        ModelCheckpoint(**arguments)


def test_what_lightning_has_and_this_does_not_yet_is_refused() -> None:
    with pytest.raises(TypeError, match="every_n_train_steps"):
        ModelCheckpoint(every_n_train_steps=10)  # type: ignore[call-arg]


def test_it_runs_last_and_is_a_checkpoint_callback() -> None:
    assert ModelCheckpoint.order is Order.LAST
    assert ModelCheckpoint.family == "checkpoint"


def test_files_go_to_the_folder_that_was_given(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = ModelCheckpoint(dirpath="given/here")

    runs.fit(checkpoint, scores=[1.0])

    assert checkpoint.dirpath == str(tmp_path / "given" / "here")
    assert [path.name for path in Path(checkpoint.dirpath).iterdir()] == ["epoch=0-step=2.ckpt"]


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert ModelCheckpoint(dirpath="~/models").dirpath == str(tmp_path / "models")


def test_files_go_to_the_logger_s_folder_by_default(runs: Runs, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint()
    assert checkpoint.dirpath is None

    runs.fit(checkpoint, scores=[1.0], logger=CSVLogger(tmp_path, name="logs", version=7))

    assert checkpoint.dirpath == str(tmp_path / "logs" / "version_7" / "checkpoints")
    assert Path(checkpoint.best_model_path).parent == tmp_path / "logs" / "version_7" / "checkpoints"


def test_files_go_to_the_root_folder_without_a_logger(runs: Runs) -> None:
    checkpoint = ModelCheckpoint()

    runs.fit(checkpoint, scores=[1.0])

    assert checkpoint.dirpath == str(runs.folder / "checkpoints")


def test_the_folder_is_chosen_anew_for_each_fit(runs: Runs, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint()
    for version in (0, 1):
        runs.fit(checkpoint, scores=[1.0], logger=CSVLogger(tmp_path, name="logs", version=version))

        assert checkpoint.dirpath == str(tmp_path / "logs" / f"version_{version}" / "checkpoints")
    assert [path.name for path in (tmp_path / "logs" / "version_0" / "checkpoints").iterdir()] == [
        "epoch=0-step=2.ckpt"
    ]


def test_loggers_hear_of_every_file(runs: Runs, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    class Listening(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            newest = max(Path(checkpoint_callback.dirpath).iterdir(), key=lambda path: path.stat().st_mtime_ns)
            heard.append((type(checkpoint_callback).__name__, newest.name))

    runs.fit(ModelCheckpoint(save_last=True), scores=[1.0], logger=Listening(tmp_path))

    assert heard == [("ModelCheckpoint", "epoch=0-step=2.ckpt"), ("ModelCheckpoint", "last.ckpt")]


def test_instances_that_differ_have_state_keys_that_differ() -> None:
    instances = [
        ModelCheckpoint(),
        ModelCheckpoint(monitor="a"),
        ModelCheckpoint(monitor="b"),
        ModelCheckpoint(monitor="a", mode="max"),
        ModelCheckpoint(monitor="a", dirpath="one"),
        ModelCheckpoint(monitor="a", dirpath="two"),
        ModelCheckpoint(monitor="a", filename="{epoch}"),
        ModelCheckpoint(monitor="a", save_top_k=-1),
        ModelCheckpoint(monitor="a", every_n_epochs=2),
    ]

    assert len({instance.state_key for instance in instances}) == len(instances)


def test_the_state_key_does_not_depend_on_what_only_changes_how_files_are_written() -> None:
    plain = ModelCheckpoint(monitor="a")
    adorned = ModelCheckpoint(
        monitor="a",
        verbose=True,
        save_last=True,
        save_weights_only=True,
        save_on_train_epoch_end=True,
        every_n_epochs=1,
    )

    assert plain.state_key == adorned.state_key == "ModelCheckpoint[monitor='a']"


def test_the_factory_makes_one_that_keeps_the_last_file_too() -> None:
    [checkpoint] = factory(TrainerOptions())

    assert isinstance(checkpoint, ModelCheckpoint)
    assert checkpoint.save_last
    assert (checkpoint.monitor, checkpoint.save_top_k, checkpoint.dirpath) == (None, 1, None)


def test_the_factory_makes_none_where_none_is_wanted() -> None:
    assert factory(TrainerOptions(enable_checkpointing=False)) == []
    assert factory(TrainerOptions(fast_dev_run=True)) == []
    assert factory(TrainerOptions(fast_dev_run=3)) == []


def test_the_factory_makes_one_that_was_asked_for_in_a_fast_dev_run() -> None:
    [checkpoint] = factory(TrainerOptions(fast_dev_run=True, enable_checkpointing=True))

    assert isinstance(checkpoint, ModelCheckpoint)
