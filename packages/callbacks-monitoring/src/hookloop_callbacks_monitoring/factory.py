"""What the entry point names: the callbacks that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions
from hookloop_callbacks_monitoring.timer import Timer


def factory(options: TrainerOptions) -> list[Callback]:
    """A timer for whoever passed `max_time`; nothing else.

    Args:
        options: what the user passed to the Trainer.
    """
    return [] if options.max_time is None else [Timer(options.max_time)]
