"""What the Trainer makes of arguments that no other part of the house validates."""

import math

from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.loggers import CSVLogger, Logger, check_logger
from hookloop.options import TrainerOptions
from hookloop.profilers import Profiler, SimpleProfiler
from hookloop.strategies.strategy import CLIP_ALGORITHMS


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
    value, algorithm = options.gradient_clip_val, options.gradient_clip_algorithm
    if value is not None:
        message = f"gradient_clip_val={value!r} must be a number of at least 0, or None for no clipping."
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise MisconfigurationTypeError(message)
        if math.isnan(value) or value < 0:
            raise MisconfigurationError(message)
    if algorithm is not None and algorithm not in CLIP_ALGORITHMS:
        raise MisconfigurationError(
            f'gradient_clip_algorithm={algorithm!r} is not known. Use "norm" (total norm) or "value" (each element).'
        )


def choose_loggers(options: TrainerOptions, root: str) -> list[Logger]:
    """The loggers that `logger` asks for: a CSVLogger under `root` by default, none in trial and barebones runs.

    Raises:
        MisconfigurationError: something in it is no logger.
    """
    given = options.logger
    if options.fast_dev_run or options.barebones or given is False:
        return []
    if given is None or given is True:
        return [CSVLogger(root)]
    return [check_logger(logger) for logger in (given if isinstance(given, list | tuple) else [given])]


def choose_profiler(given: str | Profiler | None) -> Profiler:
    """The profiler that `profiler` asks for: by default one that listens to nothing, so that nothing is timed.

    Raises:
        MisconfigurationError: an unknown name.
    """
    if given is None:
        return Profiler()
    if given == "simple":
        return SimpleProfiler()
    if isinstance(given, Profiler):
        return given
    raise MisconfigurationError(
        f'profiler={given!r} is not known. Use None, "simple", or a hookloop.profilers.Profiler.'
    )
