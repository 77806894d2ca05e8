"""What people read of the files: the line that is printed, and the list of the best ones."""

import json
import math
from collections.abc import Mapping

from hookloop_callbacks_checkpoint.record import Record


def report(monitor: str | None, top_k: int, before: Record, after: Record) -> str:
    """One line for a file that was saved.

    Args:
        monitor: key of the metric that ranks files; None if none does.
        top_k: how many files are kept; -1 is all of them.
        before: the record without it.
        after: the record with it, as the newest.
    """
    new = after.kept[-1]
    if new.score is None:
        return f"Saved {new.path}"
    if new.path != after.best:
        among = "" if top_k < 0 else f" is among the best {top_k}"
        return f"{monitor}={new.score:.4g}{among}: saved {new.path}"
    was = "" if before.best_score is None else f" (was {before.best_score:.4g})"
    return f"{monitor}={new.score:.4g} is the best so far{was}: saved {new.path}"


def as_yaml(scores: Mapping[str, float]) -> str:
    """Paths and their scores, a line each."""
    return "".join(f"{json.dumps(path)}: {_number(score)}\n" for path, score in scores.items()) or "{}\n"


def _number(score: float) -> str:
    if math.isnan(score):
        return ".nan"
    return repr(score) if math.isfinite(score) else f"{'-' if score < 0 else ''}.inf"
