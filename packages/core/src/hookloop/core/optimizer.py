"""Where Lightning's users look for `LightningOptimizer`."""

from hookloop.optimizers import LightningOptimizer

__all__ = ["LightningOptimizer"]
