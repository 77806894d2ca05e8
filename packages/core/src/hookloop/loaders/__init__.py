"""Where batches come from: which loader, how many batches of it, and one after another.

`combined`, `feed` and `overfit` are imported by those who use them.
"""

from hookloop.loaders.iterate import iterate
from hookloop.loaders.loaders import Loaders
from hookloop.loaders.source import Source

__all__ = ["Loaders", "Source", "iterate"]
