"""What the Trainer makes of arguments that no other part of the house validates."""

import math
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from hookloop.accelerators import Accelerator
from hookloop.durations import duration
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.gradients import CLIP_ALGORITHMS
from hookloop.limits import plain_number
from hookloop.loggers import Logger, check_logger
from hookloop.options import TrainerOptions
from hookloop.precision import Precision
from hookloop.profilers import Profiler
from hookloop.strategies import Strategy


def check_switches(options: TrainerOptions) -> None:
    """Check the arguments that are switches.

    Raises:
        MisconfigurationError: one is neither True nor False, nor None where that means "as installed", nor the word
            that it takes.
    """
    for names, allowed in (
        (("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), (True, False, None)),
        (("inference_mode", "barebones", "use_distributed_sampler"), (True, False)),
        (("on_interrupt",), ("raise", "return")),
    ):
        for name in names:
            value = getattr(options, name)
            if not any(value is one or (isinstance(value, str) and value == one) for one in allowed):
                raise MisconfigurationError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}.")


def check_strategy(options: TrainerOptions) -> None:
    """Check that nothing contradicts a Strategy object, which brings its own precision and accelerator.

    Raises:
        MisconfigurationError: another precision or accelerator was passed beside it.
    """
    strategy = options.strategy
    if not isinstance(strategy, Strategy):
        return
    precision = None if options.precision is None else Precision(options.precision, "cpu").name
    given: tuple[tuple[str, Any, bool], ...] = (
        ("precision", options.precision, precision in (None, strategy.precision.name)),
        ("accelerator", options.accelerator, _is_accelerator(options.accelerator, strategy.accelerator)),
    )
    for name, value, fits in given:
        if not fits:
            raise MisconfigurationError(
                f"{name}={value!r} contradicts the strategy object that was passed, which brings its own. "
                f"Leave {name} out, or build the strategy with it."
            )


def _is_accelerator(given: Any, own: Accelerator) -> bool:
    if isinstance(given, Accelerator):
        return type(given) is type(own)
    return given in ("auto", own.name()) or (given == "gpu" and own.name() == "cuda")


def choose_root(given: Any) -> str:
    """The absolute folder for files, the working directory by default; `~` is the home folder.

    Raises:
        MisconfigurationError: no path, or one that is or goes through a file.
    """
    if given is not None and not isinstance(given, str | os.PathLike):
        raise MisconfigurationError(
            f"default_root_dir={given!r} must be the path of a folder, or None for the working directory."
        )
    root = Path(given or ".").expanduser().absolute()
    there = next(path for path in (root, *root.parents) if path.exists())
    if not there.is_dir():
        raise MisconfigurationError(
            f"default_root_dir={str(given)!r} must be a folder, and {str(there)!r} is a file. Choose another one."
        )
    return str(root)


def check_barebones(options: TrainerOptions) -> None:
    """Check that nothing was asked for that barebones leaves out.

    Raises:
        MisconfigurationError: something was.
    """
    if not options.barebones:
        return
    for name in ("enable_checkpointing", "enable_progress_bar", "enable_model_summary", "logger", "profiler"):
        value = getattr(options, name)
        if value not in (None, False):
            raise MisconfigurationError(
                f"barebones=True leaves out everything but training, and {name}={value!r} asks "
                "for more. Drop one of them."
            )


def check_clipping(options: TrainerOptions) -> None:
    """Check the clipping arguments.

    Raises:
        MisconfigurationError: a negative value or an unknown algorithm.
        MisconfigurationTypeError: a value that is no number.
    """
    value, algorithm = plain_number(options.gradient_clip_val), options.gradient_clip_algorithm
    if value is not None:
        message = f"gradient_clip_val={value!r} must be a number of at least 0, or None for no clipping."
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MisconfigurationTypeError(message)
        too_large = isinstance(value, int) and value > sys.float_info.max
        if too_large or math.isnan(value) or value < 0:
            raise MisconfigurationError(message)
    if algorithm is not None and algorithm not in CLIP_ALGORITHMS:
        raise MisconfigurationError(
            f'gradient_clip_algorithm={algorithm!r} is not known. Use "norm" (total norm) or "value" (each element).'
        )


def check_processes(options: TrainerOptions) -> None:
    """Check the arguments about several machines and processes, of which there is one today.

    Raises:
        MisconfigurationError: a value of the wrong kind, or one that asks for several.
    """
    nodes, sync = plain_number(options.num_nodes), options.sync_batchnorm
    if isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1:
        raise MisconfigurationError(f"num_nodes={options.num_nodes!r} must be a whole number of at least 1.")
    if nodes > 1:
        raise MisconfigurationError(
            f"num_nodes={nodes} asks for {nodes} machines, and today hookloop trains on one device of one machine. Use "
            "num_nodes=1."
        )
    if not isinstance(sync, bool):
        raise MisconfigurationError(f"sync_batchnorm={sync!r} must be True or False.")
    if sync:
        raise MisconfigurationError(
            "sync_batchnorm=True computes batch norm over the batches of all processes, and today hookloop trains in "
            "one process, whose batch norm sees its whole batch anyway. Leave it out."
        )


def check_max_time(options: TrainerOptions) -> None:
    """Check that `max_time` is a length of time; who keeps to it is a callback of family "timer".

    Raises:
        MisconfigurationError: it is none.
    """
    if options.max_time is not None:
        duration("max_time", options.max_time)


def validation_interval(given: Any) -> int | float | timedelta:
    """`val_check_interval` as the limits take it: a time in any of its forms as a timedelta, anything else as it is.

    Raises:
        MisconfigurationError: it looks like a time and is none.
    """
    if isinstance(given, timedelta | dict) or (isinstance(given, str) and ":" in given):
        return duration("val_check_interval", given)
    interval: int | float = given  # checked with the other limits
    return interval


def choose_loggers(options: TrainerOptions, root: str) -> list[Logger]:
    """The loggers that `logger` asks for: a CSVLogger under `root` by default, none in barebones runs.

    A trial run has a DummyLogger instead of all of them, so that code which uses `self.logger.experiment` can be tried.

    Raises:
        MisconfigurationError: something in it is no logger, or is in it twice.
    """
    given = options.logger
    if options.barebones or given is False:
        return []
    if given is None or given is True:
        from hookloop.loggers import CSVLogger  # loaded by those who use it

        loggers: list[Logger] = [CSVLogger(root)]
    else:
        loggers = check_loggers(given)
    if options.fast_dev_run and loggers:
        from hookloop.loggers.dummy import DummyLogger

        return [DummyLogger()]
    return loggers


def check_loggers(given: Logger | Sequence[Logger]) -> list[Logger]:
    """One logger, or several, as a list.

    Raises:
        MisconfigurationError: something in it is no logger, or is in it twice.
    """
    loggers = [check_logger(logger) for logger in (given if isinstance(given, list | tuple) else [given])]
    for index, logger in enumerate(loggers):
        if any(logger is other for other in loggers[:index]):
            raise MisconfigurationError(
                f"logger={given!r} has the same {type(logger).__qualname__} twice, which would write every row twice. "
                "Leave one out."
            )
    return loggers


PROFILERS = {"simple": "SimpleProfiler", "advanced": "AdvancedProfiler", "pytorch": "PyTorchProfiler"}


def choose_profiler(given: str | Profiler | None) -> Profiler:
    """The profiler that `profiler` asks for: by default one that listens to nothing, so that nothing is timed.

    Raises:
        MisconfigurationError: an unknown name, or something that is no profiler.
    """
    from hookloop import profilers  # each loaded by those who use it

    if given is None:
        return profilers.PassThroughProfiler()
    if isinstance(given, Profiler):
        return given
    if isinstance(given, str) and given.lower() in PROFILERS:
        chosen: Profiler = getattr(profilers, PROFILERS[given.lower()])()
        return chosen
    advice = f"Use None, {', '.join(map(repr, PROFILERS))}, or a hookloop.profilers.Profiler object."
    if isinstance(given, str) and given.lower() == "xla":
        raise MisconfigurationError(f"profiler={given!r} is for TPUs, which hookloop does not train on. {advice}")
    raise MisconfigurationError(f"profiler={given!r} is not known. {advice}")
