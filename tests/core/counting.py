"""Counts Python calls: what the public kit offers, under the name that these tests use."""

from hookloop.testing.counting import SETTLED, calls_between, calls_of, calls_per_step

__all__ = ["SETTLED", "calls_between", "calls_of", "calls_per_step"]
