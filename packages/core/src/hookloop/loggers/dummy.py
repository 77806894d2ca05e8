"""Loggers and experiments that take everything and do nothing: for trial runs, and for all ranks but zero."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from torch import distributed

from hookloop.loggers.base import Logger

LoggerT = TypeVar("LoggerT")


class DummyExperiment:
    """Stands in for the object of a logging library: every method is there, takes everything, and returns None."""

    def nop(self, *args: Any, **kwargs: Any) -> None:
        """Take anything and do nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        # copy and pickle ask for methods between underscores, and have to hear that there are none.
        if name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self.nop

    def __getitem__(self, index: Any) -> "DummyExperiment":
        return self

    def __setitem__(self, index: Any, value: Any) -> None: ...


class DummyLogger(Logger):
    """A logger that keeps nothing and writes nothing, so that code which uses `self.logger` runs without one.

    `logger.experiment`, and every method that some other logger has, takes everything and returns None.
    """

    def __init__(self) -> None:
        self._experiment = DummyExperiment()

    @property
    def experiment(self) -> DummyExperiment:
        return self._experiment

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Do nothing."""

    def __getitem__(self, index: int) -> "DummyLogger":
        return self

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return self._experiment.nop


def rank_zero_experiment(fn: Callable[[LoggerT], Any]) -> Callable[[LoggerT], Any]:
    """Decorate the getter of a logger's `experiment`: processes of other ranks than zero get a `DummyExperiment`.

    Args:
        fn: opens, or returns, the real experiment. It is not called on other ranks.
    """

    @wraps(fn)
    def experiment(self: LoggerT) -> Any:
        return DummyExperiment() if _global_rank() > 0 else fn(self)

    return experiment


def _global_rank() -> int:
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank()
    # Set by torch's own launcher, before any group of processes is there.
    return int(os.environ.get("RANK", 0))
