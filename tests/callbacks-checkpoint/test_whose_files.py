"""One run after another in a folder, a folder that is moved: each run deletes and replaces only its own files."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import LambdaCallback
from hookloop.loggers import CSVLogger
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from conftest import Runs


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.ckpt")}


def best_two(folder: Path | None = None, **more: Any) -> ModelCheckpoint:
    return ModelCheckpoint(folder, monitor="score", save_top_k=2, save_last=True, **more)


def test_a_requeued_job_leaves_one_last_file_after_any_number_of_restarts(runs: Runs) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.fit(best_two(runs.checkpoints), scores=[9.0])
        for epochs in range(2, 6):
            runs.fit(
                best_two(runs.checkpoints),
                scores=[9.0 - one for one in range(epochs)],
                before=epochs - 1,
                ckpt_path="last",
            )

    assert runs.files == ["epoch=3-step=8.ckpt", "epoch=4-step=10.ckpt", "last.ckpt"]
    assert runs.steps_in(runs.checkpoints / "last.ckpt") == 10


def test_another_run_in_the_folder_says_so_and_replaces_nothing(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[2.0, 1.0])
    before = contents(runs.checkpoints)
    other = best_two(runs.checkpoints)

    with pytest.warns(
        UserWarning, match=r"last\.ckpt is there already and was written by another run: it is left alone"
    ) as said:
        runs.fit(other, scores=[3.0, 4.0, 0.5])

    assert len([one for one in said if "another run" in str(one.message)]) == 1
    after = contents(runs.checkpoints)
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == ["epoch=0-step=2-v1.ckpt", "epoch=2-step=6.ckpt", "last-v1.ckpt"]
    assert other.last_model_path == str(runs.checkpoints / "last-v1.ckpt")


def test_each_of_two_runs_in_a_folder_goes_on_with_its_own_last_file(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(runs.checkpoints, save_top_k=0, save_last=True), scores=[1.0])
    with pytest.warns(UserWarning, match="another run"):
        runs.fit(ModelCheckpoint(runs.checkpoints, save_top_k=0, save_last=True), scores=[1.0])

    for name in ("last.ckpt", "last-v1.ckpt"):
        resumed = ModelCheckpoint(runs.checkpoints, save_top_k=0, save_last=True)
        runs.fit(resumed, scores=[1.0, 1.0], before=1, ckpt_path=runs.checkpoints / name)
        assert resumed.last_model_path == str(runs.checkpoints / name)

    assert runs.files == ["last-v1.ckpt", "last.ckpt"]


def test_without_the_counter_the_other_run_s_files_are_replaced(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[1.0])

    runs.fit(best_two(runs.checkpoints, enable_version_counter=False), scores=[2.0])

    assert runs.files == ["epoch=0-step=2.ckpt", "last.ckpt"]


def test_what_a_killed_process_left_behind_is_replaced_and_not_kept_beside(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[9.0])
    older = runs.folder / "older.ckpt"
    shutil.copy(runs.checkpoints / "last.ckpt", older)
    runs.fit(best_two(runs.checkpoints), scores=[9.0, 8.0], before=1, ckpt_path="last")
    older.replace(runs.checkpoints / "last.ckpt")  # as if the process had been killed before it came to this file

    runs.fit(best_two(runs.checkpoints), scores=[9.0, 7.0, 6.0], before=1, ckpt_path="last")

    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]


def test_what_a_killed_process_did_not_come_to_delete_is_deleted(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[9.0, 8.0])
    first = (runs.checkpoints / "epoch=0-step=2.ckpt").read_bytes()
    runs.fit(best_two(runs.checkpoints), scores=[9.0, 8.0, 7.0], before=2, ckpt_path="last")
    (runs.checkpoints / "epoch=0-step=2.ckpt").write_bytes(first)  # as if it had been killed before the deletion

    runs.fit(best_two(runs.checkpoints), scores=[9.0, 8.0, 7.0, 9.5], before=3, ckpt_path="last")

    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]


def test_a_file_of_another_run_under_a_name_that_was_to_be_deleted_stays(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[9.0, 8.0, 7.0])
    foreign = runs.folder / "foreign"
    runs.fit(best_two(foreign), scores=[1.0])
    shutil.copy(foreign / "epoch=0-step=2.ckpt", runs.checkpoints / "epoch=0-step=2.ckpt")

    runs.fit(
        best_two(runs.checkpoints), scores=[9.0, 8.0, 7.0, 6.0], before=3, ckpt_path=runs.checkpoints / "last.ckpt"
    )

    assert (runs.checkpoints / "epoch=0-step=2.ckpt").read_bytes() == (foreign / "epoch=0-step=2.ckpt").read_bytes()


def test_a_folder_that_was_moved_still_knows_its_best_files(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[3.0, 1.0, 2.0])
    moved = runs.folder / "elsewhere" / "moved"
    moved.parent.mkdir()
    runs.checkpoints.rename(moved)
    resumed = best_two(moved)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.fit(resumed, scores=[3.0, 1.0, 2.0, 1.5], before=3, ckpt_path="last")

    assert sorted(contents(moved)) == ["epoch=1-step=4.ckpt", "epoch=3-step=8.ckpt", "last.ckpt"]
    assert {Path(path).name: float(score) for path, score in resumed.best_k_models.items()} == {
        "epoch=1-step=4.ckpt": 1.0,
        "epoch=3-step=8.ckpt": 1.5,
    }
    assert resumed.best_model_path == str(moved / "epoch=1-step=4.ckpt")
    assert not runs.checkpoints.exists()


def test_a_copy_of_a_folder_is_gone_on_with_in_the_copy(runs: Runs) -> None:
    runs.fit(best_two(runs.checkpoints), scores=[3.0, 1.0])
    before, copy = contents(runs.checkpoints), runs.folder / "copy"
    shutil.copytree(runs.checkpoints, copy)

    runs.fit(best_two(copy), scores=[3.0, 1.0, 0.5], before=2, ckpt_path="last")

    assert contents(runs.checkpoints) == before
    assert sorted(contents(copy)) == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]


def test_with_a_new_folder_for_each_start_the_best_of_before_is_still_the_best(runs: Runs, tmp_path: Path) -> None:
    def logger() -> CSVLogger:
        return CSVLogger(tmp_path, name="logs")

    runs.fit(best_two(), scores=[1.0, 2.0], logger=logger())
    first = tmp_path / "logs" / "version_0" / "checkpoints"
    before = contents(first)
    resumed = best_two()

    runs.fit(resumed, scores=[1.0, 2.0, 3.0, 0.5], before=2, ckpt_path=first / "last.ckpt", logger=logger())

    assert contents(first) == before
    second = tmp_path / "logs" / "version_1" / "checkpoints"
    assert sorted(contents(second)) == ["epoch=3-step=8.ckpt", "last.ckpt"]
    assert sorted(resumed.best_k_models) == [str(first / "epoch=0-step=2.ckpt"), str(second / "epoch=3-step=8.ckpt")]


def test_auto_finds_the_newest_file_of_all_versions_of_the_logger(runs: Runs, tmp_path: Path) -> None:
    def logger() -> CSVLogger:
        return CSVLogger(tmp_path, name="logs")

    assert ModelCheckpoint().resolve_checkpoint("auto") is None
    trainer = runs.fit(ModelCheckpoint(save_last=True), scores=[1.0], logger=logger())
    assert ModelCheckpoint().resolve_checkpoint("auto", trainer) == [
        str(tmp_path / "logs" / "version_0" / "checkpoints" / name) for name in ("last.ckpt", "epoch=0-step=2.ckpt")
    ]
    trainer = runs.fit(ModelCheckpoint(), scores=[1.0], logger=logger())
    assert ModelCheckpoint().resolve_checkpoint("auto", trainer) == [
        str(tmp_path / "logs" / name)
        for name in (
            "version_1/checkpoints/epoch=0-step=2.ckpt",
            "version_0/checkpoints/last.ckpt",
            "version_0/checkpoints/epoch=0-step=2.ckpt",
        )
    ]


def test_auto_of_a_folder_is_empty_before_the_first_file(tmp_path: Path) -> None:
    assert ModelCheckpoint(tmp_path / "none").resolve_checkpoint("auto") == []
    assert ModelCheckpoint(tmp_path / "none").resolve_checkpoint("last") is None


def test_a_job_that_is_started_again_goes_on_with_the_newest_version_of_its_logger(runs: Runs, tmp_path: Path) -> None:
    for epochs in (1, 2, 3):
        trainer = runs.fit(
            ModelCheckpoint(save_last=True),
            scores=[1.0] * epochs,
            before=epochs - 1,
            ckpt_path="last" if epochs > 1 else None,
            logger=CSVLogger(tmp_path, name="logs"),
        )
        assert trainer.global_step == 2 * epochs

    assert trainer.ckpt_path == str(tmp_path / "logs" / "version_1" / "checkpoints" / "last.ckpt")


def test_an_interrupted_save_is_named_nowhere(runs: Runs) -> None:
    checkpoint = best_two(runs.checkpoints)

    def press(trainer: Any, module: Any, state: dict[str, Any]) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.fit(checkpoint, LambdaCallback(on_save_checkpoint=press), scores=[2.0, 1.0])

    named = [checkpoint.best_model_path, checkpoint.last_model_path, *checkpoint.best_k_models]
    assert {Path(path).name for path in named} == {"epoch=0-step=2.ckpt", "last.ckpt"}
    for path in named:
        assert torch.load(path, weights_only=True)["global_step"] == 2


def test_a_link_leads_to_the_newest_file_and_is_a_file_of_its_own_where_that_is_not_kept(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last="link")
    seen: list[tuple[bool, float]] = []

    def look(trainer: Any, module: Any) -> None:
        last = runs.checkpoints / "last.ckpt"
        if trainer.current_epoch:
            seen.append((last.is_symlink(), runs.steps_in(last)))

    runs.fit(checkpoint, LambdaCallback(on_train_epoch_start=look), scores=[2.0, 1.0, 3.0, 0.5])

    assert seen == [(True, 2.0), (True, 4.0), (False, 6.0)]
    assert (runs.checkpoints / "last.ckpt").readlink() == Path("epoch=3-step=8.ckpt")
    assert runs.files == ["epoch=3-step=8.ckpt", "last.ckpt"]


def test_two_names_for_the_same_bytes_outlive_each_other(runs: Runs) -> None:
    checkpoint = ModelCheckpoint(monitor="score", save_last=True)
    runs.fit(checkpoint, scores=[2.0])
    best, last = Path(checkpoint.best_model_path), Path(checkpoint.last_model_path)
    assert best.samefile(last)

    runs.fit(checkpoint, scores=[3.0])

    assert not best.samefile(last)
    assert (runs.steps_in(best), runs.steps_in(last)) == (2.0, 2.0)


def test_files_go_into_folders_that_the_name_asks_for_and_are_found_again(runs: Runs) -> None:
    arguments: dict[str, Any] = {"dirpath": runs.checkpoints, "filename": "e{epoch}/at-{step}", "monitor": "score"}
    runs.fit(ModelCheckpoint(**arguments, save_last=True, auto_insert_metric_name=False), scores=[2.0, 1.0])
    resumed = ModelCheckpoint(**arguments, save_last=True, auto_insert_metric_name=False)

    runs.fit(resumed, scores=[2.0, 1.0, 0.5], before=2, ckpt_path=runs.checkpoints / "e1" / "at-4.ckpt")

    assert sorted(contents(runs.checkpoints)) == ["e1/at-4.ckpt", "e2/at-6.ckpt", "last.ckpt"]


@pytest.mark.parametrize(
    "settings", [{"monitor": "score"}, {"filename": "{epoch}"}, {"dirpath": "x"}, {"save_top_k": -1}]
)
def test_two_that_differ_in_one_argument_work_together_and_are_both_resumed(
    runs: Runs, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs.fit(ModelCheckpoint(save_last=True), ModelCheckpoint(save_last=True, **settings), scores=[2.0, 1.0])
    one, two = ModelCheckpoint(save_last=True), ModelCheckpoint(save_last=True, **settings)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.fit(one, two, scores=[2.0, 1.0, 3.0], before=2, ckpt_path=runs.checkpoints / "last.ckpt")

    assert runs.steps_in(one.best_model_path) == 6
    assert runs.steps_in(one.last_model_path) == runs.steps_in(two.last_model_path) == 6
    assert runs.steps_in(two.best_model_path) == (4 if "monitor" in settings else 6)
    assert one.last_model_path != two.last_model_path


def test_a_link_whose_file_was_deleted_is_written_anew(runs: Runs) -> None:
    first = ModelCheckpoint(runs.checkpoints, monitor="score", save_top_k=2, save_last="link")
    runs.fit(first, scores=[2.0, 1.0])
    (runs.checkpoints / "epoch=1-step=4.ckpt").unlink()
    resumed = ModelCheckpoint(runs.checkpoints, monitor="score", save_top_k=2, save_last="link")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs.fit(resumed, scores=[2.0, 1.5, 0.5], before=1, ckpt_path="last")

    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=2-step=6.ckpt", "last.ckpt"]
    assert runs.steps_in(runs.checkpoints / "last.ckpt") == 6


def test_a_link_to_somewhere_else_stays_though_nothing_is_there(runs: Runs) -> None:
    runs.checkpoints.mkdir()
    (runs.checkpoints / "last.ckpt").symlink_to(runs.folder / "not mounted" / "last.ckpt")

    with pytest.warns(UserWarning, match=r"last\.ckpt is there already"):
        runs.fit(ModelCheckpoint(runs.checkpoints, save_top_k=0, save_last=True), scores=[1.0])

    assert runs.files == ["last-v1.ckpt", "last.ckpt"]


def test_what_auto_found_is_deleted_when_it_is_not_needed_any_more_and_what_a_user_named_is_not(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(runs.checkpoints), scores=[1.0])
    runs.fit(ModelCheckpoint(runs.checkpoints), scores=[1.0] * 2, before=1, ckpt_path="auto")
    assert runs.files == ["epoch=1-step=4.ckpt"]

    named = runs.checkpoints / "epoch=1-step=4.ckpt"
    runs.fit(ModelCheckpoint(runs.checkpoints), scores=[1.0] * 4, before=2, ckpt_path=named)
    assert runs.files == ["epoch=1-step=4.ckpt", "epoch=3-step=8.ckpt"]


def test_a_run_that_goes_back_to_an_older_file_keeps_the_last_one_until_it_saves(runs: Runs) -> None:
    runs.fit(ModelCheckpoint(runs.checkpoints, save_top_k=-1, save_last=True), scores=[1.0] * 3)
    seen = []

    def look(trainer: Any, module: Any) -> None:
        seen.append(runs.steps_in(runs.checkpoints / "last.ckpt"))

    runs.fit(
        ModelCheckpoint(runs.checkpoints, save_top_k=-1, save_last=True),
        LambdaCallback(on_train_epoch_start=look),
        scores=[1.0] * 2,
        before=1,
        ckpt_path=runs.checkpoints / "epoch=0-step=2.ckpt",
    )

    assert seen == [6.0]
    assert runs.steps_in(runs.checkpoints / "last.ckpt") == 4
