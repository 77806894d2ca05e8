"""A save that cannot be finished: the disk, the permissions, the folder, the state. Every fault is a real one."""

import collections
import os
import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop.checkpoint_file import read_checkpoint, verify_checkpoint, write_checkpoint
from hookloop.checkpoint_io import TorchCheckpointIO
from hookloop.errors import CheckpointError

from .fitting import Regression, loader, trainer_in

ELEMENTS = 40_000
"""Enough for several writes to the disk."""


def checkpoint(value: float) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((ELEMENTS,), value)}, "epoch": 3}


def value_in(path: Path) -> float:
    weight = read_checkpoint(path)["state_dict"]["weight"]
    assert bool((weight == weight[0]).all())
    return float(weight[0])


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


class Reduced:
    """Pickled as something that may be loaded; what it is given happens first, once its file is being written."""

    def __init__(self, folder: Path, meanwhile: Callable[[], object]) -> None:
        self.folder = folder
        self.meanwhile = meanwhile

    def __reduce__(self) -> tuple[type, tuple[()]]:
        # Before it is written, a state is tried out; then there is no such file.
        if list(self.folder.glob(".*.partial")):
            self.meanwhile()
        return collections.OrderedDict, ()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A checkpoint that holds ones, alone in its folder."""
    path = tmp_path / "files" / "model.ckpt"
    write_checkpoint(checkpoint(1.0), path)
    return path


# ---------------------------------------------------------------------------------------------- a disk that is full

FAULTS = '''
import errno
import subprocess
import sys
from pathlib import Path

import torch

from hookloop.checkpoint_file import verify_checkpoint, write_checkpoint
from hookloop.errors import CheckpointError


def checkpoint(value):
    return {"state_dict": {"weight": torch.full((40_000,), value)}}


def attempt(path, value=2.0):
    try:
        write_checkpoint(checkpoint(value), path)
    except CheckpointError as error:
        print(str(error).replace("\\n", " "))
    else:
        print("written")


def kept(folder):
    """The names in a folder, with the value that each file holds."""
    found = {}
    for path in sorted(folder.iterdir()):
        verify_checkpoint(path)
        found[path.name] = float(torch.load(path, weights_only=True)["state_dict"]["weight"].mean())
    print(found)


disk = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)], check=True)
write_checkpoint(checkpoint(1.0), disk / "first.ckpt")
attempt(disk / "first.ckpt")  # 160 KB each: two of them fit
attempt(disk / "second.ckpt", 3.0)
attempt(disk / "third.ckpt")
attempt(disk / "first.ckpt")
kept(disk)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
attempt(disk / "first.ckpt")
attempt(disk / "fourth.ckpt")
attempt(disk / "folder" / "fifth.ckpt")
kept(disk)
'''


def in_a_world_of_its_own(program: str, *arguments: object) -> list[str]:
    """The lines that a program prints that may mount what it likes: nobody else sees that."""
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", sys.executable, "-c", program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_full_disk_and_one_that_is_read_only_are_told_and_what_is_there_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    full, read_only = "There is no space left on the disk (OSError: [Errno 28]", "The file system is read-only (OSError"
    printed = in_a_world_of_its_own(FAULTS, disk)
    assert printed[:2] == ["written", "written"]
    for line, name in zip(printed[2:4], ("third", "first"), strict=True):
        assert line.startswith(f"The checkpoint {disk / name}.ckpt could not be written. {full}")
        assert "Free space there, or save elsewhere" in line
        assert line.endswith("What was there before is unchanged.")
    assert printed[4] == "{'first.ckpt': 2.0, 'second.ckpt': 3.0}"
    for line, name in zip(printed[5:8], ("first", "fourth", "folder/fifth"), strict=True):
        assert line.startswith(f"The checkpoint {disk / name}.ckpt could not be written. {read_only}")
        assert "Choose a folder on another one" in line
    assert printed[8] == printed[4]


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a disk that is full after `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 0.999])
def test_a_file_that_may_not_grow_is_an_error_and_the_old_file_is_unchanged(share: float, old: Path) -> None:
    before = old.read_bytes()
    message = r"model\.ckpt could not be written\. The file would be larger.*Errno 27.*ulimit -f.*before is unchanged"
    with no_file_larger_than(int(share * len(before))), pytest.raises(CheckpointError, match=message):
        write_checkpoint(checkpoint(2.0), old)
    assert old.read_bytes() == before
    assert names_in(old.parent) == ["model.ckpt"]


def test_a_first_save_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with no_file_larger_than(5000), pytest.raises(CheckpointError, match="could not be written"):
        write_checkpoint(checkpoint(2.0), tmp_path / "model.ckpt")
    assert names_in(tmp_path) == []


def test_a_run_whose_save_fails_ends_with_that_error_and_can_save_elsewhere(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path)
    trainer.fit(Regression(), loader())
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    with no_file_larger_than(1000), pytest.raises(CheckpointError, match=r"model\.ckpt could not be written\. The fi"):
        trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert names_in(tmp_path) == ["whole.ckpt"]
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    verify_checkpoint(tmp_path / "model.ckpt")


# ---------------------------------------------------------------------------------------------------- another user


@contextmanager
def without_privileges() -> Iterator[Path]:
    """An empty folder; root works there with the rights of another user."""
    folder = Path(tempfile.mkdtemp())  # the folders above tmp_path are for its owner alone
    root = os.geteuid() == 0
    if root:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


def test_a_folder_that_may_not_be_written_to_is_an_error() -> None:
    with without_privileges() as folder:
        path = folder / "model.ckpt"
        write_checkpoint(checkpoint(1.0), path)
        folder.chmod(0o500)
        message = r"could not be written\. This user has no permission.*PermissionError.*Change the permissions"
        with pytest.raises(CheckpointError, match=message):
            write_checkpoint(checkpoint(2.0), path)
        assert value_in(path) == 1.0
        assert names_in(folder) == ["model.ckpt"]


def test_a_folder_that_may_be_written_to_but_not_listed_takes_a_checkpoint() -> None:
    with without_privileges() as folder:
        path = folder / "model.ckpt"
        write_checkpoint(checkpoint(1.0), path)
        folder.chmod(0o300)
        write_checkpoint(checkpoint(2.0), path)
        assert value_in(path) == 2.0


def test_a_file_or_a_folder_that_may_not_be_read_is_an_error_that_says_so() -> None:
    with without_privileges() as folder:
        path = folder / "model.ckpt"
        write_checkpoint(checkpoint(1.0), path)
        path.chmod(0o000)
        for read in (read_checkpoint, verify_checkpoint):
            with pytest.raises(CheckpointError, match=r"model\.ckpt cannot be read\. This user has no permission"):
                read(path)
        path.chmod(0o600)
        folder.chmod(0o000)
        with pytest.raises(CheckpointError, match=r"model\.ckpt cannot be read\. This user has no permission"):
            read_checkpoint(path)


def test_a_file_that_may_not_be_removed_is_an_error_that_says_so() -> None:
    with without_privileges() as folder:
        path = folder / "model.ckpt"
        write_checkpoint(checkpoint(1.0), path)
        folder.chmod(0o500)
        with pytest.raises(CheckpointError, match=r"model\.ckpt could not be removed\. This user has no permission"):
            TorchCheckpointIO().remove_checkpoint(path)
        assert value_in(path) == 1.0


# --------------------------------------------------------------------------------------------------- in the way


def test_a_folder_that_is_removed_while_it_is_written_to_is_an_error(old: Path) -> None:
    moved = old.parent.with_name("moved")

    def move() -> None:
        old.parent.rename(moved)

    message = r"could not be written\. The folder is gone \(FileNotFoundError.*Did somebody remove"
    with pytest.raises(CheckpointError, match=message):
        write_checkpoint(checkpoint(2.0) | {"meanwhile": Reduced(old.parent, move)}, old)
    assert not old.parent.exists()
    assert value_in(moved / old.name) == 1.0


def test_a_folder_that_was_removed_between_two_saves_is_made_again(old: Path) -> None:
    old.unlink()
    old.parent.rmdir()
    write_checkpoint(checkpoint(2.0), old)
    assert value_in(old) == 2.0


def test_a_folder_is_no_target(old: Path) -> None:
    with pytest.raises(CheckpointError, match=r"could not be written\. IsADirectoryError: a file name is needed"):
        write_checkpoint(checkpoint(2.0), old.parent)
    assert names_in(old.parent.parent) == ["files"]
    assert value_in(old) == 1.0


def test_a_file_is_no_folder(old: Path) -> None:
    with pytest.raises(CheckpointError, match=r"below could not be written\. (A part of the path is|Something else)"):
        write_checkpoint(checkpoint(2.0), old / "below")
    assert value_in(old) == 1.0


def test_a_name_that_is_too_long_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"could not be written\. The name is too long.*Choose a shorter one"):
        write_checkpoint(checkpoint(1.0), tmp_path / ("n" * 300 + ".ckpt"))
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("path", ["", ".", "/", "a\0b"])
def test_a_path_that_cannot_be_a_file_s_is_an_error(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="could not be written"):
        write_checkpoint(checkpoint(1.0), path)
    assert names_in(tmp_path) == []


def test_a_pipe_or_a_device_is_not_replaced_by_a_checkpoint(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    with pytest.raises(CheckpointError, match=r"(?s)pipe could not be written.*device or a pipe"):
        write_checkpoint({"state_dict": {}}, pipe)

    assert pipe.is_fifo()


@pytest.mark.parametrize("raised", [ValueError("mine"), KeyboardInterrupt(), SystemExit(3)])
def test_whatever_a_state_raises_the_old_file_is_unchanged_and_nothing_is_left(
    raised: BaseException, old: Path
) -> None:
    def fail() -> None:
        raise raised

    with pytest.raises((CheckpointError, type(raised))):
        write_checkpoint(checkpoint(2.0) | {"fails": Reduced(old.parent, fail)}, old)
    assert value_in(old) == 1.0
    assert names_in(old.parent) == ["model.ckpt"]


def test_a_save_inside_a_save_of_the_same_file_leaves_a_whole_file(old: Path) -> None:
    # As when a signal's handler saves while the main program does.
    also = Reduced(old.parent, lambda: write_checkpoint(checkpoint(3.0), old))
    write_checkpoint(checkpoint(2.0) | {"also": also}, old)
    assert value_in(old) == 2.0
    assert names_in(old.parent) == ["model.ckpt"]


def test_a_file_that_another_process_is_writing_is_not_cleared_away(tmp_path: Path) -> None:
    other, finish = threading.Event(), threading.Event()

    def pause() -> None:
        other.set()
        assert finish.wait(60)

    state = checkpoint(2.0) | {"blocks": Reduced(tmp_path, pause)}
    thread = threading.Thread(target=write_checkpoint, args=(state, tmp_path / "other.ckpt"))
    thread.start()
    assert other.wait(60)
    write_checkpoint(checkpoint(1.0), tmp_path / "model.ckpt")
    finish.set()
    thread.join()

    assert names_in(tmp_path) == ["model.ckpt", "other.ckpt"]
    assert value_in(tmp_path / "other.ckpt") == 2.0


def test_files_of_others_are_not_cleared_away(tmp_path: Path) -> None:
    for name in (".of-another-machine.elsewhere.partial", "mine.partial", ".mine.partial"):
        (tmp_path / name).write_bytes(b"1")
    write_checkpoint(checkpoint(1.0), tmp_path / "model.ckpt")
    assert names_in(tmp_path) == [
        ".mine.partial",
        ".of-another-machine.elsewhere.partial",
        "mine.partial",
        "model.ckpt",
    ]
