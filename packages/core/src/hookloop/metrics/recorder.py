"""`Recorder`: what `self.log` talks to, from the first hook of a run to the last."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from hookloop.batches import batch_size as size_of
from hookloop.distributed import Collectives, SingleProcess
from hookloop.errors import MisconfigurationError
from hookloop.loggers import Logger
from hookloop.metrics.accumulators import Loggable, Metric
from hookloop.metrics.entry import Entry
from hookloop.metrics.results import Results, Values, reset_all, to_floats, to_tensors
from hookloop.metrics.routing import Row, send
from hookloop.metrics.saving import load_results, results_state
from hookloop.metrics.settings import Settings, resolve_settings
from hookloop.profilers import Profiler, timed
from hookloop.warning_categories import PossibleUserWarning


class Recorder:
    """Collects what hooks log, and answers what has been logged.

    Nothing is read from a device but where the loops say so (`send_step`, `send_epoch`) or a reader asks.

    Attributes:
        hook: the running hook, set by the dispatcher and the loops; None outside of hooks.
        batch: the batch that is being worked on, None outside of a batch; its size weighs epoch means.
        batch_size: the size of `batch` once it was needed, else None.
        dataloader_idx: index of the evaluation loader when there are several, else None.
    """

    def __init__(
        self,
        loggers: Sequence[Logger] = (),
        collectives: Collectives | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        self.hook: str | None = None
        self.batch: Any = None
        self.batch_size: int | None = None
        self.dataloader_idx: int | None = None
        self._evaluated_batches = 0
        collectives = collectives or SingleProcess()
        self._loggers = loggers if collectives.global_rank == 0 else ()
        self._send_rows = timed(send, "log_metrics", profiler)
        self._results: Results | None = None
        self._outer: Results | None = None
        self._callback_values: Values = {}
        self._progress_bar_values: Values = {}
        self._logged: Values = {}
        self._kept_rows: list[Row] = []
        self._unsaved = False
        self._warned = False

    def log(
        self,
        name: str,
        value: Loggable,
        arguments: tuple[Any, ...],
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
    ) -> None:
        """Record a value under `name`, as `LightningModule.log` says.

        Args:
            name: the key.
            value: what is logged.
            arguments: those that must be the same in every call for a key, in the order of `Settings`.
            add_dataloader_idx: whether the key gets a suffix where there are several evaluation loaders.
            batch_size: samples that the value stands for; None: those of the batch.
        """
        results = self._results
        index = self.dataloader_idx if add_dataloader_idx else None
        try:
            entry = results.entries.get((self.hook, name, index)) if results is not None else None
        except TypeError:
            entry = None  # a name that cannot be one
        if entry is None:
            entry = self._new_entry(name, value, index, arguments)
        elif entry.dataloader_idx != self.dataloader_idx:
            entry.dataloader_idx = None
        if entry.arguments != arguments:
            self._check_same_settings(entry, name, arguments)
        if batch_size is None:
            batch_size = (self.batch_size or self._measure_batch()) if entry.needs_batch_size else 1
        elif type(batch_size) is not int or batch_size < 1:
            raise MisconfigurationError(
                f'self.log("{name}", ..., batch_size={batch_size!r}): it must be a whole number '
                "of at least 1, the samples "
                "that the value stands for."
            )
        entry.update(value, batch_size)

    def _new_entry(self, name: str, value: object, index: int | None, arguments: tuple[Any, ...]) -> Entry:
        if not isinstance(name, str):
            raise MisconfigurationError(
                f"self.log({name!r}, ...): the name must be a string, not a {type(name).__name__}."
            )
        if self.dataloader_idx is not None and "/dataloader_idx_" in name and index is not None:
            raise MisconfigurationError(
                f'self.log("{name}", ...): the suffix /dataloader_idx_{self.dataloader_idx} is '
                "added for you when there "
                "are several loaders. Leave it out of the name, or pass add_dataloader_idx=False."
            )
        full_name = name if index is None else f"{name}/dataloader_idx_{index}"
        entry = Entry(self.hook, name, full_name, self.dataloader_idx, value, arguments)
        assert self._results is not None, "every hook that may log runs between begin() and end()"
        if index is not None:
            self._warn_if_shared(name, value)
        self._results.entries[self.hook, name, index] = entry
        return entry

    def _warn_if_shared(self, name: str, metric: object) -> None:
        assert self._results is not None
        before = [entry.dataloader_idx for entry in self._results.entries.values() if entry.logs(metric)]
        if any(index not in (None, self.dataloader_idx) for index in before):
            warnings.warn(
                f'self.log("{name}", metric): one {type(metric).__name__} is logged for several dataloaders, so what '
                f"dataloader {self.dataloader_idx} gets includes the samples of those before it. Use one for each, "
                "such as self.metrics[dataloader_idx] of a torch.nn.ModuleList.",
                category=PossibleUserWarning,
                stacklevel=5,
            )

    def _check_same_settings(self, entry: Entry, name: str, arguments: tuple[Any, ...]) -> None:
        settings = resolve_settings(self.hook, name, arguments)
        if settings != entry.settings:
            differences = ", ".join(
                f"{setting}={old!r} and then {new!r}"
                for setting, old, new in zip(Settings._fields, entry.settings, settings, strict=True)
                if old != new
            )
            raise MisconfigurationError(
                f'self.log("{name}", ...) was called twice in `{self.hook}` with different settings: {differences}. '
                "Use the same settings, or another name."
            )
        entry.arguments = arguments  # other words for the same; compared as they are the next time

    def _measure_batch(self) -> int:
        if self.batch is None:
            return 1
        self.batch_size, ambiguous = size_of(self.batch)
        if ambiguous and not self._warned:
            self._warned = True
            warnings.warn(
                f"The tensors of a batch differ in their first dimension; {self.batch_size}, the first one's, is taken "
                "as the batch size by which epoch means are weighted. Pass self.log(..., batch_size=...) to be sure.",
                category=PossibleUserWarning,
                stacklevel=4,
            )
        return self.batch_size

    # What the loops do.

    def begin(self, training: bool) -> Results | None:
        """Start recording an epoch of training or an evaluation.

        Returns:
            The results that were being recorded until now, to give to `resume`.
        """
        self._outer, self._results = self._results, Results(training)
        self.batch = self.batch_size = self.dataloader_idx = None
        return self._outer

    def begin_loader(self, index: int | None) -> None:
        """The batches from here on are those of this one of several evaluation loaders, None of the only one.

        What belongs to the loader before it is complete.
        """
        if self.dataloader_idx is not None and index != self.dataloader_idx and self._results is not None:
            for entry in self._results.entries.values():
                if entry.dataloader_idx == self.dataloader_idx:
                    entry.settle()
        self.dataloader_idx = index

    def resume(self, results: Results | None) -> None:
        """Go on recording into what `begin` returned."""
        self._outer, self._results = None, results
        self.batch = self.batch_size = self.dataloader_idx = None

    @property
    def loggers(self) -> Sequence[Logger]:
        """The loggers that get what is recorded; none but on the process that writes."""
        return self._loggers

    def send_hyperparameters(self, settings: Mapping[str, Any]) -> None:
        """Send the settings of the run to the loggers, to each its own dict; without any, nothing is sent."""
        if settings:
            for logger in self._loggers:
                logger.log_hyperparams(dict(settings))

    def send_step(self, step: int, epoch: int) -> None:
        """Send the step values that came in since the last call to the loggers."""
        assert self._results is not None
        self._send([Row(self._results.step_values(), step, epoch)])

    def keep_step(self, epoch: int) -> None:
        """Keep the step values of an evaluation batch, on their device, until `send_kept_steps`.

        Their x axis counts the evaluation batches of the run.
        """
        assert self._results is not None
        if values := self._results.step_values():
            self._kept_rows.append(Row(values, self._evaluated_batches, epoch))
        self._evaluated_batches += 1

    @property
    def kept_steps(self) -> int:
        """How many rows are waiting for `send_kept_steps`."""
        return len(self._kept_rows)

    def send_kept_steps(self) -> None:
        """Send what `keep_step` kept."""
        rows, self._kept_rows = self._kept_rows, []
        self._send(rows)

    def _send(self, rows: Sequence[Row]) -> None:
        rows = [row for row in rows if row.values]
        for row in rows:
            self._logged.update(row.values)
        self._unsaved = self._unsaved or bool(rows)
        if rows and self._loggers:
            self._send_rows(self._loggers, rows)

    def end_epoch(self) -> None:
        """The batches are over: from here on keys have the values of their epoch."""
        assert self._results is not None
        self._results.epoch_ended = True
        self.batch = self.batch_size = self.dataloader_idx = None

    def send_epoch(self, step: int, epoch: int) -> None:
        """Send the epoch's values to the loggers, and let them save what they were sent until now."""
        assert self._results is not None
        self._send([Row(self._results.epoch_values(), step, epoch)])
        if self._unsaved:
            self._unsaved = False
            for logger in self._loggers:
                logger.save()

    def end(self) -> None:
        """Keep what callbacks and bars may still read, and forget the rest."""
        if self._results is None:
            return
        self._callback_values.update(self._results.callback_values())
        self._progress_bar_values.update(self._results.progress_bar_values())
        self._logged.update(self._results.logger_values())
        reset_all(self._results.entries.values())
        self._results = None
        self.batch = self.batch_size = self.dataloader_idx = None

    def state_dict(self, metrics: Mapping[str, Metric]) -> dict[str, Any]:
        """What was logged so far, and what of the running training epoch: tensors and plain values.

        Args:
            metrics: the module's metric objects by name.
        """
        training = next((results for results in self._live() if results.training), None)
        running = training is not None and not training.epoch_ended
        return {
            "callback_metrics": _copies(self.callback_metrics),
            "logged_metrics": _copies(self.logged_metrics),
            "progress_bar_metrics": _copies(self._shown()),
            "epoch": results_state(training, metrics) if training is not None and running else [],
            "evaluated_batches": self._evaluated_batches,
        }

    def mark(self) -> tuple[Any, ...]:
        """What `state_dict` needs of this moment, between two batches of training, for `as_of`.

        Asked before every batch of some runs: nothing is reduced, and no tensor is copied.
        """
        results = self._results
        assert results is not None
        entries = [(key, entry, entry.mark()) for key, entry in results.entries.items()] if results.entries else ()
        earlier = self._callback_values.copy(), self._progress_bar_values.copy(), self._logged.copy()
        return entries, earlier, self._evaluated_batches

    def as_of(self, mark: tuple[Any, ...]) -> "Recorder":
        """One that knows what this one knew when it gave that mark, for its `state_dict` and what is read from it."""
        entries, earlier, evaluated_batches = mark
        then = Recorder()
        then._callback_values, then._progress_bar_values, then._logged = (dict(values) for values in earlier)
        then._evaluated_batches = evaluated_batches
        then._results = Results(training=True)
        then._results.entries = {key: entry.as_of(one) for key, entry, one in entries}
        return then

    def metrics_to_keep(self, metrics: Mapping[str, Metric]) -> dict[str, Metric]:
        """The metric objects whose contents a resumed run goes on with.

        Not those of an epoch that has ended, which are reset before the next one; nor those of a validation, which a
        resumed run begins anew.

        Args:
            metrics: the module's metric objects by name.
        """
        done = [results for results in self._live() if not results.training or results.epoch_ended]
        reset = {id(entry.metric) for results in done for entry in results.entries.values()}
        return {name: metric for name, metric in metrics.items() if id(metric) not in reset}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what an earlier process logged, but for the running epoch: monitors find it."""
        self._callback_values.update(state.get("callback_metrics", {}))
        self._logged.update(state.get("logged_metrics", {}))
        self._progress_bar_values.update(state.get("progress_bar_metrics", {}))
        self._evaluated_batches = state.get("evaluated_batches", 0)

    def load_epoch(self, state: Mapping[str, Any], metrics: Mapping[str, Metric], device: torch.device) -> None:
        """Go on with the training epoch that an earlier process was in, after `begin`.

        Args:
            state: what `state_dict` gave.
            metrics: the module's metric objects by name.
            device: where the next values will be.
        """
        assert self._results is not None
        load_results(self._results, state.get("epoch", []), metrics, device)

    def forget(self) -> None:
        """Forget everything: what a sanity check logged concerns nobody."""
        if self._results is not None:
            reset_all(self._results.entries.values())
        self._results = None
        self._callback_values, self._progress_bar_values, self._logged = {}, {}, {}

    # What others read.

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Every key that was logged in this run with its latest value, as a tensor on the value's own device."""
        return to_tensors(self._callback_values | self._running())

    @property
    def running_metrics(self) -> dict[str, Tensor]:
        """The part of `callback_metrics` that the running epoch, or evaluation, has logged; nothing of earlier ones."""
        return to_tensors(self._running())

    def _running(self) -> Values:
        values: Values = {}
        for results in self._live():
            values |= results.callback_values()
        return values

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The keys logged with prog_bar=True. Reading them waits for the device: do so only to draw."""
        return to_floats(self._shown())

    def _shown(self) -> Values:
        values: Values = {}
        for results in self._live():
            values |= results.progress_bar_values()
        # What changes comes first; what an earlier validation left behind stands at the end.
        return values | {key: value for key, value in self._progress_bar_values.items() if key not in values}

    def _live(self) -> Iterator[Results]:
        """What is being recorded: training first, then the validation inside it."""
        return (results for results in (self._outer, self._results) if results is not None)

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What loggers got, and what of the running step or epoch is meant for them; by name, latest values."""
        values = dict(self._logged)
        for results in self._live():
            values |= results.logger_values()
        return to_tensors(values)

    def evaluation_metrics(self, dataloaders: int) -> list[dict[str, float]]:
        """The epoch values of a running evaluation: a dict for each loader."""
        assert self._results is not None
        return [to_floats(self._results.evaluation_values(index)) for index in range(max(dataloaders, 1))]


class NullRecorder(Recorder):
    """Records nothing, for runs in which no microsecond may go into logging; says so once."""

    def log(self, name: str, value: Loggable, *args: Any, **kwargs: Any) -> None:
        """Warn the first time, and do nothing else."""
        if not self._warned:
            self._warned = True
            warnings.warn(f'self.log("{name}", ...) records nothing, because of Trainer(barebones=True).', stacklevel=3)


def _copies(values: Mapping[str, Any]) -> dict[str, Any]:
    """Copies of tensors, on their devices: the beginning of a validation is written down so, and waits for none."""
    return {name: value.detach().clone() if isinstance(value, Tensor) else value for name, value in values.items()}


def log_without_a_run(name: str) -> None:
    """What `self.log` does when no trainer is running: a warning, so that a module can be tried on its own."""
    warnings.warn(
        f'self.log("{name}", ...) was called while no trainer is running this module or callback: the value is not '
        "recorded.",
        category=PossibleUserWarning,
        stacklevel=3,
    )
