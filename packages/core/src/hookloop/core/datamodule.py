"""Where Lightning's users look for `LightningDataModule`."""

from hookloop.datamodule import LightningDataModule

__all__ = ["LightningDataModule"]
