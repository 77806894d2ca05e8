"""What the entry point names: the callbacks that a Trainer gets by default."""

import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_prediction.writer import PredictionWriter

FOLDER, FORMAT, RERUN = "HOOKLOOP_PREDICTIONS", "HOOKLOOP_PREDICTIONS_FORMAT", "HOOKLOOP_PREDICTIONS_RERUN"


def factory(options: TrainerOptions) -> list[Callback]:
    """A `PredictionWriter` where HOOKLOOP_PREDICTIONS names a folder; none otherwise.

    HOOKLOOP_PREDICTIONS_FORMAT and HOOKLOOP_PREDICTIONS_RERUN are its arguments of these names.

    Args:
        options: what the user passed to the Trainer.

    Raises:
        MisconfigurationError: a value that the writer does not take, or one of the other two variables without the
            first.
    """
    given = {name: value for name in (FOLDER, FORMAT, RERUN) if (value := os.environ.get(name))}
    if not given:
        return []
    if FOLDER not in given:
        raise MisconfigurationError(
            f"{next(iter(given))} is set, and {FOLDER} is not, which names the folder to write to. Set both, or none."
        )
    arguments = {
        name: given[variable] for name, variable in (("format", FORMAT), ("rerun", RERUN)) if variable in given
    }
    try:
        return [PredictionWriter(given[FOLDER], **arguments)]  # type: ignore[arg-type]
    except MisconfigurationError as error:
        told = ", ".join(f"{name}={value}" for name, value in given.items())
        raise MisconfigurationError(f"The environment has {told}. {error}") from error
