"""What the trainer asks of a logger."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from hookloop.errors import MisconfigurationError

# What the trainer calls. Properties are left out on purpose: looking at one may start an experiment on a server.
_METHODS = ("log_metrics", "log_hyperparams", "log_graph", "save", "finalize", "after_save_checkpoint")


class Logger(ABC):
    """Receives the numbers of a run and puts them somewhere.

    Subclass it and write `log_metrics`; everything else has a default that does nothing, but for `finalize`, which
    saves. A class that does not inherit from it, but has the six methods `log_metrics`, `log_hyperparams`, `log_graph`,
    `save`, `finalize` and `after_save_checkpoint`, is as good: the trainer calls them by name,
    `isinstance(x, Logger)` is True for it, and `log_dir_of` does without the properties that it lacks.

    The trainer calls the methods on the process of global rank 0 alone. Properties may be read on every process.
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is Logger and all(callable(getattr(other, method, None)) for method in _METHODS):
            return True
        return NotImplemented

    @property
    def name(self) -> str | None:
        """Name of the experiment that this run belongs to; None: it has none."""
        return None

    @property
    def version(self) -> int | str | None:
        """Which run of the experiment this is; None: runs are not told apart."""
        return None

    @property
    def save_dir(self) -> str | None:
        """The local folder under which all experiments are kept; None: this logger writes no local files."""
        return None

    @property
    def root_dir(self) -> str | None:
        """The local folder of the experiment, in which its runs have a folder each; None: this logger has none."""
        return None

    @property
    def group_separator(self) -> str:
        """What stands between the parts of a name, where this logger shows names that begin alike as a group."""
        return "/"

    @property
    def log_dir(self) -> str | None:
        """The local folder of this run: save_dir/name/version, without the parts that are None or empty.

        A version that is an int is the folder `version_<int>`. None without a save_dir.
        """
        return _join(self.save_dir, self.name, self.version)

    @property
    def experiment(self) -> Any:
        """The object of the library underneath, for what only that library can do; None: there is none."""
        return None

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take one set of numbers that were measured at the same moment.

        Args:
            metrics: a number for each name. Copy what you keep: other loggers get the same mapping.
            step: position on the x-axis, usually the number of optimizer steps so far; None: the logger counts.
        """

    # B027: nobody forgot to mark these as abstract; doing nothing is their meaning.
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Take the settings of the run.

        Args:
            params: a mapping, an argparse.Namespace or a dataclass instance. Copy what you keep.
            *args: for loggers that take more than settings.
            **kwargs: the same.
        """

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Take the model, for loggers that can draw it. The trainer calls it once a fit, with the model on its device.

        Args:
            model: the LightningModule.
            input_array: an example input; None: the module's own, if it has one.
        """

    def save(self) -> None:
        """Put everything that was received so far where it survives the process.

        The trainer calls it when a fit begins, and after every epoch and evaluation that sent rows.
        """

    def finalize(self, status: str) -> None:
        """End a run; by default, save. It may be called more than once, and another run with this logger may follow.

        Args:
            status: "success" or "failed".
        """
        self.save()

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Learn that a checkpoint callback has saved a file.

        Args:
            checkpoint_callback: that callback. What it says of its files (`best_model_path`, `last_model_path`, ...)
                includes the new one already, which can be loaded.
        """


def check_logger(candidate: object) -> Logger:
    """Return the candidate if it has every method that the trainer calls on a logger.

    Nothing is called and no property is read.

    Raises:
        MisconfigurationError: it is a class, or methods are missing.
    """
    if isinstance(candidate, type):
        raise MisconfigurationError(
            f"logger={candidate.__qualname__} is a class; pass an instance of it: {candidate.__qualname__}(...)."
        )
    missing = [method for method in _METHODS if not callable(getattr(candidate, method, None))]
    if missing:
        raise MisconfigurationError(
            f"logger={candidate!r} ({type(candidate).__qualname__}) is no logger: it lacks {', '.join(missing)}. "
            "Pass True, False, a Logger or a list of them; "
            "a class of your own inherits what it lacks from hookloop.loggers.Logger."
        )
    return cast("Logger", candidate)


def log_dir_of(logger: Logger) -> str | None:
    """The local folder of this logger's run, for loggers too that have no `log_dir` of their own.

    Returns:
        `logger.log_dir` where there is such an attribute, otherwise save_dir/name/version without the parts that are
        missing, None or empty; None without a save_dir.
    """
    if hasattr(type(logger), "log_dir") or "log_dir" in getattr(logger, "__dict__", {}):
        return logger.log_dir
    return _join(*(getattr(logger, part, None) for part in ("save_dir", "name", "version")))


def version_folder(version: int | str) -> str:
    """Name of the folder of a version: `version_<n>` for a number, the text itself for a text."""
    return f"version_{version}" if isinstance(version, int) else version


def _join(save_dir: str | os.PathLike[str] | None, name: str | None, version: int | str | None) -> str | None:
    if save_dir is None:
        return None
    folder = "" if version is None else version_folder(version)
    return str(Path(save_dir, name or "", folder))
