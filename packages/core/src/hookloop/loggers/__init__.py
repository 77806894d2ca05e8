"""Where the numbers of a run go.

`Logger` is what the trainer asks of a logger; `CSVLogger` is the default. Names are imported when they are first used,
so that importing this package loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookloop.loggers.csv import CSVLogger
    from hookloop.loggers.logger import Logger, check_logger, log_dir_of

__all__ = ["CSVLogger", "Logger", "check_logger", "log_dir_of"]

_HOMES = {
    "CSVLogger": "hookloop.loggers.csv",
    "Logger": "hookloop.loggers.logger",
    "check_logger": "hookloop.loggers.logger",
    "log_dir_of": "hookloop.loggers.logger",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
