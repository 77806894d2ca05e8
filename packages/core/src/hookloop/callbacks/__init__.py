"""Every callback class that is installed, under one roof: `from hookloop.callbacks import EarlyStopping`.

The core's own names are here; every other one is looked up in the entry-point group `hookloop.callbacks` when it is
first used, and its package is imported then.
"""

from hookloop.callback import Callback, LambdaCallback, Order
from hookloop.discovery import callback_class, callback_class_names

__all__ = ["Callback", "LambdaCallback", "Order"]


def __getattr__(name: str) -> type[Callback]:
    # Names like __path__ are asked for by Python's own machinery, on every import.
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    return callback_class(name)


def __dir__() -> list[str]:
    return sorted({*__all__, *callback_class_names()})
