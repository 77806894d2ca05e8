"""What the entry point names: the callbacks that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions


def factory(options: TrainerOptions) -> list[Callback]:
    """None, unless they are asked for."""
    return []
