"""Where Lightning's users look for `LambdaCallback`."""

from hookloop.callback import LambdaCallback

__all__ = ["LambdaCallback"]
