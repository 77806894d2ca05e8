"""Where Lightning's users look for `DoublePrecision`."""

from hookloop.precision import DoublePrecision

__all__ = ["DoublePrecision"]
