"""`hookloop checkpoint verify`, and what both commands say of files that are no checkpoints."""

import json
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from .commanding import Shell, in_a_process, saved_in_the_middle, words


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


# Files that are no checkpoints


@pytest.mark.parametrize("command", ["show", "verify"])
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "was not written by torch.save, or its end is missing"),
        (b"some text\n" * 50, "was not written by torch.save, or its end is missing"),
        (pickle.dumps({"state_dict": {}}), "was not written by torch.save, or its end is missing"),
        (b"PK\x03\x04" + bytes(100), "was not written by torch.save, or its end is missing"),
    ],
    ids=["empty", "text", "pickle", "half an archive"],
)
def test_a_file_of_another_kind_is_told_so(
    command: str, content: bytes, expected: str, shell: Shell, tmp_path: Path
) -> None:
    path = tmp_path / "other.ckpt"
    path.write_bytes(content)

    said = shell("checkpoint", command, path)

    assert said.code == 1
    assert f"{path} {expected}" in words(said)


def test_an_archive_of_another_kind_is_told_so(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")

    said = shell("checkpoint", "verify", path)

    assert said.code == 1
    assert f"{path} is an archive that torch.save did not write: it has no data.pkl." in words(said)


def test_a_bomb_of_zeros_is_not_unpacked(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10_000_000))

    said = shell("checkpoint", "show", path)

    assert said.code == 1
    assert f"{path} has a compressed data.pkl, which torch.save does not write. It is not read." in said.err


def test_something_that_torch_saved_and_is_no_checkpoint_is_told_so(shell: Shell, tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.pt")

    said = shell("checkpoint", "show", tmp_path / "list.pt")

    assert said.code == 1
    assert "is no checkpoint: it holds no weights by name, and does not say who wrote it." in said.err


# verify


def test_intact_files_are_told_with_their_records_and_exit_code_0(shell: Shell, tmp_path: Path) -> None:
    path = saved_in_the_middle(tmp_path / "seven.ckpt")
    with zipfile.ZipFile(path) as archive:
        records = len(archive.namelist())

    said = shell("checkpoint", "verify", path)

    size = f"{path.stat().st_size / 1000:.1f} kB"
    assert (said.code, said.out, said.err) == (0, f"intact  {path}  ({records} records, {size})\n", "")


def test_each_damaged_file_of_several_is_named_with_what_is_wrong(shell: Shell, tmp_path: Path) -> None:
    sound = saved_in_the_middle(tmp_path / "sound.ckpt")
    for name in ("flipped", "short", "lacking"):
        shutil.copy(sound, tmp_path / f"{name}.ckpt")
    with zipfile.ZipFile(sound) as archive:
        names = archive.namelist()
        record = archive.getinfo("archive/data/0")
    content = bytearray(sound.read_bytes())
    # Behind the record's own header: 30 bytes, its name, and what aligns the numbers.
    lengths = struct.unpack_from("<HH", content, record.header_offset + 26)
    content[record.header_offset + 30 + sum(lengths)] ^= 1
    (tmp_path / "flipped.ckpt").write_bytes(content)
    (tmp_path / "short.ckpt").write_bytes(sound.read_bytes()[:-500])
    with zipfile.ZipFile(sound) as archive, zipfile.ZipFile(tmp_path / "lacking.ckpt", "w") as lacking:
        for name in names:
            if not name.endswith("/data/0"):
                lacking.writestr(name, archive.read(name))

    said = shell(
        "checkpoint", "verify", *(tmp_path / f"{name}.ckpt" for name in ("sound", "flipped", "short", "lacking"))
    )

    assert said.code == 1
    assert said.out.startswith(f"intact  {sound}  (")
    assert said.out.endswith("\n4 files: 1 intact, 3 bad\n")
    bad = said.out.split("BAD     ")[1:]
    paths = [one.splitlines()[0] for one in bad]
    bad = [" ".join(one.split()) for one in bad]
    assert paths == [str(tmp_path / f"{n}.ckpt") for n in ("flipped", "short", "lacking")]
    assert f"the checksum of its record {record.filename!r} is another one" in bad[0]
    assert "or its end is missing, where the list of its records stands" in bad[1]
    assert f"lacks its record {record.filename}: it is damaged" in bad[2]


def test_a_record_of_another_length_is_found_although_its_checksum_is_right(shell: Shell, tmp_path: Path) -> None:
    torch.save({"state_dict": {"one": torch.ones(4)}}, tmp_path / "one.ckpt")
    with zipfile.ZipFile(tmp_path / "one.ckpt") as archive, zipfile.ZipFile(tmp_path / "two.ckpt", "w") as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name)[:8] if name.endswith("/data/0") else archive.read(name))

    said = shell("checkpoint", "verify", tmp_path / "two.ckpt")

    assert said.code == 1
    assert "has 8 bytes in its record one/data/0, where 16 belong" in words(said)


def test_a_folder_stands_for_every_checkpoint_below_it(shell: Shell, tmp_path: Path) -> None:
    for name in ("b/last.ckpt", "a/one.ckpt", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        torch.save({"state_dict": {}}, tmp_path / name)

    said = shell("checkpoint", "verify", tmp_path, "--json")

    assert said.code == 0
    found = json.loads(said.out)
    assert [one["path"] for one in found] == [str(tmp_path / "a" / "one.ckpt"), str(tmp_path / "b" / "last.ckpt")]
    assert all(one["intact"] and one["problem"] is None for one in found)


def test_what_is_wrong_is_there_for_programs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "bad.ckpt").write_bytes(b"nothing")

    said = shell("checkpoint", "verify", tmp_path / "bad.ckpt", tmp_path / "gone.ckpt", "--json")

    bad, gone = json.loads(said.out)
    assert (said.code, said.err) == (1, "")
    assert (bad["intact"], bad["bytes"]) == (False, None)
    assert gone["problem"] == f"There is no checkpoint {tmp_path / 'gone.ckpt'} (in that folder: bad.ckpt)."


def test_a_path_with_a_protocol_is_read_through_fsspec(shell: Shell, tmp_path: Path) -> None:
    torch.save({"state_dict": {"one": torch.ones(4)}}, tmp_path / "one.ckpt")

    url = f"file://{tmp_path / 'one.ckpt'}"

    assert shell("checkpoint", "verify", url).out.startswith(f"intact  {url}  (")
    assert json.loads(shell("checkpoint", "show", url, "--json").out)["weights"]["values"] == 4
    said = shell("checkpoint", "show", f"file://{tmp_path / 'gone.ckpt'}")
    assert said.code == 1
    assert f"The checkpoint file://{tmp_path / 'gone.ckpt'} cannot be opened (FileNotFoundError: " in said.err


def test_the_real_command_verifies_and_shows(tmp_path: Path) -> None:
    path = saved_in_the_middle(tmp_path / "seven.ckpt")

    assert in_a_process("checkpoint", "verify", path).code == 0
    assert "  global step  7\n" in in_a_process("checkpoint", "show", path).out
