"""What the entry point names: the progress bar that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions
from hookloop_callbacks_progress.tqdm_bar import TQDMProgressBar


def factory(options: TrainerOptions) -> list[Callback]:
    """A `TQDMProgressBar`, or nothing where the user said `enable_progress_bar=False`."""
    if options.enable_progress_bar is False:
        return []
    return [TQDMProgressBar()]
