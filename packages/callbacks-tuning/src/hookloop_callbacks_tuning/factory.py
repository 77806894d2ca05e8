"""What the entry point names: the callbacks that a Trainer gets by default."""

import json
import os
import re
from collections.abc import Sequence

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_tuning.accumulation import GradientAccumulationScheduler
from hookloop_callbacks_tuning.curve import METHODS
from hookloop_callbacks_tuning.rate_finder import LearningRateFinder
from hookloop_callbacks_tuning.size_finder import MODES, BatchSizeFinder

ACCUMULATION, RATE, SIZE = "HOOKLOOP_ACCUMULATION", "HOOKLOOP_FIND_LR", "HOOKLOOP_FIND_BATCH_SIZE"


def factory(options: TrainerOptions) -> list[Callback]:
    """What environment variables ask for; none otherwise.

    HOOKLOOP_ACCUMULATION has the schedule of a `GradientAccumulationScheduler`, such as "0:1,4:2"; HOOKLOOP_FIND_LR the
    method of a `LearningRateFinder`; HOOKLOOP_FIND_BATCH_SIZE the mode of a `BatchSizeFinder`.

    Args:
        options: what the user passed to the Trainer.

    Raises:
        MisconfigurationError: a variable has a value that the callback does not take.
    """
    callbacks: list[Callback] = []
    if text := os.environ.get(ACCUMULATION):
        callbacks.append(_scheduler(text))
    if method := os.environ.get(RATE):
        _check(RATE, method, METHODS)
        callbacks.append(LearningRateFinder(method=method))  # type: ignore[arg-type]
    if mode := os.environ.get(SIZE):
        _check(SIZE, mode, MODES)
        callbacks.append(BatchSizeFinder(mode))  # type: ignore[arg-type]
    return callbacks


def _scheduler(text: str) -> GradientAccumulationScheduler:
    wanted = f'{ACCUMULATION}={json.dumps(text)} must be factors by epochs, such as "0:1,4:2"'
    if re.fullmatch(r"\s*\d+\s*:\s*\d+\s*(,\s*\d+\s*:\s*\d+\s*)*", text) is None:
        raise MisconfigurationError(f"{wanted}.")
    try:
        return GradientAccumulationScheduler(
            {int(key): int(value) for key, value in re.findall(r"(\d+)\D+(\d+)", text)}
        )
    except ValueError as error:
        raise MisconfigurationError(f"{wanted}: {error}") from error


def _check(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise MisconfigurationError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}.")
