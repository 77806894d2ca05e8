"""`Run`, what one entry point works with; and `moment`, what a save in the middle of it writes."""

from hookloop.run.run import GoOn, Run

__all__ = ["GoOn", "Run"]
