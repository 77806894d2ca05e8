"""Files with a protocol, through fsspec: looked for, copied, removed."""

import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

from hookloop.errors import CheckpointError
from hookloop.storage.disk_errors import explained
from hookloop.storage.paths import PARTIAL, SUFFIX, StrPath, protocols

OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss"})
"""Protocols of stores that show an object only when all of it was uploaded, and have no folders."""

T = TypeVar("T")


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


def opened_remotely(path: StrPath) -> IO[bytes]:
    """A file, open for reading: of what is read, no more than a little around it arrives.

    Raises:
        CheckpointError: it cannot be opened.
    """
    file: IO[bytes] = _tried(path, "could not be read", lambda files, inner: files.open(inner, "rb"))
    return file


def upload(source: Path, path: StrPath) -> None:
    """Copy a local file to a remote one, which is there as a whole or not at all; `hookloop.storage` says where.

    Raises:
        CheckpointError: it could not be written. What was there before is unchanged.
    """
    if protocols(path)[-1] in ("http", "https"):
        raise CheckpointError(
            f"The checkpoint {path} could not be written: over HTTP, checkpoints can only be read. Save to a local "
            "path, or to a protocol that can write (s3://, gs://, sftp://, ...)."
        )

    def put(files: Any, inner: str) -> None:
        if set(protocols(path)) <= OBJECT_STORES:
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

        protocol = next((one for one in protocols(path) if one not in {*known_implementations, *registry}), None)
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

    protocol = {"https": "http", "s3a": "s3", "gcs": "gs", "az": "abfs"}.get(protocols(path)[-1], protocols(path)[-1])
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


def info_of(path: StrPath) -> dict[str, Any] | None:
    """What fsspec knows of a file or folder; None if there is none.

    Raises:
        CheckpointError: the storage does not answer, or does not allow to look.
    """

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


def listed(folder: StrPath) -> list[tuple[float, str]]:
    """The checkpoints of a folder: when each was written (-inf where nobody says), and its name.

    Raises:
        CheckpointError: the folder cannot be listed.
    """

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
            seconds = seconds_of(entry)
            if seconds is None:
                seconds = seconds_of(files.info(entry["name"]))
            found.append((float("-inf") if seconds is None else seconds, name))
        return found

    return _tried(folder, "is no folder that can be listed", look)


def seconds_of(info: dict[str, Any]) -> float | None:
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


def _patience(path: StrPath) -> dict[str, Any]:
    """aiohttp ends a download after five minutes, however well it goes; here it ends when nothing comes any more."""
    if protocols(path) not in (["http"], ["https"]):
        return {}
    try:
        from aiohttp import ClientTimeout
        from fsspec.config import conf
    except ImportError:  # told by whoever asks for the file system
        return {}
    if any("client_kwargs" in conf.get(protocol, {}) for protocol in ("http", "https")):
        return {}
    return {"client_kwargs": {"timeout": ClientTimeout(total=None, sock_connect=60, sock_read=60)}}
