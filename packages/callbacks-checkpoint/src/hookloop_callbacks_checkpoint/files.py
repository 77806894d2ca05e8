"""Everything that is asked of, and done to, paths: the one place that knows where files are kept."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch

from hookloop import storage
from hookloop.errors import CheckpointError, MisconfigurationTypeError
from hookloop.view import TrainerView


def is_remote(path: str) -> bool:
    """Whether a path is a URL, such as s3://bucket/folder, and not in the local file system."""
    return storage.is_remote(path)


def checked(path: str | os.PathLike[str], argument: str) -> str:
    """What was given for a path, as a text.

    Raises:
        MisconfigurationError: it is no path, or one that lost a slash of its protocol.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str):
        raise MisconfigurationTypeError(
            f'{argument}={path!r} ({type(path).__name__}) must be the path of a folder, as "models" or "s3://bucket/x".'
        )
    storage.is_remote(path)  # complains of Path("s3://bucket/x")
    return os.fspath(path)


def absolute(path: str | os.PathLike[str]) -> str:
    """The path from the root, with ~ expanded and without file://; links are not followed. A URL stays what it is."""
    text = os.fspath(path)
    return text.rstrip("/") if is_remote(text) else str(storage.local_path(text).expanduser().absolute())


def join(folder: str, name: str) -> str:
    """A file in a folder; "/" in the name separates folders."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else str(Path(folder, *name.split("/")))


def folder_of(path: str) -> str:
    """The folder that a file is in."""
    return path.rpartition("/")[0] if is_remote(path) else str(Path(path).parent)


def inside(path: str, folder: str) -> bool:
    """Whether a path is below a folder."""
    if is_remote(path) or is_remote(folder):
        return path.startswith(f"{folder}/")
    return Path(path) != Path(folder) and Path(path).is_relative_to(folder)


def relative(path: str, folder: str | None) -> str:
    """The path as seen from the folder, with "/", if it is below it; otherwise the path itself."""
    if folder is None or not inside(path, folder):
        return path
    return path[len(folder) + 1 :] if is_remote(path) else Path(path).relative_to(folder).as_posix()


def is_relative(path: str) -> bool:
    """Whether a path is to be read from some folder."""
    return not is_remote(path) and not Path(path).is_absolute()


def exists(path: str) -> bool:
    """Whether something is there. A link to a file beside it that is gone, as a last.ckpt may be, is nothing."""
    if is_remote(path):
        return storage.exists(path)
    file = Path(path)
    return file.exists() or (file.is_symlink() and file.readlink().is_absolute())


def is_there(path: str, trainer: TrainerView | None) -> bool:
    """Whether a checkpoint is there, as whoever reads it for this trainer sees it."""
    if not path:
        return False
    if trainer is None:
        return Path(path).exists()
    try:
        trainer.strategy.checkpoint_io.check_is_there(path)
    except CheckpointError:
        return False
    return True


def same(one: str | os.PathLike[str], other: str) -> bool:
    """Whether two paths lead to the same place."""
    first, second = os.fspath(one), other
    if is_remote(first) or is_remote(second):
        return first == second
    return Path(first).resolve() == Path(second).resolve()


def is_behind(path: str, newer: str, if_missing: bool = False) -> bool:
    """Whether a file was written before another one; False where that cannot be told.

    Args:
        path: the file.
        newer: the other one.
        if_missing: the answer if the file is not there, or is a link that leads nowhere.
    """
    try:
        written = storage.modified(newer)
        return storage.modified(path) < written if storage.exists(path) else if_missing
    except CheckpointError:
        return False


def checkpoints_in(folders: Iterable[str], suffix: str, not_before: str | None = None) -> list[str]:
    """The checkpoints in folders and below them, the newest first; of two that are equally new the shorter name first.

    Files whose names begin with a dot are being written, or belong to others.

    Args:
        folders: where to look.
        suffix: how names end.
        not_before: a file; those that are older are left out.
    """
    found: list[tuple[int, str]] = []
    oldest = 0
    if not_before is not None and not is_remote(not_before):
        with suppress(OSError):
            oldest = Path(not_before).stat().st_mtime_ns
    remote: list[str] = []
    for folder in folders:
        if is_remote(folder):
            there = (path for path in storage.list_checkpoints(folder) if path.endswith(suffix))
            remote += there if not_before is None else takewhile(lambda path: not is_behind(path, not_before), there)
            continue
        for path in Path(folder).rglob(f"*{suffix}"):
            with suppress(OSError):
                written = path.stat().st_mtime_ns
                if path.is_file() and not path.name.startswith(".") and written >= oldest:
                    found.append((written, str(path)))
    return remote + [path for _, path in sorted(found, key=lambda one: (-one[0], len(one[1]), one[1]))]


def folders_in(folder: str) -> list[str]:
    """The folders right in a folder."""
    with suppress(OSError):
        return sorted(str(path) for path in Path(folder).iterdir() if path.is_dir())
    return []


def duplicate(source: str, target: str, link: bool) -> bool:
    """Give a checkpoint a second name, which from one moment to the next stands for the new contents.

    Nothing is copied where the file system lets two names stand for the same bytes.

    Args:
        source: the checkpoint.
        target: the second name, in the same folder or above it.
        link: leave a symbolic link, which shows where it leads.

    Returns:
        Whether it was done; not for what is no local file.

    Raises:
        OSError: the file system refused.
    """
    if is_remote(source) or not Path(source).is_file():
        return False
    # One name, so that what a killed process leaves is gone with the next save: it would keep a whole file alive.
    beside = Path(target).with_name(f".{Path(target).name}{storage.PARTIAL}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    beside.unlink(missing_ok=True)
    try:
        if link:
            try:
                beside.symlink_to(os.path.relpath(source, Path(target).parent))
            except OSError:  # Windows lets only some users do that
                _same_bytes(source, beside)
        else:
            _same_bytes(source, beside)
        beside.replace(target)
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    return True


def _same_bytes(source: str, target: Path) -> None:
    try:
        os.link(os.path.realpath(source), target)
    except OSError:  # a file system without a second name for a file
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())


def states_in(path: str) -> Iterator[dict[str, Any]]:
    """The states of callbacks in a checkpoint; nothing if it cannot be read. The numbers in its tensors are not."""
    try:
        with storage.opened(path) as file:
            checkpoint = torch.load(file, map_location="meta", weights_only=True)
    except Exception:  # noqa: BLE001 - whatever is wrong with it, it is no file of ours
        return
    states = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    for state in states.values() if isinstance(states, dict) else ():
        if isinstance(state, dict):
            yield state
