"""Reading a checkpoint: nothing comes of a file before every byte of it was checked, and none of its code is run."""

import errno
import io
import os
import pickle
import re
import tempfile
import threading
import zipfile
import zlib
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import torch

from hookloop.checkpoint_file.writing import FORMAT
from hookloop.errors import CheckpointError, DamagedCheckpointError
from hookloop.storage.disk_errors import explained
from hookloop.storage.files import is_file, list_checkpoints
from hookloop.storage.paths import is_remote, local_path
from hookloop.storage.remote import download

_CHUNK = 2**20
"""Bytes that are checked at once."""


def check_is_there(path: str | os.PathLike[str]) -> None:
    """Check that there is a file.

    Raises:
        CheckpointError: there is none, and the message lists the checkpoints in its folder; or it cannot be told.
    """
    try:
        if is_file(path):
            return
        folder = os.fspath(path).rpartition("/")[0] if is_remote(path) else local_path(path).parent
    except OSError as error:
        raise _unreadable(path, error) from error
    beside: list[str] = []
    with suppress(CheckpointError):  # over HTTP, nothing can be listed
        beside = sorted(name.rpartition("/")[2] for name in list_checkpoints(folder))
    there = f"in that folder: {', '.join(beside)}" if beside else "there is no checkpoint in that folder"
    raise CheckpointError(f"There is no checkpoint {path} ({there}).")


def verify_checkpoint(path: str | os.PathLike[str] | IO[bytes]) -> None:
    """Check every byte of a checkpoint against the checksums (CRC-32) that were written with it.

    torch.load reads a file whose bits have flipped without a word, and gives other weights. In an archive, which is
    what torch has written by default since version 1.6, every record has its checksum. Files of the older format have
    none, and there is nothing to check in them.

    Args:
        path: the file, here or remote, or a binary file object that can seek, which is at its beginning afterwards.

    Raises:
        CheckpointError: there is no such file, it cannot be read, or it is not what was written.
    """
    with _opened(path) as file:
        _verify(file, path)
        file.seek(0)


