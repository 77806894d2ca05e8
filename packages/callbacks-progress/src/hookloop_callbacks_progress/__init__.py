"""Progress bars for hookloop: `TQDMProgressBar`, and `ProgressBar` to write your own.

Installing the distribution is enough: its factory registers a `TQDMProgressBar` for every Trainer that is not told
`enable_progress_bar=False` and got no progress bar of its own.
"""

from hookloop_callbacks_progress.factory import factory
from hookloop_callbacks_progress.progress_bar import ProgressBar
from hookloop_callbacks_progress.tqdm_bar import TQDMProgressBar

__all__ = ["ProgressBar", "TQDMProgressBar", "factory"]
