"""The Trainer's arguments that set torch's own switches: `deterministic`, `benchmark`, `detect_anomaly`.

These switches belong to the whole process. They hold while an entry point runs, and are put back when it ends, so that
a Trainer changes nothing for another one, or for the rest of the program.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from hookloop.errors import MisconfigurationError
from hookloop.options import TrainerOptions

CUBLAS_VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
CUBLAS_DETERMINISTIC = ":4096:8"
"""The workspace with which NVIDIA documents cuBLAS to be deterministic, and torch asks for it."""


def check_torch_switches(options: TrainerOptions) -> None:
    """Check `deterministic`, `benchmark` and `detect_anomaly`.

    cuBLAS reads its variable once, when it is first used, so deterministic runs set it here, as early as can be; one
    that is set already is left as it is. It stays set: it changes nothing but the memory that cuBLAS takes.

    Raises:
        MisconfigurationError: a value is none of those that the argument takes.
    """
    deterministic = options.deterministic
    if not (deterministic is None or isinstance(deterministic, bool) or deterministic == "warn"):
        raise MisconfigurationError(
            f'deterministic={deterministic!r} must be True, False, "warn", or None to leave torch as it is.'
        )
    for name, allowed in (("benchmark", (True, False, None)), ("detect_anomaly", (True, False))):
        value = getattr(options, name)
        if not any(value is one for one in allowed):
            raise MisconfigurationError(f"{name}={value!r} must be one of {', '.join(map(repr, allowed))}.")
    if deterministic:
        os.environ.setdefault(CUBLAS_VARIABLE, CUBLAS_DETERMINISTIC)
        if options.benchmark:
            warnings.warn(
                f"deterministic={deterministic!r} wants the same algorithms in every run, and benchmark=True lets "
                "cuDNN choose the fastest ones by measuring, which can turn out differently each time. Drop one.",
                stacklevel=4,  # the line that calls Trainer(...)
            )


@contextmanager
def torch_switches(options: TrainerOptions, training: bool) -> Iterator[None]:
    """Torch's switches as the arguments have them; afterwards as they were.

    Args:
        options: `deterministic` (None leaves the switch alone), `benchmark` (None leaves it alone, but a deterministic
            run switches it off), `detect_anomaly`.
        training: whether this is a fit; there are no gradients to watch in anything else.
    """
    benchmark = False if options.benchmark is None and options.deterministic else options.benchmark
    with ExitStack() as stack:
        if options.deterministic is not None:
            stack.callback(
                torch.use_deterministic_algorithms,
                torch.are_deterministic_algorithms_enabled(),
                warn_only=torch.is_deterministic_algorithms_warn_only_enabled(),
            )
            torch.use_deterministic_algorithms(bool(options.deterministic), warn_only=options.deterministic == "warn")
        if benchmark is not None:
            stack.callback(setattr, torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
            torch.backends.cudnn.benchmark = benchmark
        if options.detect_anomaly and training:
            stack.enter_context(torch.autograd.set_detect_anomaly(True))
        yield
