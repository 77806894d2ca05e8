"""The default logger: a CSV file of numbers and a YAML file of settings."""

import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hookloop.errors import MisconfigurationError
from hookloop.loggers.hparams import Plain, to_plain, to_yaml
from hookloop.loggers.logger import Logger
from hookloop.loggers.metrics_file import MetricsFile
from hookloop.loggers.versions import next_version, version_folder

_METRICS = "metrics.csv"
_HPARAMS = "hparams.yaml"


class CSVLogger(Logger):
    """Writes `metrics.csv` and `hparams.yaml` into save_dir/name/version_N.

    metrics.csv has one row for each call of `log_metrics`: the column `step` first, then the names in the order in
    which they were first logged. Cells without a number are empty; floats are written so that they read back exactly,
    as `nan`, `inf` and `-inf` where they are that. Names that appear later make new columns on the right.

    `log_metrics` keeps the row in memory. Rows are written when another `flush_logs_every_n_steps` steps are complete,
    when that many rows have come together, and by `save` and `finalize`; a process that is killed loses the rows since
    then, and no others. Settings are written at once.

    Constructing the logger, and reading its properties (`experiment` excepted), makes no folder. The first thing that
    is logged does, or `save`. `version=None` takes the number after the highest one that exists when it is first asked
    for. If another process begins to log under that number earlier than this one, this run moves on to the next number
    and warns: no run writes over another. A version that is given is used as it is: rows are added to a metrics.csv
    that exists, and an hparams.yaml that exists is kept as hparams-1.yaml (-2, ...) if it says something else. A second
    fit with the same logger adds to the same files.

    Not for several threads at once.

    Args:
        save_dir: local folder for all experiments.
        name: name of the experiment; None or "": no folder of that name between save_dir and the version.
        version: number or name of the run; None: the next free number.
        prefix: put before every metric's name, with a "-" between them.
        flush_logs_every_n_steps: how many steps, and how many rows, may be in memory only. At least 1.

    Raises:
        MisconfigurationError: save_dir is a URL, version is neither a number nor a text, or flush_logs_every_n_steps
            is no positive int.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "hookloop_logs",
        version: int | str | None = None,
        prefix: str = "",
        flush_logs_every_n_steps: int = 100,
    ) -> None:
        if "://" in os.fspath(save_dir):
            raise MisconfigurationError(
                f"CSVLogger(save_dir={save_dir!r}) is a URL, and CSVLogger writes local files; "
                "give a local folder, and copy it away afterwards."
            )
        if not _is_version(version):
            raise MisconfigurationError(
                f"CSVLogger(version={version!r}) is neither an int of at least 0 nor a text that is not empty; "
                "give one of these, or None for the next free number."
            )
        if type(flush_logs_every_n_steps) is not int or flush_logs_every_n_steps < 1:
            raise MisconfigurationError(
                f"CSVLogger(flush_logs_every_n_steps={flush_logs_every_n_steps!r}) is not an int of at least 1; "
                "1 writes every row at once."
            )
        self._root = Path(save_dir).expanduser()
        self._name = name
        self._version = version
        self._given = version is not None
        self._prefix = f"{prefix}-" if prefix else ""
        self._every = flush_logs_every_n_steps
        self._folder: Path | None = None
        self._file: MetricsFile | None = None
        self._hparams: dict[Plain, Plain] = {}
        self._found_hparams = False
        self._last_step = -1
        self._window = 0

    @property
    def name(self) -> str | None:
        """Name of the experiment, as given."""
        return self._name

    @property
    def version(self) -> int | str:
        """Number or name of the run. If none was given, the first reading looks for the next free number."""
        if self._version is None:
            self._version = next_version(Path(self.root_dir))
        return self._version

    @property
    def save_dir(self) -> str:
        """The folder of all experiments, with `~` expanded."""
        return str(self._root)

    @property
    def root_dir(self) -> str:
        """The folder of the experiment: save_dir/name."""
        return str(self._root / (self._name or ""))

    @property
    def log_dir(self) -> str:
        """The folder of the run: save_dir/name/version_N. It need not exist yet."""
        return str(Path(self.root_dir, version_folder(self.version)))

    @property
    def experiment(self) -> MetricsFile:
        """The file of numbers. Asking for it makes the run's folder."""
        if self._file is None:
            self._file = MetricsFile(self._claim() / _METRICS)
        return self._file

    @property
    def hparams(self) -> dict[Plain, Plain]:
        """The settings that were logged, as they stand in hparams.yaml."""
        return dict(self._hparams)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add one row.

        Args:
            metrics: a number for each name: an int, a float, or a tensor or array with one element. A metric named
                `step` takes the place of the argument. An empty mapping adds nothing.
            step: value of the column `step`; None: one more than in the row before, 0 in the first.

        Raises:
            MisconfigurationError: a value is no number.
            OSError: the row made a flush due, and the disk refused; no row is lost.
        """
        if not metrics:
            return
        if "step" in metrics:
            step = _as_step(metrics["step"])
        elif step is None:
            step = self._last_step + 1
        row: dict[str, float] = {"step": step}
        for name, value in metrics.items():
            if name != "step":
                row[self._prefix + name] = value if type(value) is float else _as_number(name, value)
        file = self._file or self.experiment
        file.append(row)
        self._last_step = step
        window = (step + 1) // self._every
        if window != self._window or file.pending >= self._every:
            self._window = window
            file.flush()

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Add settings to hparams.yaml, at once. A name that is there already gets the new value.

        Args:
            params: a mapping, an argparse.Namespace, a dataclass instance, or None. Values may be nested;
                `hookloop.loggers.hparams` says how each kind is written. Nothing happens if it is empty.
            *args: ignored: what only other loggers understand.
            **kwargs: the same.

        Raises:
            MisconfigurationError: params is something else.
        """
        plain = to_plain({} if params is None else params)
        if not isinstance(plain, dict):
            raise MisconfigurationError(
                f"CSVLogger.log_hyperparams got {params!r} ({type(params).__qualname__}); "
                "give a mapping, an argparse.Namespace or a dataclass instance, as {'lr': 0.1}."
            )
        if plain:
            self._hparams.update(plain)
            self._write_hparams(self._claim())

    def save(self) -> None:
        """Make the run's folder if there is none yet, and write the rows that are in memory."""
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        """Write the rows that are in memory; without any, nothing happens.

        Args:
            status: not used.
        """
        if self._file is not None:
            self._file.flush()

    def _claim(self) -> Path:
        """Make the run's folder, for this run alone if its number was not given, and return its absolute path."""
        if self._folder is None:
            if self._given:
                folder = Path(self.log_dir).absolute()
                folder.mkdir(parents=True, exist_ok=True)
                self._found_hparams = not _create_hparams(folder)
            else:
                folder = self._claim_number()
            self._folder = folder
        return self._folder

    def _claim_number(self) -> Path:
        while True:
            promised = self._version is not None
            folder = Path(self.log_dir).absolute()
            # The folder may exist, made by a checkpoint callback of this run or of another one; the file that only one
            # process can create decides whose it is.
            folder.mkdir(parents=True, exist_ok=True)
            if not (folder / _METRICS).exists() and _create_hparams(folder):
                return folder
            self._version = None
            if promised:
                warnings.warn(
                    f"CSVLogger: another run has begun to log in {str(folder)!r} since this run chose it; this run "
                    f"logs in {self.log_dir!r} instead. Give runs that start at the same moment a `version` each.",
                    stacklevel=5,
                )

    def _write_hparams(self, folder: Path) -> None:
        path = folder / _HPARAMS
        text = to_yaml(self._hparams)
        if self._found_hparams:
            self._found_hparams = False
            if path.read_text(encoding="utf-8") not in (text, to_yaml({})):
                path.rename(_free_path(folder))
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"{_HPARAMS}.new"
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)


