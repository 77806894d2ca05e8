"""`LightningModule`: a model together with how it is trained, and the hooks that it may override."""

from hookloop.module.module import LightningModule

__all__ = ["LightningModule"]
