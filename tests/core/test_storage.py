"""Paths of this machine and of others: what is there, since when, and how a file gets there and back."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from hookloop import storage
from hookloop.errors import CheckpointError, MisconfigurationError

from .serving import served


@pytest.fixture
def memory() -> str:
    """A folder of fsspec's memory file system that no other test has."""
    return f"memory://{uuid4().hex}"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(b"0123456789")
    return path


# ------------------------------------------------------------------------------------------------------- paths


@pytest.mark.parametrize(
    ("path", "remote"),
    [
        ("s3://bucket/last.ckpt", True),
        ("memory://last.ckpt", True),
        ("simplecache::s3://bucket/last.ckpt", True),
        ("HTTPS://host/last.ckpt", True),
        ("last.ckpt", False),
        ("/folder/last.ckpt", False),
        ("a:b/last.ckpt", False),
        ("C://folder/last.ckpt", False),
        ("file:///folder/last.ckpt", False),
        (Path("/folder/last.ckpt"), False),
    ],
)
def test_a_path_is_remote_if_it_has_a_protocol(path: str | Path, remote: bool) -> None:
    assert storage.is_remote(path) is remote


def test_a_path_object_that_has_lost_a_slash_is_an_error_that_writes_it_right() -> None:
    with pytest.raises(MisconfigurationError, match=r'pathlib has taken a slash.*string: "s3://bucket/last\.ckpt"'):
        storage.is_remote(Path("s3://bucket/last.ckpt"))


def test_a_folder_whose_name_ends_in_a_colon_is_a_folder() -> None:
    assert storage.is_remote(Path("run:/last.ckpt")) is False


@pytest.mark.parametrize(
    ("folder", "joined"),
    [
        ("s3://bucket/runs", "s3://bucket/runs/last.ckpt"),
        ("s3://bucket/runs/", "s3://bucket/runs/last.ckpt"),
        ("/runs", "/runs/last.ckpt"),
        (Path("runs"), "runs/last.ckpt"),
        ("file:///runs", "file:///runs/last.ckpt"),
    ],
)
def test_a_name_is_joined_to_a_folder_of_any_kind(folder: str | Path, joined: str) -> None:
    assert storage.join(folder, "last.ckpt") == joined


def test_a_file_path_is_one_of_this_machine(tmp_path: Path) -> None:
    assert storage.local_path(f"file://{tmp_path}/a.ckpt") == tmp_path / "a.ckpt"
    (tmp_path / "a.ckpt").touch()
    assert storage.list_checkpoints(f"file://{tmp_path}") == [f"file://{tmp_path}/a.ckpt"]


# -------------------------------------------------------------------------------------------------- what is there


def test_a_file_and_a_folder_exist_and_what_is_not_there_does_not(memory: str, file: Path) -> None:
    storage.upload(file, f"{memory}/run/last.ckpt")
    assert storage.exists(f"{memory}/run/last.ckpt")
    assert storage.exists(f"{memory}/run")
    assert not storage.exists(f"{memory}/run/best.ckpt")
    assert storage.is_file(f"{memory}/run/last.ckpt")
    assert not storage.is_file(f"{memory}/run")

    assert storage.exists(file)
    assert storage.exists(str(file.parent))
    assert not storage.is_file(file.parent)
    assert not storage.exists(file.with_name("other"))


def test_checkpoints_are_listed_with_the_newest_first(tmp_path: Path) -> None:
    for age, name in enumerate(("old.ckpt", "older.ckpt", "oldest.ckpt")):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".0123.partial").touch()
    (tmp_path / "folder.ckpt").mkdir()
    names = ["old.ckpt", "older.ckpt", "oldest.ckpt"]
    assert storage.list_checkpoints(tmp_path) == [str(tmp_path / name) for name in names]
    assert storage.modified(tmp_path / "old.ckpt") == 1e9


