"""What one process of several does alone: the first one, of rank zero."""

import logging
import os
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, overload

from hookloop.errors import MisconfigurationError
from hookloop.warning_categories import HookloopDeprecationWarning

P = ParamSpec("P")
T = TypeVar("T")

RANK_VARIABLES = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")
"""Where launchers (torchrun, SLURM, jsrun) say which process this is; the first that is set counts.

SLURM_PROCID is set in interactive SLURM sessions too, where nothing was launched; so torchrun's own come first.
"""


def rank_from_environment() -> int | None:
    """The rank of this process as its launcher tells it, or None if nobody launched it.

    Raises:
        MisconfigurationError: the variable holds no whole number of at least 0.
    """
    for name in RANK_VARIABLES:
        value = os.environ.get(name)
        if value is None:
            continue
        if not value.strip().isdecimal():
            raise MisconfigurationError(
                f"The environment variable {name}={value!r} must be the rank of this process, a whole number of at "
                "least 0. Launchers such as torchrun set it; unset it where nothing was launched."
            )
        return int(value)
    return None


class RankZeroOnly:
    """The decorator `rank_zero_only`.

    Attributes:
        rank: the rank of this process: from the environment, 0 without a launcher. Whoever starts processes in another
            way sets it.
    """

    rank: int

    def __init__(self) -> None:
        self.rank = rank_from_environment() or 0

    @overload
    def __call__(self, fn: Callable[P, T]) -> Callable[P, T | None]: ...

    @overload
    def __call__(self, fn: Callable[P, T], default: T) -> Callable[P, T]: ...

    def __call__(self, fn: Callable[P, T], default: T | None = None) -> Callable[P, T | None]:
        """The function as rank zero runs it.

        Args:
            fn: what to run there; a method as well.
            default: what the call returns on every other rank, where nothing is run.
        """

        @wraps(fn)
        def on_rank_zero(*args: P.args, **kwargs: P.kwargs) -> T | None:
            return fn(*args, **kwargs) if self.rank == 0 else default

        return on_rank_zero


rank_zero_only = RankZeroOnly()
"""Decorates a function that only the process of rank zero runs; `rank_zero_only.rank` is the rank of this one."""


class _Terminal(logging.StreamHandler[Any]):
    """Shows what nobody else would show: nothing, as soon as a program has set up logging of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        if not logging.getLogger().handlers:
            super().emit(record)


def _make_logger() -> logging.Logger:
    # Without a handler, Python shows warnings and errors only, and who asks for information wants to see it.
    house = logging.getLogger("hookloop")
    if house.level == logging.NOTSET:
        house.setLevel(logging.INFO)
    if not house.handlers:
        house.addHandler(_Terminal())
    return logging.getLogger(__name__)


log = _make_logger()
"""Where `rank_zero_info` and `rank_zero_debug` go; `logging.getLogger("hookloop").setLevel(...)` decides what shows."""


# Levels of the stack are counted as Lightning counts them, so that calls that pass a level point where they did.


def rank_zero_debug(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log a message of level DEBUG from rank zero; arguments are those of `logging.Logger.debug`."""
    if rank_zero_only.rank == 0:
        log.debug(*args, stacklevel=stacklevel - 2, **kwargs)


def rank_zero_info(*args: Any, stacklevel: int = 4, **kwargs: Any) -> None:
    """Log a message of level INFO from rank zero; arguments are those of `logging.Logger.info`."""
    if rank_zero_only.rank == 0:
        log.info(*args, stacklevel=stacklevel - 2, **kwargs)


def rank_zero_warn(message: str | Warning, stacklevel: int = 4, **kwargs: Any) -> None:
    """Warn from rank zero.

    Args:
        message: what to say.
        stacklevel: the line that the warning names: 4 is the one that calls this, 5 the one that called that.
        **kwargs: further arguments of `warnings.warn`, such as category.
    """
    if rank_zero_only.rank == 0:
        warnings.warn(message, stacklevel=stacklevel - 2, **kwargs)


def rank_zero_deprecation(message: str | Warning, stacklevel: int = 5, **kwargs: Any) -> None:
    """Warn from rank zero that something will be removed.

    Args:
        message: what to say.
        stacklevel: the line that the warning names: 5 is the one that calls this.
        **kwargs: further arguments of `warnings.warn`; the category is HookloopDeprecationWarning by default.
    """
    kwargs.setdefault("category", HookloopDeprecationWarning)
    rank_zero_warn(message, stacklevel=stacklevel, **kwargs)


def rank_prefixed_message(message: str, rank: int | None) -> str:
    """The message with the rank of its process before it, or as it is where `rank` is None."""
    return message if rank is None else f"[rank: {rank}] {message}"


class WarningCache(set[str]):
    """Remembers which messages were shown, and shows each one once; levels of the stack are those of the functions."""

    def warn(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """`rank_zero_warn`, unless it was shown before."""
        if self._is_new(message):
            rank_zero_warn(message, stacklevel=stacklevel, **kwargs)

    def deprecation(self, message: str, stacklevel: int = 6, **kwargs: Any) -> None:
        """`rank_zero_deprecation`, unless it was shown before."""
        if self._is_new(message):
            rank_zero_deprecation(message, stacklevel=stacklevel, **kwargs)

    def info(self, message: str, stacklevel: int = 5, **kwargs: Any) -> None:
        """`rank_zero_info`, unless it was shown before."""
        if self._is_new(message):
            rank_zero_info(message, stacklevel=stacklevel, **kwargs)

    def _is_new(self, message: str) -> bool:
        new = message not in self
        self.add(message)
        return new
