"""Where Lightning's users look for `Precision`."""

from hookloop.precision import Precision

__all__ = ["Precision"]