def test_of_files_of_the_same_moment_the_one_with_the_greater_number_is_the_newer(tmp_path: Path) -> None:
    for name in ("step=9.ckpt", "step=10.ckpt", "step=8.ckpt"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (1e9, 1e9))
    listed = [Path(path).name for path in storage.list_checkpoints(tmp_path)]
    assert listed == ["step=10.ckpt", "step=9.ckpt", "step=8.ckpt"]


def test_remote_checkpoints_are_listed_with_the_newest_first(memory: str, file: Path) -> None:
    for name in ("b.ckpt", "a.ckpt", "c.ckpt", "notes.txt", "below/d.ckpt"):
        storage.upload(file, f"{memory}/{name}")
    listed = storage.list_checkpoints(memory)
    assert listed == [f"{memory}/{name}" for name in ("c.ckpt", "a.ckpt", "b.ckpt")]
    times = [storage.modified(path) for path in listed]
    assert times == sorted(times, reverse=True)
    assert len(set(times)) == 3


@pytest.mark.parametrize("folder", ["memory://nobody-has-made-this", "/nobody/has/made/this"])
def test_a_folder_that_is_not_there_has_no_checkpoints(folder: str) -> None:
    assert storage.list_checkpoints(folder) == []


def test_a_file_is_no_folder_to_list(tmp_path: Path, file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"source cannot be listed\. A part of the path is a file"):
        storage.list_checkpoints(file)


@pytest.mark.parametrize("path", ["memory://nothing.ckpt", "/nothing.ckpt"])
def test_the_time_of_what_is_not_there_is_an_error(path: str) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.ckpt.*(tell when|was written)"):
        storage.modified(path)


def test_what_is_removed_is_gone_and_removing_it_again_does_nothing(memory: str, file: Path) -> None:
    for name in ("last.ckpt", "sharded/0.ckpt", "sharded/1.ckpt"):
        storage.upload(file, f"{memory}/{name}")
    for _ in range(2):
        storage.remove(f"{memory}/last.ckpt")
        assert not storage.exists(f"{memory}/last.ckpt")
        storage.remove(f"{memory}/sharded")
        assert not storage.exists(f"{memory}/sharded")


# ---------------------------------------------------------------------------------------------- there and back


class Bad(MemoryFileSystem):  # type: ignore[misc]
    """A memory of its own that fails on request, and notes what is called."""

    protocol = "bad"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    upload: ClassVar[str] = "whole"
    calls: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: Any) -> str:
        return "/" + str(path).partition("://")[2].strip("/") if "://" in str(path) else "/" + str(path).strip("/")

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.calls.append(f"put {rpath.rpartition('.')[2]}")
        content = Path(lpath).read_bytes()
        self.pipe_file(rpath, content if self.upload == "whole" else content[:3])
        if self.upload == "broken":
            raise ConnectionResetError("the line is dead")

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self.calls.append("move")
        super().mv(path1, path2, **kwargs)


@pytest.fixture
def bad() -> Iterator[type[Bad]]:
    """The protocol bad://, with a file old.ckpt; and gs:// in the same memory."""
    Bad.store.clear()
    Bad.upload = "whole"
    Bad.calls.clear()
    fsspec.register_implementation("bad", Bad)
    fsspec.register_implementation("gs", Bad, clobber=True)
    Bad().pipe_file("bad://run/old.ckpt", b"before")
    yield Bad
    for protocol in ("bad", "gs"):
        _registry.pop(protocol)


def test_a_file_is_written_beside_its_target_and_moved(bad: type[Bad], file: Path) -> None:
    storage.upload(file, "bad://run/old.ckpt")
    assert bad.calls == ["put partial", "move"]
    assert {name: content.getvalue() for name, content in bad.store.items()} == {"/run/old.ckpt": b"0123456789"}


def test_in_an_object_store_a_file_is_written_at_once(bad: type[Bad], file: Path) -> None:
    # There an upload is seen when it is complete, and a move would be a copy.
    storage.upload(file, "gs://run/old.ckpt")
    assert bad.calls == ["put ckpt"]
    assert bad.store["/run/old.ckpt"].getvalue() == b"0123456789"


