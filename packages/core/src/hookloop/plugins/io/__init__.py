"""Where checkpoints are kept, as objects for `Trainer(plugins=...)`."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.checkpoint_io.async_io import AsyncCheckpointIO

__all__ = ["AsyncCheckpointIO", "CheckpointIO", "TorchCheckpointIO"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
