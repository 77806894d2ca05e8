"""Where Lightning's users look for `TorchCheckpointIO`."""

from hookloop.checkpoint_io import TorchCheckpointIO

__all__ = ["TorchCheckpointIO"]