@pytest.mark.parametrize(
    ("upload", "message"),
    [
        ("broken", r"bad://run/old\.ckpt could not be written\. ConnectionResetError: the line is dead\."),
        ("short", r"bad://run/old\.ckpt could not be written\. OSError: of 10 bytes, 3 have arrived\."),
    ],
)
def test_an_upload_that_fails_leaves_what_was_there_and_nothing_else(
    upload: str, message: str, bad: type[Bad], file: Path
) -> None:
    bad.upload = upload
    with pytest.raises(CheckpointError, match=message):
        storage.upload(file, "bad://run/old.ckpt")
    assert {name: content.getvalue() for name, content in bad.store.items()} == {"/run/old.ckpt": b"before"}


def test_a_remote_folder_is_no_target(memory: str, file: Path) -> None:
    storage.upload(file, f"{memory}/run/last.ckpt")
    for path in (f"{memory}/run", f"{memory}/run/"):
        with pytest.raises(CheckpointError, match=r"could not be written.*a file name is needed"):
            storage.upload(file, path)
    assert storage.list_checkpoints(f"{memory}/run") == [f"{memory}/run/last.ckpt"]


# -------------------------------------------------------------------------------------------------------- HTTP


def test_a_web_server_is_asked_what_it_has(tmp_path: Path) -> None:
    for age, name in enumerate(("new.ckpt", "old.ckpt")):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (1e9 - 10 * age, 1e9 - 10 * age))
    with served(tmp_path) as address:
        assert storage.exists(f"{address}/whole/new.ckpt")
        assert not storage.exists(f"{address}/whole/other.ckpt")
        assert storage.modified(f"{address}/whole/new.ckpt") == 1e9
        assert storage.list_checkpoints(f"{address}/whole/") == [
            f"{address}/whole/new.ckpt",
            f"{address}/whole/old.ckpt",
        ]


def test_a_server_that_refuses_or_does_not_answer_has_not_said_that_there_is_no_file(tmp_path: Path) -> None:
    with served(tmp_path) as address, pytest.raises(CheckpointError, match=r"closed/a\.ckpt cannot be looked for.*403"):
        storage.exists(f"{address}/closed/a.ckpt")
    with pytest.raises(CheckpointError, match=r"whole/a\.ckpt cannot be looked for.*[Cc]onnect"):
        storage.exists(f"{address}/whole/a.ckpt")


def test_over_http_nothing_is_written(file: Path) -> None:
    with pytest.raises(CheckpointError, match=r"over HTTP, checkpoints can only be read\. Save to a local"):
        storage.upload(file, "https://host/last.ckpt")


# ---------------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("s3://bucket/last.ckpt", r'pip install "fsspec\[s3\]"\.'),
        ("simplecache::gcs://bucket/last.ckpt", r'pip install "fsspec\[gs\]"\.'),
        ("sftp://host/last.ckpt", r'pip install "fsspec\[sftp\]"\.'),
        ("oss://bucket/last.ckpt", r"pip install ossfs\."),
    ],
)
def test_a_protocol_whose_package_is_missing_is_an_error_with_the_command_that_installs_it(
    path: str, command: str
) -> None:
    with pytest.raises(CheckpointError, match=rf"last\.ckpt needs a package that is not installed.*{command}"):
        storage.exists(path)


def test_a_protocol_that_nobody_knows_is_an_error_that_says_what_can_be_done() -> None:
    message = (
        r"(?s)'gopher', which fsspec does not know\. It knows .*memory.* s3,.*register_implementation.*CheckpointIO"
    )
    with pytest.raises(CheckpointError, match=message):
        storage.exists("gopher://host/last.ckpt")


def test_fsspec_is_imported_by_the_first_remote_path(tmp_path: Path) -> None:
    program = """
import sys
from hookloop.checkpoint_file import read_checkpoint, write_checkpoint
write_checkpoint({"state_dict": {}}, sys.argv[1])
read_checkpoint(sys.argv[1])
print("fsspec" in sys.modules)
write_checkpoint({"state_dict": {}}, "memory://last.ckpt")
print("fsspec" in sys.modules)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "last.ckpt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True"], done.stderr
