"""`Record`: which files a checkpoint callback keeps, and what becomes of them with a new one. No file is touched."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from hookloop.monitor import Monitor


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is kept for its score, or because it is the newest.

    Attributes:
        path: where it is.
        score: the score of the weights in it; None if nothing is monitored, or it was not known.
    """

    path: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What a callback remembers of its files; part of every checkpoint, in plain strings and numbers.

    Attributes:
        kept: the files by age, the oldest first.
        best: path of the best of them, "" if there is none.
        last: the newest state, under a name of its own; "" if there is none.
        current_score: the score of the newest state that had one.
        leaving: files that were replaced and are not deleted yet.
    """

    kept: tuple[Kept, ...] = ()
    best: str = ""
    last: str = ""
    current_score: float | None = None
    leaving: tuple[str, ...] = ()

    @property
    def best_score(self) -> float | None:
        """The score of the best file."""
        return next((one.score for one in self.kept if one.path == self.best), None)

    def scores(self) -> dict[str, float]:
        """The files that have a score."""
        return {one.path: one.score for one in self.kept if one.score is not None}

    def paths(self) -> Iterator[str]:
        """All files that it names as being there, each once."""
        return iter(dict.fromkeys(path for path in (*(one.path for one in self.kept), self.last) if path))

    def worst(self, monitor: Monitor) -> Kept | None:
        """The file with a score that goes first: the newer one of two that are equally bad."""
        worst: Kept | None = None
        for one in self.kept:
            if one.score is None:
                continue
            if worst is None or worst.score is None or not monitor.improved(one.score, worst.score):
                worst = one
        return worst

    def has_room(self, score: float | None, top_k: int, monitor: Monitor | None) -> bool:
        """Whether a state with this score is kept.

        Args:
            score: None where nothing is monitored.
            top_k: how many files are kept; -1 is all of them.
            monitor: which way is better; None: the newest files are kept.
        """
        if top_k == 0:
            return False
        if top_k < 0 or monitor is None or len(self.kept) < top_k:
            return True
        worst = self.worst(monitor)
        return score is None or worst is None or worst.score is None or monitor.improved(score, worst.score)

    def displaced(self, top_k: int, monitor: Monitor | None) -> tuple[str, ...]:
        """The files that a new one of `top_k` puts out of the record."""
        if top_k < 0:
            return ()
        record, gone = self, []
        while len(record.kept) >= max(top_k, 1):
            out = record.kept[0]
            if monitor is not None:
                out = next((one for one in record.kept if one.score is None), None) or record.worst(monitor) or out
            gone.append(out.path)
            record = replace(record, kept=tuple(one for one in record.kept if one is not out))
        return tuple(gone)

    def with_file(self, path: str, score: float | None, top_k: int, monitor: Monitor | None) -> Self:
        """The record once a new file is there; what it displaces is leaving."""
        gone = self.displaced(top_k, monitor)
        kept = tuple(one for one in self.kept if one.path not in gone and one.path != path)
        kept = (*kept, Kept(path, score))
        leaving = tuple(dict.fromkeys(one for one in (*self.leaving, *gone) if one != path))
        return replace(self, kept=kept, best=_best(kept, monitor), leaving=leaving)

    def with_last(self, path: str) -> Self:
        """The record once `last` is there; one of another name is leaving."""
        leaving = [one for one in self.leaving if one != path]
        if self.last and self.last != path and all(one.path != self.last for one in self.kept):
            leaving.append(self.last)
        return replace(self, last=path, leaving=tuple(dict.fromkeys(leaving)))

    def without(self, gone: Iterable[str], monitor: Monitor | None) -> Self:
        """The record without files that are not there any more."""
        lost = set(gone)
        kept = tuple(one for one in self.kept if one.path not in lost)
        best = self.best if self.best not in lost else _best(kept, monitor)
        leaving = tuple(path for path in self.leaving if path not in lost)
        return replace(self, kept=kept, best=best, last="" if self.last in lost else self.last, leaving=leaving)

    def mapped(self, change: Callable[[str], str]) -> Self:
        """The record with other paths."""
        return replace(
            self,
            kept=tuple(Kept(change(one.path), one.score) for one in self.kept),
            best=change(self.best) if self.best else "",
            last=change(self.last) if self.last else "",
            leaving=tuple(change(path) for path in self.leaving),
        )

    def state_dict(self) -> dict[str, Any]:
        """The record in plain strings and numbers; the names of its entries are those that Lightning's users know."""
        return {
            "best_k_models": {one.path: one.score for one in self.kept},
            "best_model_path": self.best,
            "best_model_score": self.best_score,
            "last_model_path": self.last,
            "current_score": self.current_score,
            "leaving": list(self.leaving),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The record in a state. What is missing there is as if nothing had been saved."""
        best = str(state.get("best_model_path") or "")
        scores = dict(state.get("best_k_models") or {})
        if best and best not in scores:
            scores[best] = state.get("best_model_score")
        return cls(
            kept=tuple(Kept(str(path), _number(score)) for path, score in scores.items()),
            best=best,
            last=str(state.get("last_model_path") or ""),
            current_score=_number(state.get("current_score")),
            leaving=tuple(map(str, state.get("leaving") or ())),
        )


def _best(kept: tuple[Kept, ...], monitor: Monitor | None) -> str:
    """The best file; the oldest of several that are equally good. Without a monitor, the newest."""
    if not kept:
        return ""
    if monitor is None:
        return kept[-1].path
    best: Kept | None = None
    for one in kept:
        if one.score is None:
            continue
        if best is None or best.score is None or monitor.improved(one.score, best.score):
            best = one
    return best.path if best is not None else ""


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
