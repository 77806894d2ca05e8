"""The bytes of a checkpoint: a file of its name is always whole, whatever happens to the process or the disk."""

import collections
import os
import pickle
import stat
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookloop.checkpoint_file import read_checkpoint, verify_checkpoint, write_checkpoint
from hookloop.errors import CheckpointError, HookloopError

from .fitting import equal

ELEMENTS = 40_000
"""Enough for several writes to the disk."""


def checkpoint(value: float) -> dict[str, Any]:
    return {"state_dict": {"weight": torch.full((ELEMENTS,), value)}, "epoch": 3}


def value_in(path: Path) -> float:
    weight = read_checkpoint(path)["state_dict"]["weight"]
    assert weight.shape == (ELEMENTS,)
    assert bool((weight == weight[0]).all())
    return float(weight[0])


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A checkpoint that holds ones, alone in its folder."""
    path = tmp_path / "files" / "model.ckpt"
    write_checkpoint(checkpoint(1.0), path)
    return path


# ------------------------------------------------------------------------------------------------------ a save


def test_what_is_written_is_read_back_with_its_types_and_bits(tmp_path: Path) -> None:
    dtypes = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    content: dict[str, Any] = {
        "state_dict": collections.OrderedDict(
            (str(dtype), torch.tensor([0.0, 1.0, 3.0]).to(dtype)) for dtype in dtypes
        ),
        "callbacks": {"Counter[epochs]": {"count": 2**70, "rate": 0.1, "seen": [1, (2, "three")], "best": None}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"betas": (0.9, 0.999)}]}],
        "flags": {"true": True, "nan": torch.tensor([float("nan"), -0.0]), "inf": float("-inf"), "bytes": b"\x00\xff"},
    }
    write_checkpoint(content, tmp_path / "model.ckpt")
    found = read_checkpoint(tmp_path / "model.ckpt")
    bits = [each["flags"].pop("nan").view(torch.int32) for each in (content, found)]
    assert torch.equal(*bits)
    assert equal(found, content)


def test_torch_alone_can_read_it(tmp_path: Path) -> None:
    write_checkpoint(checkpoint(2.0), tmp_path / "model.ckpt")
    assert equal(torch.load(tmp_path / "model.ckpt", weights_only=True), checkpoint(2.0))


@pytest.mark.parametrize("kind", [str, Path])
def test_the_folder_is_made(kind: type[str] | type[Path], tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "model.ckpt"
    write_checkpoint(checkpoint(1.0), kind(path))
    assert value_in(path) == 1.0
    assert names_in(path.parent) == ["model.ckpt"]


def test_a_relative_path_is_one_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_checkpoint(checkpoint(1.0), "model.ckpt")
    assert names_in(tmp_path) == ["model.ckpt"]
    assert read_checkpoint("model.ckpt")["epoch"] == 3


def test_a_save_replaces_the_file_and_leaves_nothing_beside_it(old: Path) -> None:
    write_checkpoint(checkpoint(2.0), old)
    assert value_in(old) == 2.0
    assert names_in(old.parent) == ["model.ckpt"]


def test_whoever_has_the_old_file_open_still_reads_all_of_it(old: Path) -> None:
    before = old.read_bytes()
    with old.open("rb") as file:
        start = file.read(1000)
        write_checkpoint(checkpoint(2.0), old)
        assert start + file.read() == before


def test_others_may_read_the_file_as_the_umask_has_it(tmp_path: Path) -> None:
    umask = os.umask(0o027)
    try:
        write_checkpoint(checkpoint(1.0), tmp_path / "model.ckpt")
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "model.ckpt").stat().st_mode) == 0o640


def test_a_link_is_replaced_and_what_it_points_to_is_not_touched(old: Path) -> None:
    link = old.with_name("last.ckpt")
    link.symlink_to(old.name)
    write_checkpoint(checkpoint(2.0), link)
    assert value_in(old) == 1.0
    assert value_in(link) == 2.0
    assert not link.is_symlink()


@pytest.mark.parametrize("length", [200, 255])
def test_every_name_that_the_file_system_takes_will_do(length: int, tmp_path: Path) -> None:
    # A callback that puts metrics into the name easily makes a long one.
    path = tmp_path / ("n" * (length - 5) + ".ckpt")
    path.touch()
    write_checkpoint(checkpoint(1.0), path)
    assert value_in(path) == 1.0
    assert names_in(tmp_path) == [path.name]


# ------------------------------------------------------------------------------------------------ what is not there


def test_a_missing_file_is_an_error_that_names_those_that_are_there(old: Path) -> None:
    for name in ("other.ckpt", "notes.txt"):
        old.with_name(name).write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint .*typo\.ckpt \(in that folder: model\.ckpt, other\.ckpt\)"
    ):
        read_checkpoint(old.with_name("typo.ckpt"))


@pytest.mark.parametrize("path", ["typo.ckpt", "no/such/folder/typo.ckpt"])
def test_a_missing_file_is_an_error_where_there_is_nothing_else(path: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*typo\.ckpt \(there is no checkpoint in that folder\)"):
        read_checkpoint(tmp_path / path)


def test_a_folder_is_no_checkpoint(old: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no checkpoint .*files"):
        read_checkpoint(old.parent)


def test_the_error_is_one_of_hookloop_and_a_runtime_error(tmp_path: Path) -> None:
    for kind in (HookloopError, RuntimeError):
        with pytest.raises(kind, match="no checkpoint"):
            read_checkpoint(tmp_path / "typo.ckpt")


# ------------------------------------------------------------------------------------------------ what is damaged


def archive_with(path: Path, member: str, change: Callable[[bytes], bytes]) -> bytes:
    """The checkpoint with one of its members changed; the archive around it is sound."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    [name] = [name for name in members if name.endswith(member)]
    members[name] = change(members[name])
    changed = path.with_name("changed.zip")
    with zipfile.ZipFile(changed, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return changed.read_bytes()


DAMAGED: dict[str, Callable[[Path], bytes]] = {
    "nothing": lambda path: b"",
    "zeros": lambda path: bytes(10_000),
    "text": lambda path: b"not a checkpoint at all\n",
    "a page of the network's login": lambda path: b"<!DOCTYPE html><html></html>",
    "another archive": lambda path: b"PK\x05\x06" + bytes(18),
    "a pickle": lambda path: pickle.dumps(3),
    "no pickle": lambda path: archive_with(path, "data.pkl", lambda pickled: b""),
    "an empty pickle": lambda path: archive_with(path, "data.pkl", lambda pickled: b"\x80\x02."),
    "a pickle that ends early": lambda path: archive_with(path, "data.pkl", lambda pickled: pickled[:-20]),
    "a pickle of another tensor": lambda path: archive_with(
        path, "data.pkl", lambda pickled: pickled.replace(b"storage", b"garbage")
    ),
    "no tensor's bytes": lambda path: archive_with(path, "data/0", lambda stored: b""),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_an_error_that_names_it(kind: str, weights_only: bool, old: Path) -> None:
    old.write_bytes(DAMAGED[kind](old))
    with pytest.raises(CheckpointError, match=r"(?s)model\.ckpt cannot be (read|loaded).*damaged"):
        read_checkpoint(old, weights_only)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_file_that_ends_early_is_an_error_wherever_it_ends(new_format: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    content = {"state_dict": {"weight": torch.ones(3, 2), "bias": torch.ones(2)}, "callbacks": {"a": {"n": 1}}}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    whole = path.read_bytes()
    for end in range(0, len(whole), 11):
        path.write_bytes(whole[:end])
        with pytest.raises(CheckpointError, match="damaged"):
            read_checkpoint(path)


SMALL = {"state_dict": {"w": torch.ones(2)}, "callbacks": {"a": {"n": [1, 2.0, "x"]}}}
"""Most of a small file is structure, and not numbers."""


@settings(max_examples=300, deadline=None, derandomize=True, report_multiple_bugs=False)
@given(st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_file_with_wrong_bytes_is_refused_unless_it_says_the_same(changes: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.ckpt"
        write_checkpoint(SMALL, path)
        content = bytearray(path.read_bytes())
        for where, byte in changes:
            content[int(where * len(content))] = byte
        path.write_bytes(content)
        try:
            loaded = read_checkpoint(path)
        except CheckpointError as error:
            assert "model.ckpt" in str(error)  # noqa: PT017 - either outcome is right
        else:
            assert equal(loaded, SMALL)


def test_every_flipped_bit_that_changes_what_is_loaded_is_found(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(SMALL, path)
    whole = path.read_bytes()
    silently_other, refused = [], 0
    for at in range(len(whole)):
        flipped = bytearray(whole)
        flipped[at] ^= 1 << at % 8
        path.write_bytes(flipped)
        try:
            if not equal(read_checkpoint(path), SMALL):
                silently_other.append(at)
        except CheckpointError:
            refused += 1
    assert silently_other == []
    # Padding is the rest.
    assert refused > 500


def test_torch_alone_reads_a_flipped_bit_as_another_number(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(checkpoint(1.0), path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)

    assert not equal(torch.load(path, weights_only=True), checkpoint(1.0))
    with pytest.raises(
        CheckpointError, match=r"model\.ckpt cannot be read \(the checksum of its record .*data/0.*damaged"
    ):
        verify_checkpoint(path)


def test_files_of_torch_s_older_format_have_no_checksums_and_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save(SMALL, path, _use_new_zipfile_serialization=False)
    verify_checkpoint(path)
    assert equal(read_checkpoint(path), SMALL)


# ------------------------------------------------------------------------------------------------ what is no checkpoint


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (torch.nn.Linear(2, 1).state_dict(), "OrderedDict"),
        ([1, 2], "list"),
        (torch.ones(2), "Tensor"),
        ({"model": {}, "epoch": 3}, "dict"),
        (None, "NoneType"),
    ],
)
def test_a_file_without_a_state_dict_is_no_checkpoint(content: Any, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf'(?s)weights\.pt is no checkpoint.*"state_dict".*a {kind}.*load_state'):
        read_checkpoint(path)


def test_a_file_of_a_later_format_is_refused_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(checkpoint(1.0) | {"format": 1_000_000, "hookloop_version": "987.6"}, path)
    with pytest.raises(CheckpointError, match=r"(?s)model\.ckpt.*987\.6"):
        read_checkpoint(path)


@pytest.mark.parametrize("number", ["two", None, [1]])
def test_a_format_that_is_no_number_is_nobody_s(number: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(checkpoint(1.0) | {"format": number}, path)
    with pytest.raises(CheckpointError, match=r"model\.ckpt"):
        read_checkpoint(path)


# ------------------------------------------------------------------------------------------------ devices


def test_tensors_of_another_device_come_to_the_cpu(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    write_checkpoint(checkpoint(1.0), path)
    # In the pickle a storage says where it was: a length of four bytes, and the device.
    on_a_gpu = archive_with(path, "data.pkl", lambda content: content.replace(b"\3\0\0\0cpu", b"\6\0\0\0cuda:7"))
    assert b"cuda:7" in on_a_gpu
    path.write_bytes(on_a_gpu)
    assert value_in(path) == 1.0
    assert read_checkpoint(path)["state_dict"]["weight"].device == torch.device("cpu")
