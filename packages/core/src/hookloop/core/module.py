"""Where Lightning's users look for `LightningModule`."""

from hookloop.module import LightningModule

__all__ = ["LightningModule"]
