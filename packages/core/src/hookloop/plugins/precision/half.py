"""Where Lightning's users look for `HalfPrecision`."""

from hookloop.precision import HalfPrecision

__all__ = ["HalfPrecision"]
