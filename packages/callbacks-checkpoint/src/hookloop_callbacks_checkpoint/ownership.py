"""`Ownership`: which files a callback may write over and delete, because it wrote them itself."""

import os
from collections.abc import Collection
from dataclasses import replace
from typing import Any
from uuid import uuid4

from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import files
from hookloop_callbacks_checkpoint.record import Record


class Ownership:
    """Tells the files of one callback in one run from all others.

    A run is one training, in however many processes: it has a random name from its first fit on, which stands in every
    file, beside the note which callback wrote that file. A process that is resumed from a file takes over its name, and
    with it the files. A fit that begins anew has a new name, unless the same callback object goes on.

    Attributes:
        run: the name; "" before the first fit.
        own: paths of files that this callback wrote, as far as it knows.
    """

    def __init__(self) -> None:
        self.run = ""
        self.own: set[str] = set()

    def begin(self, trainer: TrainerView) -> None:
        """A fit begins: it needs a name, the same on all ranks."""
        self.run = trainer.strategy.broadcast(self.run or uuid4().hex)

    def is_own(self, path: str) -> bool:
        """Whether this callback wrote a file; if that is not known, the file is asked."""
        if path not in self.own and self._whose(path):
            self.own.add(path)
        return path in self.own

    def _whose(self, path: str) -> bool | None:
        """Whether a file says that this run's callback wrote it; None if it does not say who did."""
        states = [state for state in files.states_in(path) if "run" in state and "writes" in state]
        if not states:
            return None
        return any(state["run"] == self.run and state["writes"] for state in states)

    def free_path(
        self,
        trainer: TrainerView,
        folder: str,
        names: tuple[str, str],
        first_version: tuple[str, int],
        stay: Collection[str] = (),
        replaces: bool = False,
    ) -> tuple[str, str | None]:
        """A path for a new file, at which there is nothing but what this callback may write over.

        Args:
            trainer: the trainer.
            folder: of the file.
            names: the file's name in it, and the suffix.
            first_version: what stands before a version's number, and the first number.
            stay: own files that are not to be written over.
            replaces: whether files of others are written over.

        Returns:
            The path, the same on all ranks, and the file of somebody else that is in the way of it without a version.
        """
        answer: tuple[str, str | None] = "", None
        if trainer.is_global_zero:
            name, suffix = names
            before, version = first_version
            path, in_the_way = files.join(folder, f"{name}{suffix}"), None
            while not replaces and (path in stay or (files.exists(path) and not self.is_own(path))):
                in_the_way = in_the_way or (None if path in stay else path)
                path = files.join(folder, f"{name}{before}{version}{suffix}")
                version += 1
            answer = path, in_the_way
        # All ranks take the path of rank zero: another one may look when the file has come into being.
        chosen: tuple[str, str | None] = trainer.strategy.broadcast(answer)
        return chosen

    def take_over(self, trainer: TrainerView, record: Record, folder: str, folder_before: str | None) -> Record:
        """A restored record with the paths at which its files are now; those that are this run's become own.

        A file may be in the folder of this process, beside the file that the run was resumed from, or where it was.
        What is found nowhere keeps the path that it would have here.

        Args:
            trainer: the trainer.
            record: as it was saved, with paths relative to the folder of that process.
            folder: where this process saves.
            folder_before: where that process saved.
        """
        own: list[str] = []
        if trainer.is_global_zero:
            beside = None if trainer.ckpt_path is None else _folder_above(trainer.ckpt_path, record)
            trusted = [one for one in (beside, folder_before) if one]
            leaving = set(record.leaving)

            def find(path: str) -> str:
                for candidate in dict.fromkeys((folder, *trusted)) if files.is_relative(path) else ("",):
                    place = files.join(candidate, path) if candidate else path
                    if not files.is_there(place, trainer):
                        continue
                    whose = self._whose(place)
                    # A file of weights alone does not say whose it is. It is believed to be the one that it was; but
                    # not if it should have been deleted long since.
                    if whose or (whose is None and path not in leaving and (not candidate or candidate in trusted)):
                        own.append(place)
                        return place
                return files.join(folder, path) if files.is_relative(path) else path

            record = record.mapped(find)
            record = replace(record, leaving=tuple(path for path in record.leaving if path in own))
        record, own = trainer.strategy.broadcast((record, own))
        self.own |= set(own)
        return record

    def later_state(self, trainer: TrainerView, folder: str, suffix: str) -> dict[str, Any] | None:
        """The state in a file that this callback wrote at the step that the run was resumed at; None without one.

        Several callbacks save one after the other, and the file of the first does not know yet what the second one
        kept and deleted a moment later.
        """
        state: dict[str, Any] | None = None
        if trainer.is_global_zero and trainer.ckpt_path is not None and trainer.global_step:
            for path in files.checkpoints_in([folder], suffix, not_before=trainer.ckpt_path):
                for one in files.states_in(path):
                    saved_at = one.get("saved_at")
                    if one.get("run") == self.run and one.get("writes") and saved_at:
                        state = one if saved_at[2] == trainer.global_step else state
                if state is not None:
                    break
        answer: dict[str, Any] | None = trainer.strategy.broadcast(state)
        return answer


def _folder_above(path: str | os.PathLike[str], record: Record) -> str:
    """The folder to which a record's paths are relative, if it was read from this file."""
    where = files.absolute(path)
    for name in record.paths():
        if files.is_relative(name) and where.endswith(f"/{name}"):
            return where[: -len(name) - 1]
    return files.folder_of(where)
