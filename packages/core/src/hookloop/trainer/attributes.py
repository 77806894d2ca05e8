"""`TrainerAttributes`: what can be asked of a trainer in every stage and hook; `hookloop.view` has the meanings."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hookloop.accelerators import Accelerator
from hookloop.callback import Callback
from hookloop.callback_list import CallbackList, as_callbacks
from hookloop.errors import MisconfigurationError
from hookloop.limits import Limits
from hookloop.loggers import Logger, log_dir_of
from hookloop.module import LightningModule
from hookloop.optimizers import LightningOptimizer, LRSchedulerConfig
from hookloop.options import TrainerOptions
from hookloop.profilers import Profiler
from hookloop.progress import Progress
from hookloop.run import Run
from hookloop.stage import RunningStage, TrainerState, TrainerStatus
from hookloop.strategies import Strategy
from hookloop.trainer.arguments import check_loggers, validation_interval


class TrainerAttributes:
    """The trainer as others see it: properties over its parts, no part of its own.

    The Trainer sets the parts; after an entry point they tell of the last one.
    """

    _options: TrainerOptions
    _callbacks: CallbackList
    _loggers: list[Logger]
    _limits: Limits
    _progress: Progress
    _state: TrainerState
    _strategy: Strategy
    _profiler: Profiler
    _default_root_dir: str
    _ckpt_path: str | None
    _ckpt_weights: str | None
    _run: Run | None

    # where the run is

    @property
    def state(self) -> TrainerState:
        return self._state

    @property
    def current_epoch(self) -> int:
        return self._progress.epoch

    @property
    def global_step(self) -> int:
        return self._progress.global_step

    @property
    def batch_idx(self) -> int:
        return self._progress.batch

    @property
    def is_last_batch(self) -> bool:
        return self._progress.last_batch

    @property
    def is_accumulating(self) -> bool:
        return self._progress.accumulating

    @property
    def should_stop(self) -> bool:
        return self._state.should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        self._state.should_stop = bool(value)

    @property
    def training(self) -> bool:
        return self._state.stage is RunningStage.TRAINING

    @property
    def validating(self) -> bool:
        return self._state.stage is RunningStage.VALIDATING

    @property
    def testing(self) -> bool:
        return self._state.stage is RunningStage.TESTING

    @property
    def predicting(self) -> bool:
        return self._state.stage is RunningStage.PREDICTING

    @property
    def sanity_checking(self) -> bool:
        return self._state.stage is RunningStage.SANITY_CHECKING

    @property
    def evaluating(self) -> bool:
        """Whether a validation, a test or the sanity check is running."""
        return self._state.stage is not None and self._state.stage.evaluating

    @property
    def interrupted(self) -> bool:
        return self._state.status is TrainerStatus.INTERRUPTED

    @property
    def received_sigterm(self) -> bool:
        return self._state.received_signal is not None

    @property
    def ckpt_path(self) -> str | None:
        return self._ckpt_path

    @property
    def ckpt_weights(self) -> str | None:
        return self._ckpt_weights

    # how far it may go

    @property
    def max_epochs(self) -> int:
        return self._limits.max_epochs

    @max_epochs.setter
    def max_epochs(self, value: int) -> None:
        self._limits.change(max_epochs=value)

    @property
    def min_epochs(self) -> int:
        return self._limits.min_epochs

    @min_epochs.setter
    def min_epochs(self, value: int) -> None:
        self._limits.change(min_epochs=value)

    @property
    def max_steps(self) -> int:
        return self._limits.max_steps

    @max_steps.setter
    def max_steps(self, value: int) -> None:
        self._limits.change(max_steps=value)

    @property
    def min_steps(self) -> int:
        return self._limits.min_steps

    @min_steps.setter
    def min_steps(self, value: int) -> None:
        self._limits.change(min_steps=value)

    @property
    def fast_dev_run(self) -> bool | int:
        return self._options.fast_dev_run

    @property
    def accumulate_grad_batches(self) -> int:
        return self._limits.accumulate_grad_batches

    @accumulate_grad_batches.setter
    def accumulate_grad_batches(self, value: int) -> None:
        self._limits.change(accumulate_grad_batches=value)

    @property
    def gradient_clip_val(self) -> int | float | None:
        """The largest norm or value of gradients, as it was passed."""
        return self._options.gradient_clip_val

    @property
    def gradient_clip_algorithm(self) -> str | None:
        """How gradients are clipped, as it was passed."""
        return self._options.gradient_clip_algorithm

    @property
    def overfit_batches(self) -> int | float:
        """How many batches, or which part of them, are used in every epoch, as it was passed; 0 is no such limit."""
        return self._limits.overfit_batches

    @property
    def reload_dataloaders_every_n_epochs(self) -> int:
        """Epochs after which the training and the validation loaders are asked for anew; 0 asks once."""
        return self._limits.reload_dataloaders_every_n_epochs

    @reload_dataloaders_every_n_epochs.setter
    def reload_dataloaders_every_n_epochs(self, value: int) -> None:
        self._limits.change(reload_dataloaders_every_n_epochs=value)

    @property
    def val_check_interval(self) -> int | float | timedelta:
        return self._limits.val_check_interval

    @val_check_interval.setter
    def val_check_interval(self, value: int | float | str | timedelta | dict[str, int]) -> None:
        self._limits.change(val_check_interval=validation_interval(value))

    @property
    def check_val_every_n_epoch(self) -> int | None:
        return self._limits.check_val_every_n_epoch

    @check_val_every_n_epoch.setter
    def check_val_every_n_epoch(self, value: int | None) -> None:
        self._limits.change(check_val_every_n_epoch=value)

    @property
    def enable_validation(self) -> bool:
        from hookloop.loops import validates  # loaded by the first run

        return self._run is not None and validates(self._run)

    @property
    def log_every_n_steps(self) -> int:
        return self._limits.log_every_n_steps

    @log_every_n_steps.setter
    def log_every_n_steps(self, value: int) -> None:
        self._limits.change(log_every_n_steps=value)

    @property
    def should_update_logs(self) -> bool:
        every, progress = self._limits.log_every_n_steps, self._progress
        # Until it is counted, the running batch is the next one.
        step = progress.logged_step if progress.batch_counted else progress.logged_step + 1
        if every == 0 or step == 0 or progress.accumulating:
            return False
        return step % every == 0 or self._state.should_stop

    @property
    def limit_train_batches(self) -> int | float:
        """Batches of a training epoch, or a fraction of them, as it was passed."""
        return self._limits.limit_train_batches

    @limit_train_batches.setter
    def limit_train_batches(self, value: int | float) -> None:
        self._limits.change(limit_train_batches=value)

    @property
    def limit_val_batches(self) -> int | float:
        """The same for each validation loader."""
        return self._limits.limit_val_batches

    @limit_val_batches.setter
    def limit_val_batches(self, value: int | float) -> None:
        self._limits.change(limit_val_batches=value)

    @property
    def limit_test_batches(self) -> int | float:
        """The same for each test loader."""
        return self._limits.limit_test_batches

    @limit_test_batches.setter
    def limit_test_batches(self, value: int | float) -> None:
        self._limits.change(limit_test_batches=value)

    @property
    def limit_predict_batches(self) -> int | float:
        """The same for each predict loader."""
        return self._limits.limit_predict_batches

    @limit_predict_batches.setter
    def limit_predict_batches(self, value: int | float) -> None:
        self._limits.change(limit_predict_batches=value)

    @property
    def num_sanity_val_steps(self) -> int:
        """Validation batches before training; -1 is all of them."""
        return self._limits.num_sanity_val_steps

    @num_sanity_val_steps.setter
    def num_sanity_val_steps(self, value: int) -> None:
        self._limits.change(num_sanity_val_steps=value)

    @property
    def barebones(self) -> bool:
        """Whether this trainer does nothing but training."""
        return self._options.barebones

    @property
    def num_training_batches(self) -> float:
        return self._run.loaders.training_batches if self._run is not None else 0

    @property
    def num_val_batches(self) -> list[float]:
        return self._batches("val")

    @property
    def num_sanity_val_batches(self) -> list[float]:
        return self._run.loaders.sanity_batches() if self._run is not None else []

    @property
    def num_test_batches(self) -> list[float]:
        return self._batches("test")

    @property
    def num_predict_batches(self) -> list[float]:
        return self._batches("predict")

    @property
    def batch_samples(self) -> list[Any] | None:
        samples = self._run.loaders.samples if self._run is not None else None
        return None if samples is None else samples.current

    def follow_samples(
        self, begins: Sequence[int] = (), left_out: Callable[[int, int, list[Any]], None] | None = None
    ) -> None:
        if self._state.stage is not RunningStage.PREDICTING:
            raise MisconfigurationError(
                "trainer.follow_samples() is for predictions: call it in on_predict_start, or in setup if stage is "
                '"predict".'
            )
        loaders = self._running("follow_samples()").loaders
        if loaders.samples is None:
            from hookloop.loaders.samples import Samples  # for callbacks that ask

            loaders.samples = Samples()
        loaders.samples.ask(begins, left_out)

    def _batches(self, stage: str) -> list[float]:
        return list(self._run.loaders.batches.get(stage, [])) if self._run is not None else []

    @property
    def estimated_stepping_batches(self) -> float:
        from hookloop.loops import estimated_stepping_batches  # loaded by the first run

        return estimated_stepping_batches(self._running("estimated_stepping_batches"))

    # what was logged

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        return self._run.recorder.callback_metrics if self._run is not None else {}

    @property
    def running_metrics(self) -> dict[str, Tensor]:
        return self._run.recorder.running_metrics if self._run is not None else {}

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        return self._run.recorder.logged_metrics if self._run is not None else {}

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        return self._run.recorder.progress_bar_metrics if self._run is not None else {}

    @property
    def logger(self) -> Logger | None:
        return self._loggers[0] if self._loggers else None

    @logger.setter
    def logger(self, logger: Logger | None) -> None:
        self.loggers = [logger] if logger else []

    @property
    def loggers(self) -> list[Logger]:
        return list(self._loggers)

    @loggers.setter
    def loggers(self, loggers: Sequence[Logger]) -> None:
        # In place: a run that is on its way has this list too.
        self._loggers[:] = check_loggers(loggers)

    @property
    def log_dir(self) -> str | None:
        folders = (log_dir_of(logger) for logger in self._loggers)
        return next((folder for folder in folders if folder), self._default_root_dir)

    @property
    def default_root_dir(self) -> str:
        return self._default_root_dir

    # what it works with

    @property
    def lightning_module(self) -> LightningModule | None:
        return self._run.module if self._run is not None else None

    @property
    def model(self) -> LightningModule | None:
        """The same as `lightning_module`."""
        return self.lightning_module

    @property
    def datamodule(self) -> Any:
        return self._run.datamodule if self._run is not None else None

    @property
    def train_dataloader(self) -> Any:
        return self._given("train")

    @property
    def val_dataloaders(self) -> Any:
        return self._given("val")

    @property
    def test_dataloaders(self) -> Any:
        return self._given("test")

    @property
    def predict_dataloaders(self) -> Any:
        return self._given("predict")

    def _given(self, stage: str) -> Any:
        return self._run.loaders.given.get(stage) if self._run is not None else None

    @property
    def callbacks(self) -> CallbackList:
        return self._callbacks

    @callbacks.setter
    def callbacks(self, callbacks: Callback | Sequence[Callback] | None) -> None:
        self._callbacks.replace(as_callbacks(callbacks))

    @property
    def checkpoint_callbacks(self) -> list[Callback]:
        return self._of_family("checkpoint")

    @property
    def checkpoint_callback(self) -> Callback | None:
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def early_stopping_callbacks(self) -> list[Callback]:
        return self._of_family("early_stopping")

    @property
    def early_stopping_callback(self) -> Callback | None:
        """The first of the callbacks of family "early_stopping", or None."""
        return next(iter(self.early_stopping_callbacks), None)

    @property
    def progress_bar_callback(self) -> Callback | None:
        return next(iter(self._of_family("progress_bar")), None)

    def _of_family(self, family: str) -> list[Callback]:
        return [callback for callback in self._callbacks if callback.family == family]

    @property
    def optimizers(self) -> list[Optimizer]:
        return self._run.optimization.optimizers if self._run is not None else []

    @property
    def lightning_optimizers(self) -> list[LightningOptimizer]:
        return self._run.optimization.lightning_optimizers if self._run is not None else []

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        return self._run.optimization.schedulers if self._run is not None else []

    @property
    def strategy(self) -> Strategy:
        return self._strategy

    @property
    def accelerator(self) -> Accelerator:
        return self._strategy.accelerator

    @property
    def precision(self) -> str:
        return self._strategy.precision.name

    @property
    def device(self) -> torch.device:
        return self._strategy.root_device

    @property
    def profiler(self) -> Profiler:
        return self._profiler

    @property
    def global_rank(self) -> int:
        return self._strategy.collectives.global_rank

    @property
    def local_rank(self) -> int:
        return self._strategy.collectives.local_rank

    @property
    def world_size(self) -> int:
        return self._strategy.collectives.world_size

    @property
    def num_devices(self) -> int:
        """Devices that the run uses on this machine: one."""
        return 1

    @property
    def device_ids(self) -> list[int]:
        """Index of the device among those of its kind: [0] on the CPU."""
        return [self._strategy.root_device.index or 0]

    @property
    def num_nodes(self) -> int:
        """Machines that the run uses: one."""
        return 1

    @property
    def node_rank(self) -> int:
        """Index of this machine among them: 0."""
        return 0

    @property
    def is_global_zero(self) -> bool:
        return self._strategy.is_global_zero

    def _running(self, what: str) -> Run:
        if self._run is None:
            raise MisconfigurationError(
                f"trainer.{what} needs a module: call fit, validate, test or predict first, or use it inside a hook."
            )
        return self._run
