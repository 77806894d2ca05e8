"""A folder of predictions: which files are in it, how they get there, and what is said of them as a whole.

    predictions.json                        what the prediction is, and whether it is complete
    part-0-0-00000000-00000100.pt           loader 0, rank 0, batches 0 to 99

A file of one of these names is always whole: it is written beside, synced, and renamed.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple
from uuid import uuid4

from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.storage import PARTIAL
from hookloop.storage.disk_errors import explained

PLAN = "predictions.json"
VERSION = 1

_PART = re.compile(r"part-(\d+)-(\d+)-(\d{8,})-(\d{8,})\.([a-z]+)")


class Part(NamedTuple):
    """A file of batches: those of a loader and a rank from `begin` on, before `end`."""

    loader: int
    rank: int
    begin: int
    end: int
    format: str

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"part-{self.loader}-{self.rank}-{self.begin:08d}-{self.end:08d}.{self.format}"


@dataclass(frozen=True)
class Plan:
    """What a prediction is: two that differ in it cannot be one.

    Attributes:
        format: of its parts.
        batches: of each loader and rank; None where nobody can tell.
        ranks: how many processes write.
        weights: a digest of the module's state_dict; "" if that was not to be checked.
    """

    format: str
    batches: list[int | None]
    ranks: int
    weights: str

    def differences(self, other: "Plan") -> list[str]:
        """In words, what another one has differently."""
        told = [
            f"{name}: {getattr(self, name)} then, {getattr(other, name)} now"
            for name in ("format", "batches", "ranks")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.weights and other.weights and self.weights != other.weights:
            told.append("the model has other weights now")
        return told


class Folder:
    """Where a prediction is written.

    Args:
        path: the folder; made by the first file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self) -> tuple[Plan, bool] | None:
        """What is there, and whether it is complete; None if nothing is.

        Raises:
            HookloopError: the file that says so cannot be read.
        """
        try:
            told: dict[str, Any] = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
            complete, version = bool(told.pop("complete")), told.pop("version")
            if version != VERSION:
                raise ValueError(f"it is of version {version}, and this package writes version {VERSION}")
            return Plan(**told), complete
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise HookloopError(
                f"{self.path / PLAN} cannot be read ({error}), so nobody can tell which predictions are in its folder. "
                "Delete the folder, or choose another one."
            ) from error

    def write_plan(self, plan: Plan, complete: bool) -> None:
        """Say what the prediction is, and whether it is complete."""
        text = json.dumps({"version": VERSION, **asdict(plan), "complete": complete}, indent=2) + "\n"
        self.write(PLAN, lambda file: file.write(text.encode()))

    def parts(self) -> list[Part]:
        """The parts that are there, by loader, rank and batch."""
        try:
            names = [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []
        found = (_PART.fullmatch(name) for name in names)
        return sorted(Part(int(one[1]), int(one[2]), int(one[3]), int(one[4]), one[5]) for one in found if one)

    def path_of(self, part: Part) -> Path:
        """Where a part is."""
        return self.path / part.name

    def remove(self, parts: list[Part]) -> None:
        """Remove parts."""
        for part in parts:
            self.path_of(part).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove the prediction that is there. Files of other names stay."""
        (self.path / PLAN).unlink(missing_ok=True)  # first: what is left of the parts is never taken for a prediction
        self.remove(self.parts())

    def remove_unfinished(self) -> None:
        """Remove what a process that was killed had begun to write."""
        for path in self.path.glob(f".*{PARTIAL}"):
            if path.name.startswith((".part-", f".{PLAN}")):
                path.unlink(missing_ok=True)

    def write(self, name: str, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file, which has its name when it is complete and on disk.

        Raises:
            HookloopError: it could not be written; the message says why.
        """
        beside = self.path / f".{name}-{uuid4().hex[:8]}{PARTIAL}"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            try:
                with beside.open("wb") as file:
                    write(file)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(beside, self.path / name)  # noqa: PTH105
            finally:
                beside.unlink(missing_ok=True)
            folder = os.open(self.path, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise HookloopError(
                f"The predictions could not be written to {self.path / name}. {explained(error)} What was written "
                "before is whole, and a prediction that is run again goes on behind it."
            ) from error


def prefix(parts: list[Part]) -> tuple[list[Part], int]:
    """Of one loader's and rank's parts, those that follow each other from batch 0 on, and how many batches they hold.

    What lies behind a gap belongs to no prediction that could be gone on with.
    """
    kept: list[Part] = []
    done = 0
    for part in sorted(parts):
        if part.begin == done and part.end > done:
            kept.append(part)
            done = part.end
    return kept, done


def checked_folder(path: object) -> Path:
    """A folder of this machine as an absolute path.

    Raises:
        MisconfigurationError: it is no path, it has a protocol, or it is a file.
    """
    from hookloop.storage import is_remote, local_path

    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise MisconfigurationError(f"PredictionWriter(folder={path!r}) must be the path of a folder.")
    if is_remote(path):
        raise MisconfigurationError(
            f"PredictionWriter(folder={os.fspath(path)!r}) must be a folder of this machine: parts are renamed when "
            "they are complete. Write there, and copy the folder when the prediction is done."
        )
    folder = local_path(path).expanduser().absolute()
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if not there.is_dir():
        raise MisconfigurationError(
            f"PredictionWriter(folder={os.fspath(path)!r}) must be a folder, and {str(there)!r} is a file. Choose "
            "another one."
        )
    return folder