def _is_version(version: object) -> bool:
    if isinstance(version, str):
        return version != ""
    return version is None or (type(version) is int and version >= 0)


def _create_hparams(folder: Path) -> bool:
    """Create the file of settings, with none in it; False if it exists."""
    try:
        with (folder / _HPARAMS).open("x", encoding="utf-8") as file:
            file.write(to_yaml({}))
    except FileExistsError:
        return False
    return True


def _free_path(folder: Path) -> Path:
    number = 1
    while (path := folder / f"hparams-{number}.yaml").exists():
        number += 1
    return path


def _as_number(name: str, value: Any) -> float:
    """The number in a value; exact for ints."""
    number = value
    if callable(getattr(value, "item", None)):
        try:
            number = value.item()
        except (RuntimeError, ValueError) as error:
            raise _no_number(name, value) from error
    if isinstance(number, int):
        return int(number)
    if hasattr(number, "__float__"):
        return float(number)
    raise _no_number(name, value)


def _as_step(value: Any) -> int:
    number = _as_number("step", value)
    if not math.isfinite(number):
        raise _no_number("step", value)
    return int(number)


def _no_number(name: str, value: Any) -> MisconfigurationError:
    return MisconfigurationError(
        f"CSVLogger.log_metrics got {value!r} ({type(value).__qualname__}) for {name!r}; a metric is one number: "
        "an int, a float, or a tensor or array with one element, and a step is a finite one. "
        "Text belongs in log_hyperparams."
    )
