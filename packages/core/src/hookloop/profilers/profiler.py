"""What the trainer asks of a profiler."""

import os
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from hookloop.errors import MisconfigurationError

_LONGEST = 180
"""Characters of a file's name; most file systems end at 255 bytes, and endings and the like come after these."""


class Profiler:
    """Is told when actions start and stop.

    A subclass overrides `start` and `stop`, which do nothing here, and `summary`. As with hooks, only what is
    overridden is called: `timed` leaves a call as it is when neither `start` nor `stop` is.

    Where the summary goes (`describe`): to standard output, or into a file if `dirpath` or `filename` was given.

    Args:
        dirpath: folder of the file, made when it is written; None: the run's log_dir, or the current folder if the run
            has none.
        filename: the file is named `<stage>-<filename>-<local rank>.txt`, without the parts that are not known; None:
            "profile" if dirpath was given, otherwise there is no file.
    """

    # Also the values for a subclass that does not call this class's __init__.
    _dirpath: Path | None = None
    _filename: str | None = None
    _stage: str | None = None
    _local_rank: int | None = None
    _log_dir: str | None = None

    def __init__(self, dirpath: str | os.PathLike[str] | None = None, filename: str | None = None) -> None:
        if dirpath is not None:
            self._dirpath = Path(dirpath).expanduser()
            filename = filename or "profile"
        self._filename = filename

    def start(self, action_name: str) -> None:
        """An action starts. Actions may be nested, in one of the same name too."""

    def stop(self, action_name: str) -> None:
        """The action that was started last under this name, and has not stopped yet, stops."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """The body of the `with` is the action. It stops when the body raises, too."""
        return self._profiled(action_name)

    @contextmanager
    def _profiled(self, action_name: str) -> Iterator[str]:
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        """A run begins.

        Args:
            stage: "fit", "validate", "test" or "predict".
            local_rank: number of this process on its machine; None: it is the only one.
            log_dir: folder of the run's logs; None: it has none.
        """
        self._stage = stage
        self._local_rank = local_rank
        self._log_dir = log_dir

    def watch(self, module: Any) -> None:
        """The module of the run that was set up, before its first action.

        Args:
            module: a `torch.nn.Module`.
        """

    def teardown(self, stage: str) -> None:
        """A run ends, after an error too. Called after `describe`.

        Args:
            stage: as in `setup`.
        """

    def summary(self) -> str:
        """What was measured, as text of several lines; empty if there is nothing to tell."""
        return ""

    def describe(self) -> None:
        """Write the summary to the file, in place of an earlier one, or print it on the process of local rank 0.

        Nothing happens when the summary is empty.
        """
        path = self.output_path
        if path is None and self._local_rank not in (None, 0):
            return
        text = self.summary()
        if not text:
            return
        if path is None:
            print(text)
            return
        make_folder_of(path)
        path.write_text(f"{text}\n", encoding="utf-8")

    @property
    def output_path(self) -> Path | None:
        """The file that `describe` writes, for the run that was set up last; None: it prints."""
        return None if self._filename is None else self._file(".txt")

    def _file(self, ending: str, *parts: str) -> Path:
        """A file of the run that was set up last: `<stage>-<filename>-<local rank>-<parts><ending>`."""
        rank = None if self._local_rank is None else str(self._local_rank)
        name = "-".join(part for part in (self._stage, self._filename or "profile", rank, *parts) if part is not None)
        # Names of actions hold characters that some file systems refuse, and callbacks' keys make them long.
        safe = re.sub(r"[\\/:*?\"<>|\n\r\t]+", "_", name)
        if len(safe) > _LONGEST:
            safe = f"{safe[:_LONGEST]}-{sha256(name.encode()).hexdigest()[:8]}"
        return (self._dirpath or Path(self._log_dir or "")) / f"{safe}{ending}"


def make_folder_of(path: Path) -> None:
    """Make the folder of a file that a profiler is about to write.

    Raises:
        MisconfigurationError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MisconfigurationError(
            f"The profiler cannot write to {str(path.parent)!r} ({type(error).__name__}: {error.strerror}). Give it "
            "another folder: dirpath=..., or leave dirpath and filename out to print the summary."
        ) from error
