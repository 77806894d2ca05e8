"""Where checkpoints are: paths of this machine, and `protocol://` paths, which go through fsspec.

fsspec comes with torch, and is imported when a path has a protocol. `file://` is a path of this machine.

What is guaranteed where, when a checkpoint is written:

- On this machine: `hookloop.checkpoint_file` says it. A file of the target's name is always whole, and on disk.
- In the object stores that are listed in `OBJECT_STORES`: an object is seen when all of it has arrived, so it is
  written under its own name. That is the store's promise.
- Elsewhere (SFTP, SMB, HDFS, memory, ...): it is written beside the target, its length is compared, and it is moved.
  Where a move is a rename, a file of the target's name is always whole. Where it is a copy and a removal, a reader may
  see less than all of it for the time of the copy; every reader finds that out by its checksums.
- A process that is killed may leave a hidden file ending in ".partial", which nobody takes for a checkpoint.
- Over HTTP, checkpoints can only be read.
"""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any, TypeVar
from uuid import uuid4

from hookloop.disk_errors import explained
from hookloop.errors import CheckpointError, MisconfigurationError

SUFFIX = ".ckpt"
"""How the names of checkpoints end; what `list_checkpoints` looks for."""

PARTIAL = ".partial"
"""How the names of files end that are being written."""

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Protocols of stores that show an object only when all of it was uploaded, and have no folders."""

StrPath = str | os.PathLike[str]

T = TypeVar("T")

# Two letters at least: C: is a drive.
_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*)(?:::|://)")
_LOCAL = re.compile(r"(?:file|local)://")
_LOST_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(?!/)")


# ------------------------------------------------------------------------------------------------- what is asked


def is_remote(path: StrPath) -> bool:
    """Whether a path has a protocol (`s3://bucket/last.ckpt`) other than `file://`.

    Raises:
        MisconfigurationError: it is a pathlib.Path that was made of such a path, and has lost a slash.
    """
    text = os.fspath(path)
    if isinstance(path, PurePath):
        lost = _LOST_SLASH.match(text)
        if lost and _is_known(lost[1]):
            raise MisconfigurationError(
                f"{path!r} was made of a path with a protocol, and pathlib has taken a slash out of it. Pass it as a "
                f'string: "{lost[1]}://{text[lost.end() :]}".'
            )
        return False
    return _PROTOCOL.match(text) is not None and _LOCAL.match(text) is None


def local_path(path: StrPath) -> Path:
    """A path of this machine as a Path, without `file://`."""
    text = os.fspath(path)
    begin = _LOCAL.match(text)
    return Path(text[begin.end() :] if begin else text)


def join(folder: StrPath, name: str) -> str:
    """The path of what is called `name` in `folder`, of the same protocol."""
    if is_remote(folder):
        return f"{os.fspath(folder).rstrip('/')}/{name}"
    return os.path.join(folder, name)  # noqa: PTH118 - Path would take a slash out of file://


def exists(path: StrPath) -> bool:
    """Whether there is a file or a folder.

    Raises:
        CheckpointError: it cannot be told, as the storage does not answer or does not allow to look.
    """
    if not is_remote(path):
        return local_path(path).exists()
    return _info(path) is not None


def is_file(path: StrPath) -> bool:
    """Whether there is a file; raises as `exists` does."""
    if not is_remote(path):
        return local_path(path).is_file()
    info = _info(path)
    return info is not None and info.get("type") != "directory"


def modified(path: StrPath) -> float:
    """When a file was last written, in seconds since 1970.

    Raises:
        CheckpointError: there is no such file, or its storage does not say when it was written.
    """
    if not is_remote(path):
        try:
            return local_path(path).stat().st_mtime
        except OSError as error:
            raise CheckpointError(f"Nobody can tell when {path} was written. {explained(error)}") from error
    info = _info(path)
    if info is None:
        raise CheckpointError(f"There is no {path}, so nobody can tell when it was written.")
    seconds = _seconds(info)
    if seconds is None:
        raise CheckpointError(
            f"The storage of {path} does not say when files were written. Name the checkpoint to take by its path."
        )
    return seconds


def list_checkpoints(folder: StrPath) -> list[str]:
    """The files of a folder whose names end in ".ckpt", the one that was written last first.

    Of files that were written at the same moment, and of those whose storage does not say when, the one with the
    greater numbers in its name comes first. A folder that is not there has none. Folders in it are not looked into.

    Raises:
        CheckpointError: the folder cannot be listed.
    """
    if is_remote(folder):
        found = _listed(folder)
    else:
        try:
            with os.scandir(local_path(folder)) as entries:
                found = [
                    (entry.stat().st_mtime_ns / 1e9, entry.name)
                    for entry in entries
                    if entry.name.endswith(SUFFIX) and entry.is_file()
                ]
        except FileNotFoundError:
            found = []
        except OSError as error:
            raise CheckpointError(f"The folder {folder} cannot be listed. {explained(error)}") from error
    found.sort(key=lambda entry: (entry[0], _natural(entry[1])), reverse=True)
    return [join(folder, name) for _, name in found]


# ----------------------------------------------------------------------------------------------------- what is done


def remove(path: StrPath) -> None:
    """Remove a remote file, or a remote folder with everything in it; nothing happens if it is gone.

    Raises:
        CheckpointError: the storage does not allow it.
    """

    def delete(files: Any, inner: str) -> None:
        with suppress(FileNotFoundError):
            files.rm(inner, recursive=bool(files.isdir(inner)))

    _tried(path, "could not be removed", delete)


def download(path: StrPath, to: Path) -> None:
    """Copy a remote file to a local one.

    Raises:
        CheckpointError: there is no such file, or it could not be read to its end.
    """
    _tried(path, "could not be read", lambda files, inner: files.get_file(inner, str(to)))


def upload(source: Path, path: StrPath) -> None:
    """Copy a local file to a remote one, which is there as a whole or not at all; the module's docstring says where.

    Raises:
        CheckpointError: it could not be written. What was there before is unchanged.
    """
    if _protocols(path)[-1] in ("http", "https"):
        raise CheckpointError(
            f"The checkpoint {path} could not be written: over HTTP, checkpoints can only be read. Save to a local "
            "path, or to a protocol that can write (s3://, gs://, sftp://, ...)."
        )

    def put(files: Any, inner: str) -> None:
        if set(_protocols(path)) <= OBJECT_STORES:
            files.put_file(str(source), inner)
            _check_length(files, inner, source)
            return
        folder, _, name = inner.rpartition("/")
        if folder:
            files.makedirs(folder, exist_ok=True)
        if not name or files.isdir(inner):
            raise IsADirectoryError("a file name is needed, and this is a folder")
        beside = f"{folder}/.{uuid4().hex}{PARTIAL}"
        try:
            files.put_file(str(source), beside)
            _check_length(files, beside, source)
            files.mv(beside, inner)
        finally:
            # Whatever is raised, KeyboardInterrupt too; and what this raises itself is of no interest then.
            with suppress(Exception):
                if files.exists(beside):
                    files.rm(beside)

    _tried(path, "could not be written", put)


def _check_length(files: Any, inner: str, source: Path) -> None:
    there, here = files.info(inner).get("size"), source.stat().st_size
    if there is not None and there != here:
        raise OSError(f"of {here} bytes, {there} have arrived")


# ------------------------------------------------------------------------------------------------------- fsspec


def _protocols(path: StrPath) -> list[str]:
    """The protocols of a path, the outermost first: `simplecache::s3://...` has two."""
    found = _PROTOCOL.match(os.fspath(path))
    return found[1].lower().split("::") if found else []


def _is_known(protocol: str) -> bool:
    with suppress(ImportError):
        from fsspec.registry import known_implementations

        return protocol in known_implementations
    return False


def _file_system(path: StrPath) -> tuple[Any, str]:
    """What fsspec has for a path, and the path as that understands it.

    Raises:
        CheckpointError: the protocol is not known, or a package that it needs is not installed.
    """
    text = os.fspath(path)
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise CheckpointError(f"{text} is read and written through fsspec. Install it: pip install fsspec.") from error
    try:
        files, inner = url_to_fs(text, **_patience(path))
    except ImportError as error:
        raise CheckpointError(
            f"{text} needs a package that is not installed ({error}). Install it: pip install {_package(path, error)}."
        ) from error
    except ValueError as error:
        from fsspec.registry import known_implementations, registry

        protocol = next((one for one in _protocols(path) if one not in {*known_implementations, *registry}), None)
        if protocol is None:
            raise CheckpointError(f"{text} is no path that its protocol understands: {error}.") from error
        raise CheckpointError(
            f"{text} has the protocol {protocol!r}, which fsspec does not know. It knows "
            f"{', '.join(sorted({*known_implementations, *registry}))}. Correct the path, make your file system known "
            f'(fsspec.register_implementation("{protocol}", TheClass)), or keep checkpoints in a place of your own: '
            "Trainer(plugins=MyCheckpointIO())."
        ) from error
    # Other processes write too, and some file systems remember what they have seen.
    files.invalidate_cache()
    return files, inner


def _package(path: StrPath, error: ImportError) -> str:
    """What to install for a protocol, as pip wants it."""
    from importlib.metadata import PackageNotFoundError, metadata

    protocol = {"https": "http", "s3a": "s3", "gcs": "gs", "az": "abfs"}.get(_protocols(path)[-1], _protocols(path)[-1])
    with suppress(PackageNotFoundError):
        if protocol in (metadata("fsspec").get_all("Provides-Extra") or []):
            return f'"fsspec[{protocol}]"'
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    return (cause.name or protocol).partition(".")[0]


def _tried(path: StrPath, failed: str, action: Callable[[Any, str], T]) -> T:
    files, inner = _file_system(path)
    try:
        return action(files, inner)
    except Exception as error:  # each file system has errors of its own: botocore's, aiohttp's, paramiko's, ...
        raise CheckpointError(f"The checkpoint {os.fspath(path)} {failed}. {explained(error)}") from error


def _info(path: StrPath) -> dict[str, Any] | None:
    def look(files: Any, inner: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = files.info(inner)
        except FileNotFoundError as error:
            _raise_what_is_behind(error)
            return None
        return info

    return _tried(path, "cannot be looked for", look)


def _raise_what_is_behind(error: FileNotFoundError) -> None:
    """fsspec says that there is no file, too, where a server does not answer or refuses to: that is an error."""
    cause = error.__cause__
    if cause is None or not type(cause).__module__.startswith(("aiohttp", "builtins", "asyncio")):
        return
    if getattr(cause, "status", None) not in (404, 410):
        raise cause


def _listed(folder: StrPath) -> list[tuple[float, str]]:
    def look(files: Any, inner: str) -> list[tuple[float, str]]:
        found = []
        try:
            entries = files.ls(inner, detail=True)
        except FileNotFoundError as error:
            _raise_what_is_behind(error)
            return []
        for entry in entries:
            name = entry["name"].rstrip("/").rpartition("/")[2]
            if not name.endswith(SUFFIX) or entry.get("type") == "directory":
                continue
            seconds = _seconds(entry)
            if seconds is None:
                seconds = _seconds(files.info(entry["name"]))
            found.append((float("-inf") if seconds is None else seconds, name))
        return found

    return _tried(folder, "is no folder that can be listed", look)


def _seconds(info: dict[str, Any]) -> float | None:
    """When something was written; each file system says it in its own way."""
    for key in ("mtime", "LastModified", "last_modified", "updated", "modified", "Last-Modified", "created"):
        value = info.get(key)
        if isinstance(value, str):
            with suppress(ValueError):
                if key == "Last-Modified":
                    from email.utils import parsedate_to_datetime

                    value = parsedate_to_datetime(value)
                else:
                    value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which "step=10" is greater than "step=9"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]


def _patience(path: StrPath) -> dict[str, Any]:
    """aiohttp ends a download after five minutes, however well it goes; here it ends when nothing comes any more."""
    if _protocols(path) not in (["http"], ["https"]):
        return {}
    try:
        from aiohttp import ClientTimeout
        from fsspec.config import conf
    except ImportError:  # told by whoever asks for the file system
        return {}
    if any("client_kwargs" in conf.get(protocol, {}) for protocol in ("http", "https")):
        return {}
    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=60, sock_read=60)}}
