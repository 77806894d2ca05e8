"""Where Lightning's users look for `CombinedLoader`."""

import importlib
from typing import TYPE_CHECKING

from hookloop.absent import absent

if TYPE_CHECKING:
    from hookloop.loaders.combined import CombinedLoader

__all__ = ["CombinedLoader"]

_HOMES = {"CombinedLoader": "hookloop.loaders.combined"}

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise absent(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
