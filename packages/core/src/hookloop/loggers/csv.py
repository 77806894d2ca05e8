"""The default logger: a CSV file of numbers and a YAML file of settings."""

import os
from collections.abc import Mapping
from typing import Any

from hookloop.errors import MisconfigurationError
from hookloop.loggers.local import LocalLogger
from hookloop.loggers.metrics_file import MetricsFile
from hookloop.loggers.values import as_number, as_step

_METRICS = "metrics.csv"


class CSVLogger(LocalLogger):
    """Writes `metrics.csv` and `hparams.yaml` into save_dir/name/version_N.

    metrics.csv has one row for each call of `log_metrics`: the column `step` first, then the names in the order in
    which they were first logged. Cells without a number are empty; floats are written so that they read back exactly,
    as `nan`, `inf` and `-inf` where they are that. Names that appear later make new columns on the right.

    `log_metrics` keeps the row in memory. Rows are written when another `flush_logs_every_n_steps` steps are complete,
    when that many rows have come together, and by `save` and `finalize`; a process that is killed loses the rows since
    then, and no others. Settings are written at once.

    When the folder is made, and which number it gets, is said at `hookloop.loggers.local.LocalLogger`. With a version
    that is given, rows are added to a metrics.csv that exists. A second fit with the same logger adds to the same
    files.

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
        super().__init__(save_dir, name, version, prefix)
        if type(flush_logs_every_n_steps) is not int or flush_logs_every_n_steps < 1:
            raise MisconfigurationError(
                f"CSVLogger(flush_logs_every_n_steps={flush_logs_every_n_steps!r}) is not an int of at least 1; "
                "1 writes every row at once."
            )
        self._every = flush_logs_every_n_steps
        self._file: MetricsFile | None = None
        self._last_step = -1
        self._window = 0

    @property
    def experiment(self) -> MetricsFile:
        """The file of numbers. Asking for it makes the run's folder."""
        if self._file is None:
            self._file = MetricsFile(self._claim() / _METRICS)
        return self._file

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
            step = as_step("CSVLogger", metrics["step"])
        elif step is None:
            step = self._last_step + 1
        row: dict[str, float] = {"step": step}
        for name, value in metrics.items():
            if name != "step":
                row[self._prefix + name] = value if type(value) is float else as_number("CSVLogger", name, value)
        file = self._file or self.experiment
        file.append(row)
        self._last_step = step
        window = (step + 1) // self._every
        if window != self._window or file.pending >= self._every:
            self._window = window
            file.flush()

    def log_hyperparams(self, params: Any = None, *args: Any, **kwargs: Any) -> None:
        """Add settings to hparams.yaml, at once. A name that is there already gets the new value.

        Args:
            params: a mapping, an argparse.Namespace, a dataclass instance, or None. Values may be nested;
                `hookloop.loggers.hparams` says how each kind is written. Nothing happens if it is empty.
            *args: ignored: what only other loggers understand.
            **kwargs: the same.

        Raises:
            MisconfigurationError: params is something else.
        """
        self._add_hparams(params)

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
