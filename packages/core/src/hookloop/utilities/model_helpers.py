"""What a module overrides, where Lightning's users look for it."""

from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.hook_checks import is_overridden

__all__ = ["is_overridden"]

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
