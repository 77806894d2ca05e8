"""Where `TensorBoardLogger` and `CSVLogger` put their files, when, and how they share."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger, TensorBoardLogger

from .event_files import event_files, purges, scalars
from .fitting import Regression, loader, trainer_in


def test_logged_rows_are_on_disk_after_save_and_the_file_is_closed_by_finalize(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    before = threading.active_count()
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    assert scalars(logger.log_dir) == {"a": [(0, 1.0)]}
    assert threading.active_count() == before + 1
    logger.finalize("success")
    assert threading.active_count() == before
    logger.finalize("success")


def test_nothing_is_made_before_something_is_logged(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path / "logs", name="line", version=3, sub_dir="below")
    assert (logger.name, logger.version, logger.sub_dir) == ("line", 3, "below")
    assert logger.save_dir == str(tmp_path / "logs")
    assert logger.root_dir == str(tmp_path / "logs" / "line")
    assert logger.log_dir == str(tmp_path / "logs" / "line" / "version_3" / "below")
    logger.log_metrics({}, step=1)
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_files_are_in_the_sub_dir(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, name=None, version="first", sub_dir="train")
    logger.log_hyperparams({"lr": 0.5})
    logger.finalize("success")

    assert logger.log_dir == str(tmp_path / "first" / "train")
    assert Path(logger.log_dir, "hparams.yaml").read_text() == "lr: 0.5\n"
    assert list(scalars(tmp_path / "first" / "train")) == ["hp_metric"]


def test_home_and_variables_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EXPERIMENTS", "many")
    assert TensorBoardLogger("~/$EXPERIMENTS").save_dir == str(tmp_path / "many")


def test_versions_are_numbered_after_those_on_disk_whoever_wrote_them(tmp_path: Path) -> None:
    first, second, third = TensorBoardLogger(tmp_path), CSVLogger(tmp_path), TensorBoardLogger(tmp_path)
    for logger in (first, second, third):
        logger.log_metrics({"a": 1.0}, step=0)
        logger.finalize("success")

    assert [first.version, second.version, third.version] == [0, 1, 2]


def test_a_run_that_finds_its_number_taken_moves_on(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    assert logger.version == 0
    other = Path(logger.log_dir)
    other.mkdir(parents=True)
    (other / "events.out.tfevents.1.other").write_bytes(b"")

    with pytest.warns(UserWarning, match=r"TensorBoardLogger: another run has begun to log in .*version_0"):
        logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")

    assert logger.version == 1
    assert len(event_files(other)) == 1


def test_a_given_version_is_shared_by_loggers_and_nobody_loses_settings(tmp_path: Path) -> None:
    one, two = TensorBoardLogger(tmp_path, version=0), CSVLogger(tmp_path, version=0)
    one.log_hyperparams({"lr": 0.5})
    two.log_hyperparams({"lr": 0.5})
    one.log_hyperparams({"layers": 2})
    two.log_hyperparams({"name": "x"})
    one.finalize("success")

    folder = Path(one.log_dir)
    assert (folder / "hparams.yaml").read_text() == "lr: 0.5\nname: x\n"
    assert (folder / "hparams-1.yaml").read_text() == "lr: 0.5\nlayers: 2\n"
    assert sorted(path.name.partition(".")[0] for path in folder.iterdir()) == ["events", "hparams", "hparams-1"]


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_a_folder_that_cannot_be_written_is_an_error_that_says_where_and_what_to_do(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "file").write_text("")
    logger = kind(tmp_path / "file")
    with pytest.raises(
        MisconfigurationError, match=r"cannot write in '.*file.hookloop_logs.*': Not a directory.*save_"
    ):
        trainer_in(tmp_path, logger=logger).fit(Regression(), loader())
    with pytest.raises(
        MisconfigurationError, match=rf"{kind.__name__} cannot write in .*default_root_dir.*logger=False"
    ):
        logger.log_hyperparams({"lr": 1})


def test_a_second_fit_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer = trainer_in(tmp_path, logger=logger, max_epochs=1, log_every_n_steps=5)
    module = Regression()
    trainer.fit(module, loader())
    trainer.max_epochs = 2
    trainer.fit(module, loader())

    read = scalars(logger.log_dir)
    assert sorted(step for step, _ in read["loss_step"]) == [4, 9]
    assert sorted(step for step, _ in read["loss_epoch"]) == [4, 9]
    assert len(event_files(logger.log_dir)) == 2
    assert [path.name for path in (tmp_path / "hookloop_logs").iterdir()] == ["version_0"]


def test_purging_hides_what_a_crashed_run_wrote_and_not_what_this_one_did(tmp_path: Path) -> None:
    # In a process of its own: TensorBoard reads files in the order of their names, which count the process's writers.
    code = f"""
from hookloop.loggers import TensorBoardLogger
crashed = TensorBoardLogger({str(tmp_path)!r}, version=0)
crashed.log_metrics({{"a": 1.0}}, step=1)
crashed.log_metrics({{"a": 2.0}}, step=2)
crashed.finalize("failed")
resumed = TensorBoardLogger({str(tmp_path)!r}, version=0, purge_step=2)
for step in (2, 3):
    resumed.log_metrics({{"a": 10.0 * step}}, step=step)
    resumed.finalize("success")
"""
    subprocess.run([sys.executable, "-c", code], check=True)

    assert scalars(tmp_path / "hookloop_logs" / "version_0") == {"a": [(1, 1.0), (2, 20.0), (3, 30.0)]}


def test_the_file_of_settings_may_have_another_name(tmp_path: Path) -> None:
    class Named(TensorBoardLogger):
        NAME_HPARAMS_FILE = "settings.yml"

    for rate in (0.5, 0.25):
        Named(tmp_path, version=0, default_hp_metric=False).log_hyperparams({"lr": rate})

    folder = tmp_path / "hookloop_logs" / "version_0"
    assert sorted(path.name for path in folder.iterdir()) == ["settings-1.yml", "settings.yml"]
    assert (folder / "settings-1.yml").read_text() == "lr: 0.5\n"


def test_a_writer_that_takes_the_place_of_another_one_purges_nothing(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, purge_step=2)
    logger.log_metrics({"a": 1.0}, step=2)
    other = copy.deepcopy(logger)
    other.log_metrics({"a": 2.0}, step=3)
    for one in (logger, other):
        one.finalize("success")

    assert sorted(len(purges(path)) for path in event_files(logger.log_dir)) == [0, 1]


def test_a_copy_and_a_pickled_one_write_files_of_their_own(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, prefix="p")
    logger.log_metrics({"a": 1.0}, step=0)
    others = [copy.deepcopy(logger), pickle.loads(pickle.dumps(logger))]
    for other in others:
        other.log_metrics({"a": 2.0}, step=1)
        other.finalize("success")
    logger.finalize("success")

    assert [other.log_dir for other in others] == [logger.log_dir] * 2
    assert len(event_files(logger.log_dir)) == 3
