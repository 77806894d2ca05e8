"""Arguments and attributes, where Lightning's users look for them."""

import importlib
from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.parsing import (
    clean_namespace,
    collect_init_args,
    get_init_args,
    is_picklable,
    lightning_getattr,
    lightning_hasattr,
    lightning_setattr,
    parse_class_init_keys,
)

if TYPE_CHECKING:
    from hookloop.hyperparameters import AttributeDict

__all__ = [
    "AttributeDict",
    "clean_namespace",
    "collect_init_args",
    "get_init_args",
    "is_picklable",
    "lightning_getattr",
    "lightning_hasattr",
    "lightning_setattr",
    "parse_class_init_keys",
]

_HOMES = {"AttributeDict": "hookloop.hyperparameters"}

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise absent(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
