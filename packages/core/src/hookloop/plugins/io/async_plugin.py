"""Where Lightning's users look for `AsyncCheckpointIO`."""

from hookloop.async_checkpoint_io import AsyncCheckpointIO

__all__ = ["AsyncCheckpointIO"]
