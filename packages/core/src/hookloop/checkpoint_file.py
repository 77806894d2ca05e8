"""The bytes of a checkpoint: written beside the target and renamed, so that a file of its name is always whole."""

import os
import pickle
import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import torch

from hookloop.errors import CheckpointError

FORMAT = 1
"""Raised when a reader of the former format would misunderstand a file."""


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint.

    It goes to a file beside the target, is synced to disk and renamed; then the folder is synced. Whoever looks at
    `path` sees what was there before or the whole new file, whenever the process ends.

    Args:
        checkpoint: tensors, numbers, strings and containers of them.
        path: the target; its folder is made if it is not there. A file of that name is replaced.

    Raises:
        CheckpointError: it could not be written; nothing has changed at `path`.
    """
    target = Path(path)
    try:
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
    except (OSError, RuntimeError, ValueError, pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"The checkpoint {target} could not be written ({type(error).__name__}: {error}). What was there before is "
            "unchanged. Check the folder's permissions and free space, and that every state is made of tensors, "
            "numbers, strings and containers of them."
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
    return f".{re.sub(r'[^A-Za-z0-9-]', '-', node)}.partial"


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


def check_is_there(path: str | os.PathLike[str]) -> None:
    """Check that there is a file.

    Raises:
        CheckpointError: there is none; the message lists the checkpoints in its folder.
    """
    source = Path(path)
    if not source.is_file():
        beside = sorted(entry.name for entry in source.parent.glob("*.ckpt")) if source.parent.is_dir() else []
        there = f"in that folder: {', '.join(beside)}" if beside else "there is no checkpoint in that folder"
        raise CheckpointError(f"There is no checkpoint {source} ({there}).")


def verify_checkpoint(path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Check every byte of a checkpoint against the checksums (CRC-32) that were written with it.

    torch.load reads a file whose bits have flipped without a word, and gives other weights. In an archive, which is
    what torch has written by default since version 1.6, every record has its checksum. Files of the older format have
    none, and there is nothing to check in them.

    Args:
        path: the file, or a binary file object that can seek, which is at its beginning afterwards.

    Raises:
        CheckpointError: there is no such file, or it is not what was written.
    """
    if isinstance(path, str | os.PathLike):
        check_is_there(path)
        with Path(path).open("rb") as file:
            _verify(file, path)
    else:
        _verify(path, path)
        path.seek(0)


def _verify(file: IO[bytes], source: object) -> None:
    try:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            if file.read(2) != b"PK":
                return
            raise zipfile.BadZipFile("its end is missing")
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(source, f"{type(error).__name__}: {error}") from error
    if damaged is not None:
        raise _damaged(source, f"the checksum of its record {damaged!r} is another one")


def _damaged(source: object, cause: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint {source} cannot be read ({cause}): it is damaged or incomplete. Choose another one."
    )


def where_it_was(storage: Any, location: str) -> Any:
    """A map_location: tensors go to the device that they were saved from if it is here, else to the CPU."""
    kind, _, index = location.partition(":")
    if kind == "cpu" or (kind == "cuda" and int(index or 0) < torch.cuda.device_count()):
        return None  # as torch.load does by itself
    if kind == "mps" and torch.backends.mps.is_available():
        return None
    return storage.cpu()


def read_checkpoint(
    path: str | os.PathLike[str] | IO[bytes], weights_only: bool = True, map_location: Any = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint, after `verify_checkpoint`.

    Args:
        path: the file, or a binary file object that is open for reading and can seek.
        weights_only: refuse everything but tensors, numbers, strings and containers of them. False runs whatever code
            the file holds: only for files that you trust.
        map_location: where its tensors go, as torch.load understands it; `where_it_was` leaves them on their devices.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds objects that weights_only refuses.
    """
    if isinstance(path, str | os.PathLike):
        if "://" in os.fspath(path):
            raise CheckpointError(
                f"The checkpoint {path} is a URL, and checkpoints are read from local files and file objects. Copy it "
                "here first, or open it and pass the open file."
            )
        source: Path | IO[bytes] = Path(path)
    elif callable(getattr(path, "read", None)) and callable(getattr(path, "seek", None)):
        source = path
    else:
        raise CheckpointError(
            f"A checkpoint cannot be read from {path!r} ({type(path).__name__}). Give a path, or a binary file object "
            "that can seek."
        )
    verify_checkpoint(source)
    try:
        checkpoint = torch.load(source, map_location=map_location, weights_only=weights_only)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        cause = f"it holds a {refused[1]}" if refused else str(error).splitlines()[0]
        raise CheckpointError(
            f"The checkpoint {source} cannot be loaded: it is damaged, or it holds objects other "
            "than tensors, numbers, "
            f"strings and containers of them ({cause}). If you trust the file, pass weights_only=False, which runs the "
            "code that it holds."
        ) from error
    except Exception as error:  # damaged bytes can make torch and pickle raise anything
        raise _damaged(source, f"{type(error).__name__}: {error}") from error
    return checked_contents(checkpoint, source)


def checked_contents(checkpoint: Any, source: str | Path | IO[bytes]) -> dict[str, Any]:
    """What was read, if it is a checkpoint of a format that this version reads.

    Args:
        checkpoint: what was read.
        source: where it was, for messages.

    Raises:
        CheckpointError: it is none, or newer.
    """
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f'{source} is no checkpoint: a dict with "state_dict" is expected, and it holds a '
            f"{type(checkpoint).__name__}. Load weights alone with model.load_state_dict(torch.load(path))."
        )
    written = checkpoint.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{source} was written by hookloop {checkpoint.get('hookloop_version')} in format "
            f"{checkpoint['format']}, and "
            f"this version reads formats up to {FORMAT}. Upgrade: pip install --upgrade hookloop."
        )
    return checkpoint
