"""`Record`: what a checkpoint callback remembers of the files that it wrote."""

from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Record:
    """Which files are the best and the last; part of every checkpoint, in plain strings and numbers.

    Attributes:
        best_model_path: the best file, "" if there is none.
        best_model_score: its score, None if there is none or nothing is monitored.
        last_model_path: the last file, "" if there is none.
        current_score: the score of the newest save.
    """

    best_model_path: str = ""
    best_model_score: float | None = None
    last_model_path: str = ""
    current_score: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The record in a state. What is missing there is as if nothing had been saved."""
        empty = cls()
        return cls(
            best_model_path=str(state.get("best_model_path", empty.best_model_path)),
            best_model_score=_number(state.get("best_model_score")),
            last_model_path=str(state.get("last_model_path", empty.last_model_path)),
            current_score=_number(state.get("current_score")),
        )


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
