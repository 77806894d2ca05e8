"""Where Lightning's users look for `Callback`."""

from hookloop.callback import Callback

__all__ = ["Callback"]
