"""A logger for TensorBoard, through torch's own writer of its event files."""

import importlib.util
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hookloop.errors import MisconfigurationError
from hookloop.loggers.dummy import rank_zero_experiment
from hookloop.loggers.graph import draw
from hookloop.loggers.hparams import flatten, to_plain
from hookloop.loggers.local import LocalLogger
from hookloop.loggers.values import as_number, as_step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_INSTALL = "pip install 'hookloop[tensorboard]'"
_WRITER_ARGUMENTS = ("purge_step", "max_queue", "flush_secs", "filename_suffix")
# torch's default is two minutes; a run that is being watched is to be seen sooner.
_FLUSH_SECS = 10
_HP_METRIC = "hp_metric"


class TensorBoardLogger(LocalLogger):
    """Writes TensorBoard's event files, and `hparams.yaml`, into save_dir/name/version_N.

    `tensorboard --logdir <save_dir>` shows them. Metrics are scalars under their names, as float32, at the step with
    which they were logged. What is logged is in the file at most `flush_secs` seconds later, and at once after `save`
    and `finalize`, which closes the file. A second fit with the same logger goes on in a new file beside it.

    When the folder is made, and which number it gets, is said at `hookloop.loggers.local.LocalLogger`.

    Args:
        save_dir: local folder for all experiments.
        name: name of the experiment; None or "": no folder of that name between save_dir and the version.
        version: number or name of the run; None: the next free number.
        log_graph: draw the module when a fit begins; it needs the module's `example_input_array`.
        default_hp_metric: whether settings that are logged without metrics are shown with the metric `hp_metric`, -1
            until one of that name is logged. TensorBoard shows no settings that have no metric.
        prefix: put before every metric's name, with a "-" between them.
        sub_dir: folder below the run's, for the files of this logger.
        **kwargs: for torch.utils.tensorboard.SummaryWriter: purge_step, max_queue, flush_secs (10 by default),
            filename_suffix.

    Raises:
        ModuleNotFoundError: tensorboard is not installed.
        MisconfigurationError: save_dir is a URL, version is neither a number nor a text, or another argument is not
            among those described here.
    """

    def __init__(
        self,
        save_dir: str | os.PathLike[str],
        name: str | None = "hookloop_logs",
        version: int | str | None = None,
        log_graph: bool = False,
        default_hp_metric: bool = True,
        prefix: str = "",
        sub_dir: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ModuleNotFoundError(
                f"TensorBoardLogger needs tensorboard, which is not installed: {_INSTALL}. "
                "hookloop.loggers.CSVLogger needs nothing else.",
                name="tensorboard",
            )
        super().__init__(save_dir, name, version, prefix)
        if unknown := [name for name in kwargs if name not in _WRITER_ARGUMENTS]:
            raise MisconfigurationError(
                f"TensorBoardLogger does not know {', '.join(unknown)}; for the SummaryWriter it takes "
                f"{', '.join(_WRITER_ARGUMENTS)}."
            )
        self._sub_dir = None if sub_dir is None else os.fspath(sub_dir)
        self._draws = log_graph
        self._default_hp_metric = default_hp_metric
        self._writer_arguments = {"flush_secs": _FLUSH_SECS, **kwargs}
        self._experiment: SummaryWriter | None = None
        self._last_step = -1
        self._shown: dict[str, bool | int | float | str] | None = None
        self._has_hp_metric = False

    @property
    def sub_dir(self) -> str | None:
        """The folder below the run's, as given."""
        return self._sub_dir

    @property
    def log_dir(self) -> str:
        """The folder of the files: save_dir/name/version_N/sub_dir. It need not exist yet."""
        return str(Path(super().log_dir, self._sub_dir or ""))

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """torch's SummaryWriter, for images, histograms and all else. Asking for it makes the run's folder and a file.

        On processes of other ranks than zero it is one that does nothing.

        Raises:
            ImportError: tensorboard is installed and does not work.
            MisconfigurationError: the folder cannot be made, or nothing can be written in it.
        """
        if self._experiment is None:
            folder = self._claim()
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise ImportError(f"tensorboard cannot be imported: {error}. Try {_INSTALL} --upgrade.") from error
            self._experiment = SummaryWriter(str(folder), **self._writer_arguments)
            # Another writer of this run would hide what this one wrote.
            self._writer_arguments.pop("purge_step", None)
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Write scalars.

        Args:
            metrics: a number for each name: an int, a float, or a tensor or array with one element; or a dict of such
                numbers, which TensorBoard draws as one chart. A metric named `step` takes the place of the argument.
                An empty mapping writes nothing.
            step: position on the x-axis; None: one more than the last time, 0 the first time.

        Raises:
            MisconfigurationError: a value is no number; nothing of the mapping is written.
            OSError: the disk refused what was written before.
        """
        if not metrics:
            return
        if "step" in metrics:
            step = as_step("TensorBoardLogger", metrics["step"])
        elif step is None:
            step = self._last_step + 1
        numbers = {self._tag(name): _numbers(name, value) for name, value in metrics.items() if name != "step"}
        self._write(numbers, step)
        self._last_step = step

    def log_hyperparams(self, params: Any, metrics: Any = None, step: int | None = None) -> None:
        """Add settings to hparams.yaml, at once, and show them in TensorBoard's table of hyperparameters.

        TensorBoard shows what it finds first in a folder: settings that are added later are in hparams.yaml alone. To
        show the result of a run beside its settings, log it as `hp_metric`, or pass default_hp_metric=False and call
        this with metrics at the end.

        Args:
            params: a mapping, an argparse.Namespace, a dataclass instance, or None. Nested names are joined with "/".
            metrics: numbers by name to show beside them; a single number is `hp_metric`.
            step: position of the metrics on their x-axis; None is 0.

        Raises:
            MisconfigurationError: params is something else, or a metric is no number.
        """
        shown = {_text(name): _clean(value) for name, value in flatten(to_plain(self._add_hparams(params))).items()}
        if metrics is None:
            if not self._default_hp_metric or shown == self._shown:
                return
            numbers: dict[str, Any] = {_HP_METRIC: -1.0}
        else:
            numbers = dict(metrics) if isinstance(metrics, Mapping) else {_HP_METRIC: metrics}
        if not numbers:
            return
        tagged = {self._tag(name): as_number(type(self).__name__, name, value) for name, value in numbers.items()}
        from torch.utils.tensorboard.summary import hparams

        writer = self.experiment._get_file_writer()  # SummaryWriter.add_hparams would make another run
        for summary in hparams(shown, tagged):
            writer.add_summary(summary, step or 0)
        # A placeholder must not come after the number that it stands for.
        if metrics is not None or not self._has_hp_metric:
            self._write(tagged, step or 0)
        self._shown = shown

    def log_graph(self, model: Any, input_array: Any = None) -> None:
        """Draw a module, if the logger was made with log_graph=True.

        Args:
            model: the LightningModule.
            input_array: what its forward takes: a tensor, a tuple of arguments, or a dict of arguments by name. None:
                its `example_input_array`; without one there is a warning.

        Raises:
            MisconfigurationError: the input is of another kind, or the module cannot be traced with it.
        """
        if self._draws:
            draw(model, input_array, lambda traced, inputs: self.experiment.add_graph(traced, inputs))

    def save(self) -> None:
        """Make the run's folder if there is none yet, and write out what was logged."""
        self._claim()
        if self._experiment is not None:
            self._experiment.flush()

    def finalize(self, status: str) -> None:
        """Write out what was logged and close the file; the next thing that is logged opens another one.

        Args:
            status: not used.
        """
        if self._experiment is None:
            return
        try:
            self._experiment.close()
        except BaseException:
            self._experiment = None  # it would fail again; what comes next gets a new file
            raise

    def __getstate__(self) -> dict[str, Any]:
        # Open files and threads stay with the process that has them.
        return {**self.__dict__, "_experiment": None}

    def _tag(self, name: object) -> str:
        return _text(f"{self._prefix}{name}")

    def _write(self, numbers: Mapping[str, float | dict[str, float]], step: int) -> None:
        writer = self.experiment
        for tag, number in numbers.items():
            if isinstance(number, dict):
                writer.add_scalars(tag, number, step)
            else:
                writer.add_scalar(tag, _as_float(number), step)
        self._has_hp_metric = self._has_hp_metric or self._tag(_HP_METRIC) in numbers


def _numbers(name: str, value: Any) -> float | dict[str, float]:
    if isinstance(value, Mapping):
        return {
            _text(str(key)): _as_float(as_number("TensorBoardLogger", f"{name}.{key}", one))
            for key, one in value.items()
        }
    return as_number("TensorBoardLogger", name, value)


def _as_float(number: float) -> float:
    try:
        return float(number)
    except OverflowError:
        return math.inf if number > 0 else -math.inf


def _clean(value: bool | int | float | str) -> bool | int | float | str:
    return _text(value) if isinstance(value, str) else value


def _text(text: str) -> str:
    """The event files hold UTF-8; lone surrogates, as in names of files, are none."""
    return text.encode("utf-8", "backslashreplace").decode()
