"""Writing a checkpoint: beside the target, then renamed, so that a file of its name is always whole."""

import os
import pickle
import re
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import torch

from hookloop.checkpoint_file.loadable import check_loadable
from hookloop.errors import CheckpointError
from hookloop.storage.disk_errors import explained
from hookloop.storage.paths import PARTIAL, is_remote, local_path

FORMAT = 1
"""Raised when a reader of the former format would misunderstand a file."""


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint.

    On this machine it goes to a file beside the target, is synced to disk and renamed; then the folder is synced.
    Whoever looks at `path` sees what was there before or the whole new file, whenever the process ends. A path with a
    protocol is written to a temporary file of this machine (where TMPDIR says) and uploaded; what is guaranteed then
    is said in `hookloop.storage`.

    Args:
        checkpoint: tensors, numbers, strings and containers of them.
        path: the target; its folder is made if it is not there. A file of that name is replaced.

    Raises:
        CheckpointError: a part of it could not be loaded with weights_only=True, or it could not be written; nothing
            has changed at `path`.
    """
    check_loadable(checkpoint)
    if is_remote(path):
        from hookloop.storage.remote import upload  # not by every save

        with ExitStack() as stack:
            with _told(f"{path}, or rather its copy in {os.environ.get('TMPDIR', 'the temporary folder')},"):
                copy = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookloop-")), "checkpoint")
                with copy.open("xb") as file:  # torch's own errors about files say less
                    torch.save(checkpoint, file)
            upload(copy, path)
        return
    target = local_path(path)
    with _told(target):
        if not target.name or target.is_dir():
            raise IsADirectoryError("a file name is needed, and this is a folder")
        if target.exists() and not target.is_file():
            raise FileExistsError("this is a device or a pipe, and the rename would replace it")
        target.parent.mkdir(parents=True, exist_ok=True)
        with _beside(target) as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(target)
        _sync_folder(target.parent)
        _remove_abandoned(target.parent)


@contextmanager
def _told(target: object) -> Iterator[None]:
    """What cannot be written is said in words.

    Raises:
        CheckpointError: an error.
        BaseException: a Ctrl-C or an exit in its middle, though torch, closing the archive half-way, hid it behind an
            error of its own.
    """
    try:
        yield
    except (OSError, RuntimeError, ValueError, OverflowError, pickle.PicklingError, AttributeError, TypeError) as error:
        hidden = error.__context__
        if hidden is not None and not isinstance(hidden, Exception):
            raise hidden from None
        raise CheckpointError(
            f"The checkpoint {target} could not be written. {explained(error)} What was there before is unchanged."
        ) from error


@contextmanager
def _beside(target: Path) -> Iterator[IO[bytes]]:
    """A new file in the folder of `target`, locked for as long as it is open; deleted afterwards unless renamed."""
    while True:
        file = (target.parent / f".{uuid4().hex}{_partial()}").open("xb")
        try:
            # Somebody may have taken it for an abandoned one before it was locked.
            if _lock(file) and Path(file.name).exists():
                yield file
                return
        finally:
            with suppress(OSError):
                Path(file.name).unlink(missing_ok=True)
            file.close()


def _partial() -> str:
    """How names of files end that this machine is writing."""
    node = os.uname().nodename if hasattr(os, "uname") else ""
    return f".{re.sub(r'[^A-Za-z0-9-]', '-', node)}{PARTIAL}"


def _lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process has locked it. The lock ends with the process, however that ends."""
    try:
        import fcntl
    except ImportError:  # Windows: nothing is locked there, and nothing is taken for abandoned
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: see _remove_abandoned
        return True
    return True


def _remove_abandoned(folder: Path) -> None:
    """Delete what saves left behind whose processes were killed: each is as large as a checkpoint.

    A file that is being written is locked, by whichever process. Where files cannot be locked, none is deleted; nor is
    one of another machine, whose locks some network file systems do not show.
    """
    try:
        import fcntl
    except ImportError:
        return
    for path in folder.glob(f".*{_partial()}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync_folder(folder: Path) -> None:
    # The rename itself is only on disk once its folder is. Windows cannot open folders, and needs no such thing; a
    # folder that may be written to but not listed cannot be opened either, and its file is there all the same.
    if os.name == "nt":
        return
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
