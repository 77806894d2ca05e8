"""Discovery: from the entry points of installed packages to the callbacks that a Trainer has by default.

A package registers a factory in the group `hookloop.callbacks_factory` (`name = "module:function"`), and the classes
that `hookloop.callbacks` shall offer in the group `hookloop.callbacks` (`ClassName = "module:ClassName"`). What else
the core has a place for, such as `hookloop.tuner.Tuner`, goes by the group `hookloop.names`. The groups are read once
per process; a package is imported when something of it is used, and not before.

To read what is installed needs no torch. What imports packages, and torch with them, is loaded when it is used.
"""

import importlib
from typing import TYPE_CHECKING

from hookloop.discovery.entries import CLASS_GROUP, FACTORY_GROUP, NAME_GROUP, forget_entry_points
from hookloop.discovery.provenance import Provenance, provenance
from hookloop.discovery.selection import DISABLE_VARIABLE

if TYPE_CHECKING:
    from hookloop.discovery.classes import callback_class, callback_class_names, name_at
    from hookloop.discovery.defaults import registered_callbacks

__all__ = [
    "CLASS_GROUP",
    "DISABLE_VARIABLE",
    "FACTORY_GROUP",
    "NAME_GROUP",
    "Provenance",
    "callback_class",
    "callback_class_names",
    "forget_entry_points",
    "name_at",
    "provenance",
    "registered_callbacks",
]

_HOMES = {
    "callback_class": "classes",
    "callback_class_names": "classes",
    "name_at": "classes",
    "registered_callbacks": "defaults",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
