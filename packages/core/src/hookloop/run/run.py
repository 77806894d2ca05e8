"""`Run`: everything that one entry point works with, put together by the Trainer and read by the loops."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hookloop.checkpoint_io.saves import Saves
from hookloop.datamodule import LightningDataModule
from hookloop.hooks import CompiledHooks
from hookloop.limits import Limits
from hookloop.loaders import Loaders
from hookloop.loggers import Logger
from hookloop.metrics import Recorder
from hookloop.module import LightningModule
from hookloop.optimizers import Optimization
from hookloop.profilers import Profiler
from hookloop.progress import Progress
from hookloop.run.window_start import WindowStart
from hookloop.stage import TrainerState
from hookloop.strategies import Strategy

GoOn: TypeAlias = Callable[[bool, bool], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One call of fit, validate, test or predict. The parts change as the run goes on; which parts they are does not.

    Attributes:
        module: what is run.
        datamodule: where its data comes from, if from there.
        strategy: how it lives on its devices.
        hooks: the compiled hooks.
        recorder: what was logged.
        loggers: what is told of the run; none on other ranks than zero.
        training_recorder: what the last fit of the module logged; in a fit, the same.
        progress: how far training has come; this and nothing else is where the run is.
        limits: how far it may go.
        loaders: its data.
        optimization: optimizers, schedulers and clipping, of the module's last fit; empty if it was never fitted.
        state: entry point, stage, status, and the wish to stop.
        saves: the file that is being written in the background.
        inference_mode: whether evaluation runs under torch.inference_mode rather than no_grad.
        detect_anomaly: whether a loss that is NaN or infinite is an error.
        profiler: who times the parts of the loops; None if nobody listens.
        held: entries that a checkpoint gets as they were at an earlier moment, while something is under way that a
            resumed run does anew; see `hookloop.run.moment`. Empty most of the time.
        window_start: the same for a batch and its accumulation window, if anybody saves inside of one.
    """

    module: LightningModule
    datamodule: LightningDataModule | None
    strategy: Strategy
    hooks: CompiledHooks
    recorder: Recorder
    loggers: Sequence[Logger]
    training_recorder: Recorder
    progress: Progress
    limits: Limits
    loaders: Loaders
    optimization: Optimization
    state: TrainerState
    saves: Saves
    inference_mode: bool = True
    detect_anomaly: bool = False
    profiler: Profiler | None = None
    held: dict[str, Any] = field(default_factory=dict)
    window_start: WindowStart = field(default_factory=WindowStart)
