"""Where Lightning's users look for what they do with compiled modules; asked for it, it says what hookloop does."""

from typing import TYPE_CHECKING

from hookloop.absent import absent

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
