"""Where Lightning's users look for layer synchronization, which hookloop does not have; asked for it, it says so."""

from typing import TYPE_CHECKING

from hookloop.absent import absent

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