@contextmanager
def _opened(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    """A checkpoint, open and at its beginning; a remote one as a temporary copy on this machine."""
    if not isinstance(source, str | os.PathLike):
        if not (callable(getattr(source, "read", None)) and callable(getattr(source, "seek", None))):
            raise CheckpointError(
                f"A checkpoint cannot be read from {source!r} ({type(source).__name__}). Give a path, or a binary file "
                "object that can seek."
            )
        yield source
        return
    check_is_there(source)
    with ExitStack() as stack:
        try:
            if is_remote(source):
                here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookloop-")), "checkpoint")
                download(source, here)
            else:
                here = local_path(source)
            file = stack.enter_context(here.open("rb"))
        except OSError as error:
            raise _unreadable(source, error) from error
        yield file


def _verify(file: IO[bytes], source: object, records: Callable[[zipfile.ZipInfo], bool] = lambda record: True) -> None:
    """Check these records, and that the file is what it seems to be."""
    try:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            if file.read(2) != b"PK":
                return
            raise zipfile.BadZipFile("its end is missing")
        with zipfile.ZipFile(file) as archive:
            damaged = next(
                (one.filename for one in archive.infolist() if records(one) and _differs(archive, one)), None
            )
    except OSError as error:
        if error.errno == errno.EINVAL:  # it points to bytes before its beginning
            raise _damaged(source, f"{type(error).__name__}: {error}") from error
        raise _unreadable(source, error) from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _damaged(source, f"{type(error).__name__}: {error}") from error
    if damaged is not None:
        raise _damaged(source, f"the checksum of its record {damaged!r} is another one")
    file.seek(0)
    try:
        # Python reads some archives that torch refuses: what passes here is to load. This reads the list of records.
        torch._C.PyTorchFileReader(file)
    except (RuntimeError, ValueError) as error:  # the latter, for names that are no text
        raise _damaged(source, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error


def _differs(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> bool:
    if record.compress_type == zipfile.ZIP_STORED and record.compress_size != record.file_size:
        return True  # zipfile does not look at it, and torch refuses to read such a record
    try:
        with archive.open(record) as contents:
            while contents.read(_CHUNK):
                pass
    except zipfile.BadZipFile:
        return True
    return False


def _is_data(record: zipfile.ZipInfo) -> bool:
    """Whether a record is the elements of tensors alone."""
    return "/data/" in record.filename


@contextmanager
def _verified(file: IO[bytes], source: object, beside: bool) -> Iterator[None]:
    """Check a file, and do something with it meanwhile; what comes of that is of use only if this raises nothing.

    The elements of tensors, which are nearly all of a file, are checked by a second thread beside what is done in the
    body; everything else before it.

    Args:
        file: the file.
        source: where it was, for messages.
        beside: whether that may be; False checks all of it first. So is a file that no second reader can read.
    """
    thread: threading.Thread | None = None
    found: list[Exception] = []

    def check() -> None:
        try:
            _verify(cast(IO[bytes], _SecondReader(file)), source, _is_data)
        except Exception as error:  # noqa: BLE001 - raised below
            found.append(error)

    if beside and _SecondReader.can_read(file):
        _verify(file, source, lambda record: not _is_data(record))
        thread = threading.Thread(target=check, name="hookloop checkpoint verifier")
        with suppress(RuntimeError):  # no thread is to be had
            thread.start()
    if thread is None or thread.ident is None:
        _verify(file, source)
        thread = None
    file.seek(0)
    try:
        yield
    except Exception:
        if thread is not None:
            thread.join()
        if found:
            raise found[0] from None  # whatever it led to
        raise
    finally:
        if thread is not None:
            thread.join()
    if found:
        raise found[0]


class _SecondReader(io.RawIOBase):
    """Reads an open file from positions of its own: the same file, whatever has taken its name meanwhile."""

    def __init__(self, file: IO[bytes]) -> None:
        self._descriptor = file.fileno()
        self._size = os.fstat(self._descriptor).st_size
        self._position = 0

    @staticmethod
    def can_read(file: IO[bytes]) -> bool:
        """Whether it is a file of this machine, on a system that has such reads."""
        return isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO) and hasattr(os, "preadv")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if position < 0:
            raise OSError(errno.EINVAL, "Invalid argument")
        self._position = position
        return position

    def tell(self) -> int:
        return self._position


def _damaged(source: object, cause: str) -> DamagedCheckpointError:
    return DamagedCheckpointError(
        f"The checkpoint {source} cannot be read ({cause}): it is damaged or incomplete. Choose another one."
    )


def _unreadable(source: object, error: OSError) -> CheckpointError:
    return CheckpointError(f"The checkpoint {source} cannot be read. {explained(error)}")


def where_it_was(storage: Any, location: str) -> Any:
    """A map_location: tensors go to the device that they were saved from if it is here, else to the CPU."""
    kind, _, index = location.partition(":")
    if kind == "cpu" or (kind == "cuda" and int(index or 0) < torch.cuda.device_count()):
        return None  # as torch.load does by itself
    if kind == "mps" and torch.backends.mps.is_available():
        return None
    return storage.cpu()


_HARMLESS: list[Any] = [
    (dict, "lightning.fabric.utilities.data.AttributeDict"),
    (dict, "lightning_fabric.utilities.data.AttributeDict"),
    Namespace,
    *((Path, f"pathlib.{name}") for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
    *((Path, f"pathlib._local.{name}") for name in ("PosixPath", "WindowsPath")),
]
"""Containers and paths that files of Lightning's may have among the settings, and what is made of them: by these names,
and nothing is imported for it."""


def read_checkpoint(
    path: str | os.PathLike[str] | IO[bytes], weights_only: bool = True, map_location: Any = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint, and check every byte as `verify_checkpoint` does; a damaged one is never returned.

    A second thread checks the elements of tensors while they are loaded; with weights_only=False all is checked first.

    Args:
        path: the file, here or remote, or a binary file object that is open for reading and can seek.
        weights_only: refuse everything but tensors, numbers, strings and containers of them. False runs whatever code
            the file holds: only for files that you trust.
        map_location: where its tensors go, as torch.load understands it; `where_it_was` leaves them on their devices.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds objects that weights_only refuses.
    """
    # Code of the file runs after every byte was checked.
    with _opened(path) as file, _verified(file, path, beside=weights_only):
        try:
            with torch.serialization.safe_globals(_HARMLESS):
                checkpoint = torch.load(file, map_location=map_location, weights_only=weights_only)
        except pickle.UnpicklingError as error:
            found = re.search(r"GLOBAL (\S+)", str(error))
            if found is None and not zipfile.is_zipfile(file):  # it has no checksums that could have told
                raise _damaged(path, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
            cause = f"it holds a {found[1]}" if found else str(error).splitlines()[0]
            raise CheckpointError(
                f"The checkpoint {path} cannot be loaded: it is damaged, or it holds objects other than tensors, "
                f"numbers, strings and containers of them ({cause}). If you trust the file, pass weights_only=False, "
                "which runs the code that it holds."
            ) from error
        except ModuleNotFoundError as error:  # only code that was let run imports anything
            raise CheckpointError(
                f"The checkpoint {path} cannot be loaded: it holds objects of {error.name}, which is not installed. "
                "Install it, load the file and save it anew with plain values in their place."
            ) from error
        except Exception as error:  # damaged bytes can make torch and pickle raise anything
            if isinstance(error, OSError):
                raise _unreadable(path, error) from error
            # torch has no class of its own for it.
            if isinstance(error, MemoryError) or "allocate memory" in str(error):
                raise CheckpointError(
                    f"The checkpoint {path} does not fit into memory ({type(error).__name__}: {error}). Its bytes are "
                    "as they were written; load it where there is more."
                ) from error
            raise _damaged(path, f"{type(error).__name__}: {error}") from error
    return checked_contents(checkpoint, path)


def checked_contents(checkpoint: Any, source: str | os.PathLike[str] | IO[bytes]) -> dict[str, Any]:
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
