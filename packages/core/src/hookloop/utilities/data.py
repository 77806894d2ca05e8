"""What can be told of a batch, where Lightning's users look for it."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.batches import extract_batch_size

__all__ = ["extract_batch_size"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
