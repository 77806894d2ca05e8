"""Random numbers: seeding, and taking and giving back the state of every generator that training may use."""

import operator
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hookloop.errors import MisconfigurationError

LARGEST_SEED = 2**32 - 1
"""NumPy's legacy generator takes no larger one."""


SEED_VARIABLES = ("HOOKLOOP_GLOBAL_SEED", "PL_GLOBAL_SEED")
"""Where a seed is looked for; the second name is the one that Lightning's users have in their scripts."""


def seed_everything(seed: int | None = None, workers: bool = False, verbose: bool = True) -> int:
    """Seed Python's, NumPy's (if it is loaded) and torch's generators, those of every CUDA device included.

    Args:
        seed: 0 to 2**32 - 1. None takes the environment variable HOOKLOOP_GLOBAL_SEED, else PL_GLOBAL_SEED, else 0.
        workers: also remembered in PL_SEED_WORKERS, so that a launched process knows what was asked for. Workers of a
            DataLoader derive their seeds from torch's generator in any case.
        verbose: print the seed.

    Returns:
        The seed that was used.

    Raises:
        MisconfigurationError: the seed is no whole number in that range.
    """
    source = "seed"
    if seed is None:
        source = next((name for name in SEED_VARIABLES if name in os.environ), source)
        seed = os.environ.get(source, "0")  # type: ignore[assignment]
    try:
        # Numbers of NumPy are whole numbers too; 2.5 is none, and is not to be cut.
        number = int(seed) if isinstance(seed, str) else operator.index(seed)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= LARGEST_SEED:
        raise MisconfigurationError(f"{source}={seed!r} must be a whole number from 0 to {LARGEST_SEED}.")
    if verbose:
        print(f"Seed set to {number}")
    os.environ["PL_GLOBAL_SEED"] = str(number)
    if "HOOKLOOP_GLOBAL_SEED" in os.environ:
        os.environ["HOOKLOOP_GLOBAL_SEED"] = str(number)  # it is asked first, by launched processes too
    os.environ["PL_SEED_WORKERS"] = str(int(workers))
    random.seed(number)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(number)
    torch.manual_seed(number)
    return number


def random_state(include_cuda: bool = True) -> dict[str, Any]:
    """The state of every global generator, as a dict for `set_random_state`: tensors and plain values, to be saved.

    NumPy's is there if NumPy was imported, CUDA's (one state per device) if CUDA was initialized.

    Args:
        include_cuda: False leaves CUDA's out, for a forked process that must not touch CUDA.
    """
    state: dict[str, Any] = {"python": random.getstate(), "torch": torch.get_rng_state()}
    if (numpy := sys.modules.get("numpy")) is not None:
        state["numpy"] = numpy_state(numpy.random.get_state())
    if include_cuda and torch.cuda.is_available() and torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def numpy_state(state: tuple[Any, ...]) -> tuple[Any, ...]:
    """What numpy.random.get_state() gives, as plain values and a tensor."""
    name, keys, position, has_gauss, gauss = state
    return name, torch.tensor(keys.tolist()), position, has_gauss, gauss


def set_random_state(state: dict[str, Any]) -> None:
    """Give every generator the state that `random_state` took."""
    random.setstate(state["python"])
    torch.set_rng_state(state["torch"])
    if "numpy" in state and (numpy := sys.modules.get("numpy")) is not None:
        name, keys, *others = state["numpy"]
        numpy.random.set_state((name, numpy.array(keys.tolist(), "uint32"), *others))
    if "cuda" in state and torch.cuda.is_available():
        for device, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(one, device)


@contextmanager
def isolated_random_state(include_cuda: bool = True) -> Iterator[None]:
    """Whatever draws random numbers inside leaves the generators outside as they were, also if it raises.

    Args:
        include_cuda: False leaves CUDA's generators alone, for a forked process that must not touch CUDA.
    """
    state = random_state(include_cuda)
    try:
        yield
    finally:
        set_random_state(state)
