"""What a ModelCheckpoint takes, where it puts its files, and what registers it."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import Order, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop_callbacks_checkpoint import ModelCheckpoint, OnExceptionCheckpoint, factory

if TYPE_CHECKING:
    from conftest import Runs


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_top_k": -2}, r"save_top_k=-2\) must be a whole number: k keeps the k best files, -1 keeps all, and 0"),
        ({"save_top_k": True}, r"save_top_k=True\) must be"),
        ({"save_top_k": 1.5}, r"save_top_k=1.5\) must be"),
        ({"save_top_k": 3}, r"save_top_k=3\) keeps the 3 best files, and without a monitor none is better"),
        ({"save_last": "copy"}, r"save_last='copy'\): supported are True .*, \"link\" .*, False and None"),
        ({"save_last": 1}, r"save_last=1\): supported"),
        ({"on_save_error": "ignore"}, r"on_save_error='ignore'\) must be \"raise\" .* or \"warn\""),
        ({"every_n_train_steps": -1}, r"every_n_train_steps=-1\) must be a whole number of at least 1, or 0"),
        ({"every_n_train_steps": 2.0}, r"every_n_train_steps=2.0\) must be"),
        ({"train_time_interval": 60}, r"train_time_interval=60\) must be a datetime.timedelta that is not negative"),
        ({"train_time_interval": timedelta(seconds=-1)}, r"train_time_interval=.* must be a datetime.timedelta"),
        ({"every_n_epochs": 1, "every_n_train_steps": 2}, r"several triggers: every_n_train_steps=2, .*pass a second"),
        ({"every_n_epochs": 1, "train_time_interval": timedelta(0)}, "several triggers"),
        ({"every_n_train_steps": 1, "train_time_interval": timedelta(0)}, "several triggers"),
        ({"mode": "auto"}, r"mode='auto'\) must be \"min\" \(smaller scores are better\) or \"max\""),
        ({"every_n_epochs": -1}, r"every_n_epochs=-1\) must be a whole number of at least 1, or 0 for never"),
        ({"every_n_epochs": 1.5}, r"every_n_epochs=1.5\) must be"),
        ({"every_n_epochs": True}, r"every_n_epochs=True\) must be"),
        ({"filename": "{epoch"}, "filename='{epoch'"),
    ],
)
def test_an_argument_that_cannot_work_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        ModelCheckpoint(**arguments)


def test_the_arguments_of_lightning_are_all_there_in_its_order() -> None:
    parameters = list(inspect.signature(ModelCheckpoint).parameters.values())

    assert [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD] == [
        *("dirpath", "filename", "monitor", "verbose", "save_last", "save_top_k", "save_on_exception"),
        *("save_weights_only", "mode", "auto_insert_metric_name", "every_n_train_steps", "train_time_interval"),
        *("every_n_epochs", "save_on_train_epoch_end", "enable_version_counter"),
    ]
    assert [one.name for one in parameters if one.kind is one.KEYWORD_ONLY] == ["background", "on_save_error", "clock"]


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


def test_a_file_url_is_a_folder_of_this_machine(runs: Runs, tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(f"file://{tmp_path}/models", save_last="link")

    runs.fit(checkpoint, scores=[1.0])

    assert checkpoint.best_model_path == str(tmp_path / "models" / "epoch=0-step=2.ckpt")
    assert (tmp_path / "models" / "last.ckpt").readlink() == Path("epoch=0-step=2.ckpt")


@pytest.mark.parametrize("make", [ModelCheckpoint, OnExceptionCheckpoint])
@pytest.mark.parametrize(
    ("dirpath", "message"),
    [
        (5, r"dirpath=5 \(int\) must be the path of a folder"),
        (b"models", r"dirpath=b'models' \(bytes\) must be the path of a folder"),
        (
            Path("s3://bucket/models"),
            r'pathlib has taken a slash out of it\. Pass it as a string: "s3://bucket/models"',
        ),
    ],
    ids=["number", "bytes", "lost slash"],
)
def test_a_folder_that_cannot_be_meant_is_an_error(make: Any, dirpath: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        make(dirpath)


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
    heard: list[tuple[str, list[str]]] = []

    class Listening(CSVLogger):
        def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
            there = sorted(path.name for path in Path(checkpoint_callback.dirpath).iterdir())
            heard.append((type(checkpoint_callback).__name__, there))

    runs.fit(ModelCheckpoint(save_last=True), scores=[1.0], logger=Listening(tmp_path))

    assert heard == [
        ("ModelCheckpoint", ["epoch=0-step=2.ckpt"]),
        ("ModelCheckpoint", ["epoch=0-step=2.ckpt", "last.ckpt"]),
    ]


DIFFERENCES: list[dict[str, Any]] = [
    {},
    {"monitor": "b"},
    {"mode": "max"},
    {"dirpath": "one"},
    {"dirpath": "two"},
    {"filename": "{epoch}"},
    {"save_top_k": -1},
    {"save_top_k": 2},
    {"save_last": True},
    {"save_last": "link"},
    {"save_on_exception": True},
    {"save_weights_only": True},
    {"auto_insert_metric_name": False},
    {"every_n_epochs": 2},
    {"every_n_epochs": 0},
    {"every_n_train_steps": 1},
    {"every_n_train_steps": 2},
    {"train_time_interval": timedelta(minutes=1)},
    {"save_on_train_epoch_end": True},
    {"save_on_train_epoch_end": False},
    {"enable_version_counter": False},
]


def test_any_two_that_differ_have_state_keys_that_differ() -> None:
    assert len({ModelCheckpoint(**{"monitor": "a", **one}).state_key for one in DIFFERENCES}) == len(DIFFERENCES)


def test_the_state_key_does_not_depend_on_what_is_said_or_how_files_are_written() -> None:
    adorned = ModelCheckpoint(
        monitor="a", verbose=True, every_n_epochs=1, save_last=False, background=True, on_save_error="warn"
    )

    assert adorned.state_key == ModelCheckpoint(monitor="a").state_key == "ModelCheckpoint[monitor='a']"


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
