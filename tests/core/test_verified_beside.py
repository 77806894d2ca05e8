"""A second thread checks the elements of tensors while they are loaded; nothing comes of a file before it is done."""

import os
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop.checkpoint_file import reading
from hookloop.checkpoint_file.reading import read_checkpoint, verify_checkpoint
from hookloop.checkpoint_file.writing import write_checkpoint
from hookloop.errors import DamagedCheckpointError

WEIGHT = torch.arange(1000, dtype=torch.float32)


def written(path: Path) -> Path:
    write_checkpoint({"state_dict": {"weight": WEIGHT}, "epoch": 3}, path)
    return path


def flip(path: Path, ending: str) -> None:
    """Flip a bit in the middle of the record whose name ends so."""
    with zipfile.ZipFile(path) as archive:
        record = next(one for one in archive.infolist() if one.filename.endswith(ending))
    contents = bytearray(path.read_bytes())
    names = int.from_bytes(contents[record.header_offset + 26 : record.header_offset + 28], "little")
    extra = int.from_bytes(contents[record.header_offset + 28 : record.header_offset + 30], "little")
    contents[record.header_offset + 30 + names + extra + record.file_size // 2] ^= 1
    path.write_bytes(contents)


@pytest.fixture
def checked_by(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Which thread checks which record."""
    seen: dict[str, str] = {}
    differs = reading._differs

    def noting(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
        seen[record.filename.partition("/")[2]] = threading.current_thread().name
        return differs(archive, record)

    monkeypatch.setattr(reading, "_differs", noting)
    return seen


def test_elements_are_checked_by_a_second_thread_and_all_else_before_it_is_read(
    tmp_path: Path, checked_by: dict[str, str]
) -> None:
    checkpoint = read_checkpoint(written(tmp_path / "a.ckpt"))

    assert torch.equal(checkpoint["state_dict"]["weight"], WEIGHT)
    with zipfile.ZipFile(tmp_path / "a.ckpt") as archive:
        names = {name.partition("/")[2] for name in archive.namelist()}
    assert checked_by == dict.fromkeys(names, "MainThread") | {"data/0": "hookloop checkpoint verifier"}
    assert "hookloop checkpoint verifier" not in {thread.name for thread in threading.enumerate()}


def test_with_weights_only_false_all_of_it_is_checked_before_its_code_runs(tmp_path: Path) -> None:
    class Mark:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "code ran"),)

    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"weight": WEIGHT}, "mark": Mark()}, path)
    flip(path, "data/0")

    with pytest.raises(DamagedCheckpointError, match="checksum of its record 'a/data/0'"):
        read_checkpoint(path, weights_only=False)

    assert not (tmp_path / "code ran").exists()


@pytest.mark.parametrize("ending", ["data/0", "data.pkl", "byteorder", "version"])
def test_one_flipped_bit_is_told_wherever_it_is(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path / "a.ckpt")
    flip(path, ending)

    with pytest.raises(DamagedCheckpointError, match=f"checksum of its record '.*{ending}'"):
        read_checkpoint(path)


def test_what_damage_leads_to_is_told_as_damage(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt")
    flip(path, "data/0")

    def trips(storage: Any, location: str) -> Any:
        raise RuntimeError("elements that make no sense")

    with pytest.raises(DamagedCheckpointError, match=r"checksum of its record '.*data/0'"):
        read_checkpoint(path, map_location=trips)


def test_where_no_thread_can_be_started_all_of_it_is_checked_first(
    tmp_path: Path, checked_by: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    path = written(tmp_path / "a.ckpt")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        checkpoint = read_checkpoint(path)
    flip(path, "data/0")

    assert torch.equal(checkpoint["state_dict"]["weight"], WEIGHT)
    assert checked_by["data/0"] == "MainThread"
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(DamagedCheckpointError):
        read_checkpoint(path)


def test_a_file_that_takes_the_name_meanwhile_is_not_the_one_that_is_checked(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt")
    contents = path.read_bytes()

    with path.open("rb") as file:
        file.read(10)
        second = reading._SecondReader(file)
        (tmp_path / "other").write_bytes(b"something else")
        (tmp_path / "other").replace(path)

        assert second.read() == contents
        assert file.tell() == 10


def test_a_table_of_contents_with_another_length_is_damage_though_every_checksum_is_right(tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt")
    contents = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        contents[archive.start_dir + 20] ^= 1  # the compressed size of the first record
    path.write_bytes(contents)

    with pytest.raises(DamagedCheckpointError, match=r"checksum of its record 'a?.*data\.pkl'"):
        verify_checkpoint(path)
