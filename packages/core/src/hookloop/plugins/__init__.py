"""What `Trainer(plugins=...)` takes: how numbers are represented, and where checkpoints are kept."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.checkpoint_io.async_io import AsyncCheckpointIO
from hookloop.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision

__all__ = [
    "AsyncCheckpointIO",
    "CheckpointIO",
    "DoublePrecision",
    "HalfPrecision",
    "MixedPrecision",
    "Precision",
    "TorchCheckpointIO",
]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
