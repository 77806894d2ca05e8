"""Where Lightning's users look for `MixedPrecision`."""

from hookloop.precision import MixedPrecision

__all__ = ["MixedPrecision"]
