"""`BatchSizeFinder`: tries growing batch sizes before a run begins, and sets the largest that fits into memory."""

import warnings
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.memory import garbage_collection_cuda, is_oom_error
from hookloop.parsing import lightning_getattr, lightning_hasattr, lightning_setattr
from hookloop.view import TrainerView
from hookloop_callbacks_tuning.memory_budget import can_watch, memory_budget
from hookloop_callbacks_tuning.search import largest_by_halving, largest_power

MODES = ("power", "binsearch")
STAGES = ("fit", "validate", "test", "predict")


class BatchSizeFinder(Callback):
    """Finds the largest batch size that fits where a fit begins anew, or a validation, a test or a prediction.

    A size is tried by a few steps apart from the run (`trainer.trial`): in a fit, training and then validation, with
    gradients and the optimizer's state in memory. Afterwards everything is as it was, memory is given back, and the
    size is set where the loaders are made from: the attribute of the module, its hparams, or the datamodule. A loader
    that does not follow the attribute is an error. A fit that is resumed, or goes on, keeps its size; a trial run
    (`fast_dev_run`) finds none.

    Out of memory is what torch says so of, on any device. The CPU does not: there, give a budget in `max_memory`.

    Args:
        mode: "power" doubles the size until it fails; "binsearch" then halves the distance to the size that failed.
        steps_per_trial: optimizer steps, and validation batches, for each size.
        init_val: the first size.
        max_trials: sizes to try.
        batch_arg_name: name of the attribute.
        margin: by which share the size that was found is made smaller, from 0 and below 1, in both modes.
        max_val: the largest size to try.
        max_memory: bytes that a trial may add to the memory of this process; None is no budget.
        stages: the entry points before which a size is found: some of "fit", "validate", "test", "predict".

    Raises:
        MisconfigurationError: an argument is none of these; when a run begins, there is no such attribute, there are
            several loaders, a loader does not follow the attribute, or not even a size of 1 fits.

    Attributes:
        optimal_batch_size: what was found, after the margin; None before.
    """

    order: ClassVar[Order] = Order.FIRST
    family: ClassVar[str | None] = "batch_size_finder"
    conflicts: ClassVar[tuple[str, ...]] = ("batch_size_finder",)

    def __init__(
        self,
        mode: Literal["power", "binsearch"] = "power",
        steps_per_trial: int = 3,
        init_val: int = 2,
        max_trials: int = 25,
        batch_arg_name: str = "batch_size",
        margin: float = 0.05,
        max_val: int = 8192,
        *,
        max_memory: int | None = None,
        stages: Sequence[str] = STAGES,
    ) -> None:
        name = type(self).__name__
        if mode not in MODES:
            raise MisconfigurationError(f"{name}(mode={mode!r}) must be one of {', '.join(map(repr, MODES))}.")
        numbers = {"steps_per_trial": steps_per_trial, "init_val": init_val, "max_trials": max_trials}
        numbers |= {"max_val": max_val} | ({} if max_memory is None else {"max_memory": max_memory})
        for argument, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise MisconfigurationError(f"{name}({argument}={value!r}) must be a whole number of at least 1.")
        if init_val > max_val:
            raise MisconfigurationError(f"{name}(init_val={init_val}, max_val={max_val}): begin with a smaller size.")
        if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 <= margin < 1:
            raise MisconfigurationError(f"{name}(margin={margin!r}) must be a number from 0 and below 1.")
        if not isinstance(batch_arg_name, str) or not batch_arg_name:
            raise MisconfigurationError(f"{name}(batch_arg_name={batch_arg_name!r}) must be the name of an attribute.")
        if isinstance(stages, str) or not set(stages) <= set(STAGES):
            raise MisconfigurationError(f"{name}(stages={stages!r}) must be some of {', '.join(map(repr, STAGES))}.")
        if max_memory is not None and not can_watch():
            raise MisconfigurationError(
                f"{name}(max_memory={max_memory}): this platform does not tell how much memory a process has (Linux "
                "does). Leave it out, and give max_val."
            )
        self.mode, self.steps_per_trial, self.init_val, self.max_trials = mode, steps_per_trial, init_val, max_trials
        self.batch_arg_name, self.margin, self.max_val, self.max_memory = batch_arg_name, margin, max_val, max_memory
        self.stages = tuple(stages)
        self.optimal_batch_size: int | None = None
        self._restored: int | None = None

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a size, if this is the beginning of a training."""
        restored, self._restored = self._restored, None
        if restored is not None:
            self._check(trainer, pl_module)
            lightning_setattr(pl_module, self.batch_arg_name, restored)
        if "fit" in self.stages and trainer.ckpt_path is None and trainer.global_step == 0:
            self.scale_batch_size(trainer, pl_module)

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a size for a validation that is no part of a fit."""
        if str(trainer.state.fn) == "validate" and "validate" in self.stages:
            self.scale_batch_size(trainer, pl_module)

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a size for a test."""
        if "test" in self.stages:
            self.scale_batch_size(trainer, pl_module)

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a size for a prediction."""
        if "predict" in self.stages:
            self.scale_batch_size(trainer, pl_module)

    def scale_batch_size(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Find a size and set it; to be called in one of the hooks above."""
        if trainer.fast_dev_run:
            warnings.warn(f"{type(self).__name__} does nothing in a trial run (fast_dev_run).", stacklevel=2)
            return
        self._check(trainer, pl_module)
        name, before = self.batch_arg_name, lightning_getattr(pl_module, self.batch_arg_name)
        most = self.max_val
        failure: str | None = None

        def works(size: int) -> bool:
            nonlocal most, failure
            if size > most:
                return False  # more than there are samples
            lightning_setattr(pl_module, name, size)
            looks = _Looks(self, size)
            failure = self._failure(trainer, looks)
            if failure is None and looks.samples is not None and size >= looks.samples:
                most = size
            return failure is None

        search = largest_power if self.mode == "power" else largest_by_halving
        try:
            found = search(works, self.init_val, self.max_val, self.max_trials)
        except BaseException:
            lightning_setattr(pl_module, name, before)
            raise
        if not found:
            lightning_setattr(pl_module, name, before)
            raise MisconfigurationError(
                f"{type(self).__name__} found no batch size that fits, beginning with {self.init_val}: {failure} Use a "
                "smaller model, a lower precision, or more max_trials."
            )
        self.optimal_batch_size = max(1, int(found * (1 - self.margin)))
        lightning_setattr(pl_module, name, self.optimal_batch_size)
        trainer.forget_dataloaders()
        trainer.print(f"Batch size set to {self.optimal_batch_size}")

    def state_dict(self) -> dict[str, Any]:
        """The size."""
        return {} if self.optimal_batch_size is None else {"batch_size": self.optimal_batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over: the batches of a resumed run are those of the saved one."""
        self.optimal_batch_size = self._restored = state_dict["batch_size"]

    def _failure(self, trainer: TrainerView, looks: "_Looks") -> str | None:
        """Try a size; what went wrong, if it takes too much memory. Other errors are raised."""
        failure: str | None = None
        try:
            with memory_budget(self.max_memory) as budget:
                looks.budget = budget
                trainer.trial([looks], max_steps=self.steps_per_trial, limit_val_batches=self.steps_per_trial)
            if budget.exceeded:
                failure = f"a trial took more than max_memory={self.max_memory} bytes."
        except (RuntimeError, MemoryError) as error:
            if not (isinstance(error, MemoryError | torch.OutOfMemoryError) or is_oom_error(error)):
                raise
            failure = f"{type(error).__name__}: {error}."
        # Here the error is gone, whose traceback held the batch and all that was computed of it.
        garbage_collection_cuda()
        return failure

    def _check(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        name = type(self).__name__
        if trainer.world_size > 1:
            raise MisconfigurationError(f"{name} works with one process, and this run has {trainer.world_size}.")
        if not lightning_hasattr(pl_module, self.batch_arg_name):
            raise MisconfigurationError(
                f"{name} is to set {self.batch_arg_name!r}, and neither {type(pl_module).__name__}, nor its hparams, "
                "nor a datamodule has it. Make the loaders with that attribute, or name another one (batch_arg_name)."
            )


class _Looks(Callback):
    """Looks whether the loaders have the size that is tried, and ends a trial that has taken too much memory."""

    def __init__(self, finder: BatchSizeFinder, size: int) -> None:
        self._finder, self._size = finder, size
        self.samples: int | None = None
        self.budget: Any = None

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self._look(trainer.train_dataloader, "training")

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        if self.budget.exceeded:
            trainer.should_stop = True

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if str(trainer.state.fn) == "validate":  # in a fit, validation may have batches of its own
            self._look(trainer.val_dataloaders, "validation")

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self._look(trainer.test_dataloaders, "test")

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self._look(trainer.predict_dataloaders, "predict")

    def _look(self, loader: Any, kind: str) -> None:
        name, argument = type(self._finder).__name__, self._finder.batch_arg_name
        if not isinstance(loader, DataLoader):
            raise MisconfigurationError(
                f"{name} needs one {kind} DataLoader, and there is a {type(loader).__name__}. Leave the finder out."
            )
        size = getattr(loader.batch_sampler, "batch_size", loader.batch_size)
        if size != self._size:
            raise MisconfigurationError(
                f"{name} has set {argument!r} to {self._size}, and the {kind} DataLoader has a batch size of {size}. "
                f"Make it from that attribute, in {kind if kind != 'training' else 'train'}_dataloader() of the module "
                "or the datamodule, and do not pass loaders to the Trainer."
            )
        try:
            self.samples = len(loader.dataset)  # type: ignore[arg-type]
        except TypeError:
            self.samples = None
