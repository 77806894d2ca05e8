"""Checkpoint callbacks for hookloop: `ModelCheckpoint` keeps the best and the last files of a run.

`OnExceptionCheckpoint` saves where a run was when an exception ended it. Installing the distribution is enough: its
factory registers a `ModelCheckpoint(save_last=True)` for every Trainer that is not told `enable_checkpointing=False`
and got no checkpoint callback of its own.
"""

from hookloop_callbacks_checkpoint.factory import factory
from hookloop_callbacks_checkpoint.model_checkpoint import ModelCheckpoint
from hookloop_callbacks_checkpoint.on_exception_checkpoint import OnExceptionCheckpoint
from hookloop_callbacks_checkpoint.requeue import RequeueOnSignal

__all__ = ["ModelCheckpoint", "OnExceptionCheckpoint", "RequeueOnSignal", "factory"]
