"""The file of `SQLiteLog`: what its tables hold, and how it is written.

    runs             run, name, created
    attempts         run, attempt, first, began, ended, status, host, process
    hyperparameters  run, attempt, name, value (JSON)
    points           run, attempt, moment, time, stage, epoch, step, name, value
    metrics          a view: the points of each run as if it had never been interrupted

A run is a training, with all its restarts; an attempt is one process that worked on it. A moment counts the times at
which a run wrote something; an attempt begins with the moment `first`. Nothing is ever removed: what an attempt wrote
after the checkpoint that a later one was resumed from stays in `points`, and is not in `metrics`. Times are seconds
since 1970. A value that is not a number (NaN) is NULL.
"""

import json
import os
import platform
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_ACME = int.from_bytes(b"acme")
_SECONDS_TO_WAIT = 30.0

_SCHEMA = f"""
BEGIN IMMEDIATE;
PRAGMA application_id = {_ACME};
CREATE TABLE IF NOT EXISTS runs (run TEXT PRIMARY KEY, name TEXT NOT NULL, created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS attempts (
    run TEXT NOT NULL REFERENCES runs, attempt INTEGER NOT NULL, first INTEGER NOT NULL, began REAL NOT NULL,
    ended REAL, status TEXT NOT NULL, host TEXT NOT NULL, process INTEGER NOT NULL, PRIMARY KEY (run, attempt)
);
CREATE TABLE IF NOT EXISTS hyperparameters (
    run TEXT NOT NULL, attempt INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (run, attempt, name)
);
CREATE TABLE IF NOT EXISTS points (
    run TEXT NOT NULL, attempt INTEGER NOT NULL, moment INTEGER NOT NULL, time REAL NOT NULL, stage TEXT NOT NULL,
    epoch INTEGER NOT NULL, step INTEGER NOT NULL, name TEXT NOT NULL, value REAL,
    PRIMARY KEY (run, attempt, moment, name)
) WITHOUT ROWID;
CREATE VIEW IF NOT EXISTS metrics AS
    SELECT run, moment, time, stage, epoch, step, name, value FROM points AS point WHERE NOT EXISTS (
        SELECT 1 FROM attempts AS later
        WHERE later.run = point.run AND later.attempt > point.attempt AND later.first <= point.moment
    );
COMMIT;
"""


class Moment(NamedTuple):
    """What a run wrote at one time: its place, and numbers by name."""

    moment: int
    time: float
    stage: str
    epoch: int
    step: int
    values: Mapping[str, float]


class ForeignFileError(sqlite3.DatabaseError):
    """The file is a database of somebody else."""


def prepare(path: Path) -> None:
    """Make the file and its folder if they are not there, and the tables in it.

    Raises:
        OSError: the folder cannot be made.
        sqlite3.Error: the file cannot be written, is no database, or (`ForeignFileError`) somebody else's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(_connection(path)) as connection:
        [[tables]] = connection.execute("SELECT count(*) FROM sqlite_master")
        [[owner]] = connection.execute("PRAGMA application_id")
        if tables and owner != _ACME:
            raise ForeignFileError("it is a database that something else has made")
        connection.executescript(_SCHEMA)


def begin_attempt(path: Path, run: str, name: str, first: int | None, settings: Mapping[str, Any]) -> tuple[int, int]:
    """Note that this process works on a run from now on; the run is made if it is not in the file.

    Args:
        path: the file.
        run: which one.
        name: what people call it.
        first: the moment that it begins with; None is the one after all that are there.
        settings: hyperparameters; what JSON cannot hold is written as its text.

    Returns:
        The attempt, counted from 0, and its first moment.
    """
    with _transaction(path) as connection:
        now = time.time()
        connection.execute("INSERT OR IGNORE INTO runs VALUES (?, ?, ?)", (run, name, now))
        [[attempt]] = connection.execute("SELECT coalesce(max(attempt) + 1, 0) FROM attempts WHERE run = ?", (run,))
        if first is None:
            [[first]] = connection.execute("SELECT coalesce(max(moment) + 1, 0) FROM points WHERE run = ?", (run,))
        row = (run, attempt, first, now, None, "running", platform.node(), os.getpid())
        connection.execute("INSERT INTO attempts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        connection.executemany(
            "INSERT INTO hyperparameters VALUES (?, ?, ?, ?)",
            [(run, attempt, str(key), json.dumps(value, default=str)) for key, value in settings.items()],
        )
    return attempt, first


def write(path: Path, run: str, attempt: int, moments: Sequence[Moment]) -> None:
    """Add moments, all or none."""
    rows = [(run, attempt, *one[:-1], name, value) for one in moments for name, value in one.values.items()]
    with _transaction(path) as connection:
        connection.executemany("INSERT INTO points VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def end_attempt(path: Path, run: str, attempt: int, status: str) -> None:
    """Note how an attempt ended."""
    with _transaction(path) as connection:
        found = (time.time(), status, run, attempt)
        connection.execute("UPDATE attempts SET ended = ?, status = ? WHERE run = ? AND attempt = ?", found)


@contextmanager
def _transaction(path: Path) -> Iterator[sqlite3.Connection]:
    # No connection outlives it: nothing is open in a forked worker, after an exception, or while a node is gone.
    with closing(_connection(path)) as connection, connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=_SECONDS_TO_WAIT, isolation_level=None)
