"""`TrainerView`: the whole of what a callback or a module may ask of the trainer that runs it."""

from collections.abc import Callable, MutableSequence, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from hookloop.loggers import Logger
from hookloop.profilers import Profiler
from hookloop.stage import TrainerState


class TrainerView(Protocol):
    """What hooks receive as `trainer`. Read what you like; write only what has a setter.

    Packages are independent of the core's inside because this is all there is: whatever a built-in callback asks of the
    trainer stands here.
    """

    # where the run is

    @property
    def state(self) -> TrainerState:
        """Entry point (`fn`), stage and status."""
        ...

    @property
    def current_epoch(self) -> int:
        """Index of the running training epoch, 0-based; after an epoch is over, of the next one."""
        ...

    @property
    def global_step(self) -> int:
        """Optimizer steps taken since the start of training, over all optimizers."""
        ...

    @property
    def batch_idx(self) -> int:
        """Training batches of the running epoch that are done; inside `on_train_batch_end`, this one included."""
        ...

    @property
    def is_last_batch(self) -> bool:
        """Whether the running batch is the last of its epoch."""
        ...

    @property
    def is_accumulating(self) -> bool:
        """Whether the running, or last, batch only adds to the gradients, and the optimizer does not step in it."""
        ...

    @property
    def should_stop(self) -> bool:
        """Whether somebody asked training to end; set it to ask."""
        ...

    @should_stop.setter
    def should_stop(self, value: bool) -> None: ...

    @property
    def training(self) -> bool:
        """Whether a fit is running, from its setup to its teardown, and neither its sanity check nor a validation."""
        ...

    @property
    def validating(self) -> bool:
        """Whether validation is running, inside a fit too; not during the sanity check."""
        ...

    @property
    def testing(self) -> bool:
        """Whether a test is running."""
        ...

    @property
    def predicting(self) -> bool:
        """Whether a prediction is running."""
        ...

    @property
    def sanity_checking(self) -> bool:
        """Whether the validation batches before training are running."""
        ...

    @property
    def interrupted(self) -> bool:
        """Whether the last entry point ended by an exception."""
        ...

    @property
    def received_sigterm(self) -> bool:
        """Whether the process was asked to end while this entry point, or the last one, ran.

        By SIGTERM, or by a signal among a callback's `preemption_signals`.
        """
        ...

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint that this run was restored from."""
        ...

    @property
    def ckpt_weights(self) -> str | None:
        """Which of its weights were asked for, by the argument `weights`; None if nobody has said."""
        ...

    # how far it may go

    @property
    def max_epochs(self) -> int:
        """Epochs after which training ends; -1 is no limit."""
        ...

    @property
    def min_epochs(self) -> int:
        """Epochs before which `should_stop` is not obeyed."""
        ...

    @property
    def max_steps(self) -> int:
        """Optimizer steps after which training ends; -1 is no limit."""
        ...

    @property
    def min_steps(self) -> int:
        """Optimizer steps before which `should_stop` is not obeyed."""
        ...

    @property
    def fast_dev_run(self) -> bool | int:
        """Whether this is a trial run of a few batches that should leave no files; the number of batches if given."""
        ...

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches whose gradients make one optimizer step; a new value holds from the next window on."""
        ...

    @accumulate_grad_batches.setter
    def accumulate_grad_batches(self, value: int) -> None: ...

    @property
    def val_check_interval(self) -> int | float | timedelta:
        """Training batches between validations, or a fraction of the epoch, as it was passed; or the time between."""
        ...

    @property
    def check_val_every_n_epoch(self) -> int | None:
        """Training epochs between validations; None counts batches across epochs."""
        ...

    @property
    def enable_validation(self) -> bool:
        """Whether this fit validates."""
        ...

    @property
    def log_every_n_steps(self) -> int:
        """Optimizer steps between two rows of the loggers; 0 logs no step."""
        ...

    @property
    def should_update_logs(self) -> bool:
        """Whether the running step's values go to the loggers: what a callback logs by itself should go too."""
        ...

    @property
    def num_training_batches(self) -> float:
        """Batches of a training epoch, `math.inf` if unknown, 0 before the loader is there."""
        ...

    @property
    def num_val_batches(self) -> list[float]:
        """Batches of each validation loader, `math.inf` if unknown."""
        ...

    @property
    def num_sanity_val_batches(self) -> list[float]:
        """Batches of each validation loader that the sanity check uses."""
        ...

    @property
    def num_test_batches(self) -> list[float]:
        """Batches of each test loader, `math.inf` if unknown."""
        ...

    @property
    def num_predict_batches(self) -> list[float]:
        """Batches of each predict loader, `math.inf` if unknown."""
        ...

    @property
    def batch_samples(self) -> list[Any] | None:
        """The indices of the samples of the running predict batch, as its sampler drew them, in their order.

        None unless `follow_samples` was called, and where nobody can tell: for loaders that are no DataLoader, whose
        dataset is iterable, or that have `in_order=False`.
        """
        ...

    def follow_samples(
        self, begins: Sequence[int] = (), left_out: Callable[[int, int, list[Any]], None] | None = None
    ) -> None:
        """Have `batch_samples` know the samples of each batch of this prediction. Call it in `on_predict_start`.

        Args:
            begins: for each loader, the first batch that the callback has a use for. With
                `predict(return_predictions=False)`, batches that nobody has a use for are left out, and not read if
                their loader is a DataLoader over a map-style dataset.
            left_out: is called for each batch that is left out unread before another one of its loader, with the
                indices of its loader and of the batch, and the indices of its samples.

        Raises:
            MisconfigurationError: no prediction is running.
        """
        ...

    @property
    def estimated_stepping_batches(self) -> float:
        """Optimizer steps that this fit will take if nothing stops it, `math.inf` if unknown."""
        ...

    # what was logged

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Everything logged in this run, latest values."""
        ...

    @property
    def running_metrics(self) -> dict[str, Tensor]:
        """The part of `callback_metrics` that the running epoch has logged, and the running validation inside it.

        A value that an earlier epoch or validation left behind, and that belongs to other weights, is not in it.
        """
        ...

    @property
    def logged_metrics(self) -> dict[str, Tensor]:
        """What loggers got, and what is meant for them and not sent yet; latest values."""
        ...

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """What was logged with prog_bar=True; reading it waits for the device."""
        ...

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        ...

    @property
    def loggers(self) -> Sequence[Logger]:
        """All loggers."""
        ...

    @property
    def log_dir(self) -> str | None:
        """The folder of the first logger that has one, or `default_root_dir` if none has."""
        ...

    @property
    def default_root_dir(self) -> str:
        """Where files go for which no other place was given."""
        ...

    # what it works with

    @property
    def lightning_module(self) -> Any:
        """The module that is, or was last, run; None before the first run."""
        ...

    @property
    def datamodule(self) -> Any:
        """The datamodule of the run, if it has one."""
        ...

    @property
    def train_dataloader(self) -> Any:
        """The training loader, None before it was needed."""
        ...

    @property
    def val_dataloaders(self) -> Any:
        """The validation loader or loaders, as they were given."""
        ...

    @property
    def test_dataloaders(self) -> Any:
        """The test loader or loaders, as they were given."""
        ...

    @property
    def predict_dataloaders(self) -> Any:
        """The predict loader or loaders, as they were given."""
        ...

    @property
    def callbacks(self) -> MutableSequence[Any]:
        """The callbacks in the order in which they run; changes during a run hold from the next hook on."""
        ...

    @property
    def checkpoint_callbacks(self) -> list[Any]:
        """The callbacks of family "checkpoint"."""
        ...

    @property
    def checkpoint_callback(self) -> Any:
        """The first of them, or None."""
        ...

    @property
    def early_stopping_callbacks(self) -> list[Any]:
        """The callbacks of family "early_stopping"."""
        ...

    @property
    def progress_bar_callback(self) -> Any:
        """The callback of family "progress_bar", or None."""
        ...

    @property
    def optimizers(self) -> list[Optimizer]:
        """torch's optimizers."""
        ...

    @property
    def lightning_optimizers(self) -> list[Any]:
        """The same, each wrapped so that its `step` is the trainer's: hooks, clipping, precision, counting."""
        ...

    @property
    def gradient_clip_val(self) -> int | float | None:
        """The largest total norm, or absolute value, that gradients are clipped to; None for no clipping."""
        ...

    @property
    def gradient_clip_algorithm(self) -> str | None:
        """How gradients are clipped: "norm" or "value"; None if not given, which is "norm"."""
        ...

    @property
    def lr_scheduler_configs(self) -> list[Any]:
        """The schedulers, each with its interval, frequency and monitor."""
        ...

    @property
    def strategy(self) -> Any:
        """How the model lives on its devices: `root_device`, `reduce`, `broadcast`, `barrier`, `all_gather`."""
        ...

    @property
    def accelerator(self) -> Any:
        """The kind of device."""
        ...

    @property
    def profiler(self) -> Profiler:
        """Who measures the run: `with trainer.profiler.profile("name"):` times a part of your own, in every state."""
        ...

    @property
    def precision(self) -> str:
        """The numeric precision, for example "32-true"."""
        ...

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        ...

    @property
    def global_rank(self) -> int:
        """Index of this process in the run."""
        ...

    @property
    def local_rank(self) -> int:
        """Index of this process on this machine."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes in the run."""
        ...

    @property
    def is_global_zero(self) -> bool:
        """Whether this is the process that writes files and prints."""
        ...

    # what it does on request

    def pause(self, reason: str) -> None:
        """End this run after the running batch, in a validation too, so that another one can go on with it.

        It ends as one that was preempted, but for the process: `on_preemption` of every callback is called, with 0 for
        the signal, and those of Order LAST save in it; then the run is unwound, and the entry point returns, with
        `trainer.interrupted`. Unlike `should_stop`, which ends training, it asks for no `min_epochs`, and what is
        resumed goes on with the next batch. With several processes, all of them have to ask in the same batch.

        Args:
            reason: in a sentence; whoever asks first is believed.
        """
        ...

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print from rank zero alone, above a progress bar if there is one."""
        ...

    def save_checkpoint(
        self,
        filepath: str | Path,
        weights_only: bool = False,
        storage_options: Any | None = None,
        *,
        background: bool = False,
        on_error: Literal["raise", "warn"] = "raise",
    ) -> None:
        """Write a checkpoint of the run as it is now, or begin to: see `Trainer.save_checkpoint`."""
        ...

    def trial(self, callbacks: Sequence[Any] = (), *, max_steps: int, limit_val_batches: int = 0) -> None:
        """Run a few batches apart from the run, after which everything is as it was: see `Trainer.trial`."""
        ...

    def forget_dataloaders(self) -> None:
        """Have the loaders asked for anew: see `Trainer.forget_dataloaders`."""
        ...

    def wait_for_checkpoints(self) -> None:
        """Wait for a checkpoint that is being written in the background."""
        ...
