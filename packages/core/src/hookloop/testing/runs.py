"""The short runs in which a callback is tried."""

import io
import random
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hookloop import Callback, LightningModule, Trainer
from hookloop.callback import HOOKS
from hookloop.errors import CallbackContractError
from hookloop.loggers import Logger
from hookloop.random_state import isolated_random_state
from hookloop.testing.outside import kept_outside
from hookloop.testing.tiny import TinyModule


class NotTriedError(Exception):
    """A rule cannot be tried, because the callback breaks another one; the text says which."""


@dataclass(frozen=True)
class Subject:
    """The callback that is tried, and how.

    Attributes:
        factory: makes a callback; called for every run.
        folder: an empty folder for what runs write.
        others: factories of the same class in other configurations, all of which may be in one run.
        changes_training: whether it changes the module, optimizers or random state on purpose.
        lasting: what of the module stays changed after a run on purpose, as in "*.requires_grad", "net.0.training",
            "*.hooks"; patterns as in file names.
        varying: keys of its state and names of metrics that no two runs have the same, such as seconds; patterns too.
        max_calls_per_step: Python calls that it may add to a training step; None is no limit.
        module: makes the module of the runs.
        arguments: of every Trainer, beyond those that a run is made with.
    """

    factory: Callable[[], Callback]
    folder: Path
    others: Sequence[Callable[[], Callback]] = ()
    changes_training: bool = False
    lasting: Sequence[str] = ()
    varying: Sequence[str] = ()
    max_calls_per_step: float | None = None
    module: Callable[[], LightningModule] = TinyModule
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def make(self) -> Callback:
        """A new callback.

        A `NotTriedError` tells that the factory raised, or made something else.
        """
        try:
            made: object = self.factory()
        except Exception as error:
            raise NotTriedError(f"making the callback raised {told(error)}") from error
        if not isinstance(made, Callback):
            raise NotTriedError(f"the factory made {made!r}, which is no Callback")
        return made

    def new_folder(self) -> Path:
        """An empty folder inside `folder`."""
        index = sum(1 for _ in self.folder.iterdir())
        made = self.folder / f"run_{index}"
        made.mkdir()
        return made


class MemoryLogger(Logger):
    """Keeps the rows that it is given: the step, and the metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "memory"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass


def trainer_of(subject: Subject, callbacks: Sequence[Callback], **arguments: Any) -> Trainer:
    """A Trainer on the CPU with these callbacks alone, a folder of its own and, by default, a `MemoryLogger`."""
    given = {
        "accelerator": "cpu",
        "callbacks": list(callbacks),
        "max_epochs": 2,
        "logger": MemoryLogger(),
        "log_every_n_steps": 1,
        "registered_callbacks": False,
        **subject.arguments,
        **arguments,
    }
    if "default_root_dir" not in given:
        given["default_root_dir"] = subject.new_folder()
    return Trainer(**given)


@contextmanager
def in_a_quiet_process() -> Iterator[None]:
    """Nothing is printed, no warning is shown, random numbers are seeded; settings and random state are given back."""
    sink = io.StringIO()
    quiet = redirect_stdout(sink), redirect_stderr(sink), warnings.catch_warnings(action="ignore")
    with kept_outside(), isolated_random_state(), quiet[0], quiet[1], quiet[2]:
        seed()
        yield


def seed() -> None:
    """Begin random numbers anew, so that two runs draw the same."""
    random.seed(1)
    torch.manual_seed(1)
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed(1)


def needed(run: Callable[[], object], callback: Callback) -> None:
    """Make a run that another rule is about.

    A `NotTriedError` tells that it fails.
    """
    try:
        run()
    except Exception as error:
        raise NotTriedError(f"a run with it fails: {told(error, callback)}") from error


def told(error: BaseException, callback: Callback | None = None) -> str:
    """An exception in one line, with the place in the callback's own file that it came through last."""
    line = "".join(traceback.format_exception_only(error)).strip().replace("\n", " ").rstrip(".")
    if callback is None:
        return line
    homes = {kind.__module__ for kind in type(callback).__mro__ if not kind.__module__.startswith("hookloop.")}
    homes -= {"builtins"}
    places = [frame for frame, _ in traceback.walk_tb(error.__traceback__) if frame.f_globals.get("__name__") in homes]
    lines = dict(traceback.walk_tb(error.__traceback__))
    if not places:
        return line
    hook = next((frame.f_code.co_name for frame in places if frame.f_code.co_name in HOOKS), None)
    last = places[-1]
    where = f"{Path(last.f_code.co_filename).name}:{lines[last]}"
    return f"{line} ({f'in {hook}, ' if hook else ''}{where})"


def broken(callback: Callback, did: str, mend: str) -> CallbackContractError:
    """The error that says what a callback did, and how to mend it."""
    return CallbackContractError(f"{type(callback).__name__} {did} {mend}")
