"""What is at a path, here or remote: whether a file is there, how old it is, and which checkpoints a folder has."""

import os
import re
from typing import IO

from hookloop.errors import CheckpointError
from hookloop.storage.disk_errors import explained
from hookloop.storage.paths import SUFFIX, StrPath, is_remote, join, local_path
from hookloop.storage.remote import info_of, listed, opened_remotely, seconds_of


def exists(path: StrPath) -> bool:
    """Whether there is a file or a folder.

    Raises:
        CheckpointError: it cannot be told, as the storage does not answer or does not allow to look.
    """
    if not is_remote(path):
        return local_path(path).exists()
    return info_of(path) is not None


def is_file(path: StrPath) -> bool:
    """Whether there is a file; raises as `exists` does."""
    if not is_remote(path):
        return local_path(path).is_file()
    info = info_of(path)
    return info is not None and info.get("type") != "directory"


def opened(path: StrPath) -> IO[bytes]:
    """A file, open for reading, to be used in a `with`; of a remote one, what is read arrives, and no more.

    Raises:
        CheckpointError: a remote file cannot be opened.
        OSError: a local one cannot be opened.
    """
    return opened_remotely(path) if is_remote(path) else local_path(path).open("rb")


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
    info = info_of(path)
    if info is None:
        raise CheckpointError(f"There is no {path}, so nobody can tell when it was written.")
    seconds = seconds_of(info)
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
        found = listed(folder)
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


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which "step=10" is greater than "step=9"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
