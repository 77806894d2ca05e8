"""Checkpoint callbacks for hookloop: `ModelCheckpoint` keeps the best and the last file of a run.

Installing the distribution is enough: its factory registers a `ModelCheckpoint(save_last=True)` for every Trainer that
is not told `enable_checkpointing=False` and got no checkpoint callback of its own.
"""

from hookloop_callbacks_checkpoint.factory import factory
from hookloop_callbacks_checkpoint.model_checkpoint import ModelCheckpoint

__all__ = ["ModelCheckpoint", "factory"]
