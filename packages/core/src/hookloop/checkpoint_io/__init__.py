"""Who writes and reads checkpoints: `interface`, `torch_io`, and in the background `async_io`, `writer`, `saves`."""

from hookloop.checkpoint_io.interface import CheckpointIO
from hookloop.checkpoint_io.torch_io import TorchCheckpointIO

__all__ = ["CheckpointIO", "TorchCheckpointIO"]
