"""What the entry point names: the callbacks that every Trainer gets by default."""

import os
from datetime import timedelta

from hookloop import Callback, TrainerOptions

from acme_callbacks.budget import Budget
from acme_callbacks.sqlite_log import SQLiteLog


def factory(options: TrainerOptions) -> list[Callback]:
    """A `SQLiteLog`, and a `Budget` where the environment asks for one; nothing in a trial run.

    ACME_RUNS is the file of the log, ACME_BUDGET_HOURS and ACME_BUDGET_STEPS are what a training may use up in all. A
    budget ends a run earlier, so no Trainer has one that nobody asked for.

    Args:
        options: what the user passed to the Trainer.

    Raises:
        ValueError: a variable holds no number.
    """
    if options.fast_dev_run:
        return []
    callbacks: list[Callback] = [SQLiteLog(os.environ.get("ACME_RUNS") or None)]
    hours, steps = _number("ACME_BUDGET_HOURS"), _number("ACME_BUDGET_STEPS")
    if hours is not None or steps is not None:
        wall_time = None if hours is None else timedelta(hours=hours)
        callbacks.append(Budget(steps=None if steps is None else int(steps), wall_time=wall_time))
    return callbacks


def _number(variable: str) -> float | None:
    text = os.environ.get(variable)
    if not text:
        return None
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{variable}={text!r} is no number. Write one, such as 12.5, or unset it.") from None
