"""Modules that went through torch.compile, where Lightning's users look for them."""

import importlib
from typing import TYPE_CHECKING

from hookloop.absent import absent

if TYPE_CHECKING:
    from hookloop.module.compiled import from_compiled, to_uncompiled

__all__ = ["from_compiled", "to_uncompiled"]

_HOMES = {"from_compiled": "hookloop.module.compiled", "to_uncompiled": "hookloop.module.compiled"}

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise absent(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
