"""Where Lightning's users look for `AsyncCheckpointIO`."""

from hookloop.checkpoint_io.async_io import AsyncCheckpointIO

__all__ = ["AsyncCheckpointIO"]
