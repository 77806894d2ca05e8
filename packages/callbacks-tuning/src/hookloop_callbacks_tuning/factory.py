"""What the entry point names: the callbacks that a Trainer gets by default."""

import json
import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_tuning.accumulation import GradientAccumulationScheduler

ACCUMULATION = "HOOKLOOP_ACCUMULATION"


def factory(options: TrainerOptions) -> list[Callback]:
    """A `GradientAccumulationScheduler` where HOOKLOOP_ACCUMULATION has a schedule, such as "0:1,4:2"; none otherwise.

    Args:
        options: what the user passed to the Trainer.

    Raises:
        MisconfigurationError: a variable has a value that the callback does not take.
    """
    callbacks: list[Callback] = []
    if text := os.environ.get(ACCUMULATION):
        try:
            schedule = {int(key): int(value) for key, value in (one.split(":") for one in text.split(","))}
            callbacks.append(GradientAccumulationScheduler(schedule))
        except ValueError as error:
            raise MisconfigurationError(
                f'{ACCUMULATION}={json.dumps(text)} must be factors by epochs, such as "0:1,4:2": {error}'
            ) from error
    return callbacks
