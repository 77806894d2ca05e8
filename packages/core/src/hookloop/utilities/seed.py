"""Random numbers, where Lightning's users look for them."""

from hookloop.random_state import isolated_random_state as isolate_rng

__all__ = ["isolate_rng"]
