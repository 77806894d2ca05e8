"""Discovery: from the entry points of installed packages to the callbacks that a Trainer has by default.

A package registers a factory in the group `hookloop.callbacks_factory` (`name = "module:function"`), and the classes
that `hookloop.callbacks` shall offer in the group `hookloop.callbacks` (`ClassName = "module:ClassName"`). What else
the core has a place for, such as `hookloop.tuner.Tuner`, goes by the group `hookloop.names`. The groups are read once
per process; a package is imported when something of it is used, and not before.
"""

from hookloop.discovery.classes import callback_class, callback_class_names, name_at
from hookloop.discovery.defaults import registered_callbacks
from hookloop.discovery.entries import CLASS_GROUP, FACTORY_GROUP, NAME_GROUP, forget_entry_points
from hookloop.discovery.provenance import Provenance, provenance
from hookloop.discovery.selection import DISABLE_VARIABLE

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
