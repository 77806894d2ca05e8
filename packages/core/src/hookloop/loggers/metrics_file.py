"""A CSV file of numbers that grows by rows and, now and then, by columns."""

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

_QUOTED = re.compile(r'[",\r\n]')


class MetricsFile:
    """Rows of named numbers, collected in memory and written in batches.

    The first line is the header; every row has a cell for each column, empty where it has no number. A row with names
    that the file has no column for makes new columns on the right: the file is copied beside itself, row by row, and
    renamed. So the file on disk is at every moment a whole one with all the rows of all finished flushes. A file that
    exists is continued. Rows end in a line feed; a last line without one was cut off by the death of the process that
    wrote it, and is removed.

    Args:
        path: the file. The first flush that has rows makes it, and its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._pending: list[Mapping[str, float]] = []
        self._columns: dict[str, None] | None = None

    @property
    def pending(self) -> int:
        """How many rows are in memory only."""
        return len(self._pending)

    def append(self, row: Mapping[str, float]) -> None:
        """Add a row in memory. The mapping belongs to the file from now on."""
        self._pending.append(row)

    def flush(self) -> None:
        """Write the rows that are in memory.

        Raises:
            OSError: the disk refused. The file is as it was before, the rows stay in memory, and the next flush tries
                again.
        """
        if not self._pending:
            return
        size = self._size()
        # Somebody may have removed the file since the last flush.
        if self._columns is None or not size:
            self._columns = self._continue() if size else {}
            size = self._size()
        columns = dict.fromkeys(chain(self._columns, *self._pending))
        # Numbers need no quotes, and str() of a float reads back as the same one.
        rows = "".join(",".join([str(row.get(name, "")) for name in columns]) + "\n" for row in self._pending)
        if size and len(columns) == len(self._columns):
            self._extend(rows, size)
        else:
            self._rewrite(list(columns), rows)
            self._columns = columns
        self._pending = []

    def _size(self) -> int:
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def _continue(self) -> dict[str, None]:
        """Make an existing file end in a whole line, and read its columns."""
        with self.path.open("r+b") as file:
            file.truncate(_end_of_last_line(file))
        with self.path.open(encoding="utf-8", newline="") as text:
            return dict.fromkeys(next(csv.reader(text), []))

    def _extend(self, rows: str, size: int) -> None:
        with self.path.open("ab", buffering=0) as file:
            left = memoryview(rows.encode())
            try:
                while left:
                    left = left[file.write(left) :]
            except BaseException:
                file.truncate(size)
                raise

    def _rewrite(self, columns: Sequence[str], rows: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f"{self.path.name}.new")
        try:
            with beside.open("w", encoding="utf-8", newline="") as file:
                file.write(_line(columns))
                file.writelines(_line(row + [""] * (len(columns) - len(row))) for row in self._rows())
                file.write(rows)
                file.flush()
                # Without it, a power cut after the rename may leave an empty file where all rows were.
                os.fsync(file.fileno())
            beside.replace(self.path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _rows(self) -> Iterator[list[str]]:
        if not self._size():
            return
        with self.path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            yield from reader


def _line(cells: Sequence[str]) -> str:
    # The standard library's writer leaves a lone carriage return without quotes, and its reader takes it for the end
    # of a line.
    if any(map(_QUOTED.search, cells)):
        cells = [_quote(cell) if _QUOTED.search(cell) else cell for cell in cells]
    return ",".join(cells) + "\n"


def _quote(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def _end_of_last_line(file: io.BufferedRandom) -> int:
    """Position after the last line feed; 0 where there is none."""
    position = file.seek(0, io.SEEK_END)
    while position > 0:
        start = max(0, position - io.DEFAULT_BUFFER_SIZE)
        file.seek(start)
        found = file.read(position - start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        position = start
    return 0
