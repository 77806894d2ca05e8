"""Discovery: from the entry points of installed packages to the callbacks that a Trainer has by default.

A package registers a factory in the group `hookloop.callbacks_factory` (`name = "module:function"`), and the classes
that `hookloop.callbacks` shall offer in the group `hookloop.callbacks` (`ClassName = "module:ClassName"`). Both groups
are read once per process; a package is imported when something of it is used, and not before.
"""

from hookloop.discovery.classes import callback_class, callback_class_names
from hookloop.discovery.defaults import registered_callbacks
from hookloop.discovery.entries import CLASS_GROUP, FACTORY_GROUP, forget_entry_points
from hookloop.discovery.provenance import Provenance, provenance
from hookloop.discovery.selection import DISABLE_VARIABLE

__all__ = [
    "CLASS_GROUP",
    "DISABLE_VARIABLE",
    "FACTORY_GROUP",
    "Provenance",
    "callback_class",
    "callback_class_names",
    "forget_entry_points",
    "provenance",
    "registered_callbacks",
]
