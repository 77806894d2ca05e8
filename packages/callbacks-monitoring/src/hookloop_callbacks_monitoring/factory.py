"""What the entry point names: the callbacks that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions


def factory(options: TrainerOptions) -> list[Callback]:
    """None: whether a run is to end early, and what is to be logged, is for the user to say."""
    return []
