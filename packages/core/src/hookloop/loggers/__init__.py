"""Where the numbers of a run go.

`Logger` is what the trainer asks of a logger; `CSVLogger` is the default, `TensorBoardLogger` needs tensorboard. Names
are imported when they are first used, so that importing this package loads nothing else.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hookloop.loggers.base import Logger, check_logger, log_dir_of
    from hookloop.loggers.csv import CSVLogger
    from hookloop.loggers.tensorboard import TensorBoardLogger

__all__ = ["CSVLogger", "Logger", "TensorBoardLogger", "check_logger", "log_dir_of"]

_HOMES = {
    "CSVLogger": "hookloop.loggers.csv",
    "Logger": "hookloop.loggers.base",
    "TensorBoardLogger": "hookloop.loggers.tensorboard",
    "check_logger": "hookloop.loggers.base",
    "log_dir_of": "hookloop.loggers.base",
}
# Modules in which Lightning's users look for them: attributes too, as if they had been imported.
_FACES = ("csv_logs", "logger", "tensorboard")
# Loggers of Lightning for which there is none here.
_ELSEWHERE = ("CometLogger", "LitLogger", "MLFlowLogger", "NeptuneLogger", "WandbLogger")


def __getattr__(name: str) -> object:
    if name in _ELSEWHERE:
        raise ImportError(
            f"hookloop has no {name}: it brings CSVLogger and TensorBoardLogger. To log to another service, inherit "
            "from hookloop.loggers.Logger and write log_metrics(metrics, step), in which you hand both to the "
            "service's own client; docs/logging.md shows a whole one under 'A logger of your own'.",
            name=__name__,
        )
    if name in _FACES:
        return importlib.import_module(f"{__name__}.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
