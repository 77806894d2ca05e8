"""Where Lightning's users look for `CheckpointIO`."""

from hookloop.checkpoint_io import CheckpointIO

__all__ = ["CheckpointIO"]
