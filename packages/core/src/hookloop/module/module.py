"""`LightningModule`: a model together with how it is trained."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from hookloop.batches import map_batch
from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.loggers import Logger
from hookloop.metrics import Loggable, Recorder, log_without_a_run
from hookloop.module.manual import ManualOptimization
from hookloop.module.saving import SavedModule
from hookloop.view import TrainerView


class LightningModule(ManualOptimization, SavedModule):
    """Define `training_step` and `configure_optimizers` to fit, the other `*_step` methods for the other entry points.

    Everything else is optional. Hooks of the same name as a callback's run in the middle: after the callbacks of Order
    FIRST and NORMAL, before those of MONITOR and LAST.
    """

    # Set for the time of a run; class attributes, so that they are there before __init__ is through.
    _trainer: TrainerView | None = None
    _recorder: Recorder | None = None
    _outer_links: Mapping[str, Any] | None = None
    _compiler: Callable[..., Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle of a module is not attached to a trainer, and must not drag it along. It is not compiled
        # either: torch leaves out what module.compile() made, too.
        state: dict[str, Any] = super().__getstate__()  # type: ignore[no-untyped-call]
        for link in ("_compiler", *_LINKS):
            state.pop(link, None)
        return state

    def _join_run(self, trainer: TrainerView, recorder: Recorder) -> TrainerView | None:
        """A run begins.

        Returns:
            The trainer that runs this module already, and in a hook of which the new run was started. It has the module
            back when that one ends. None if there is none.
        """
        outer = None if self._recorder is None else {link: getattr(self, link) for link in _LINKS}
        self._trainer, self._recorder, self._outer_links = trainer, recorder, outer
        self._backward_of_run = self._turns = None
        return None if outer is None else outer["_trainer"]

    def _leave_run(self) -> None:
        super()._leave_run()
        outer, self._recorder, self._outer_links = self._outer_links, None, None
        for link, value in (outer or {}).items():
            setattr(self, link, value)

    # the steps

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor | Mapping[str, Any] | None:
        """The loss of a batch: `training_step(batch, batch_idx)`.

        Returns:
            The loss as a tensor with one element, or a dict that has it under "loss", or None to skip this batch.
        """
        raise MisconfigurationError(_undefined(self, "training_step(self, batch, batch_idx)"))

    def validation_step(self, *args: Any, **kwargs: Any) -> Tensor | Mapping[str, Any] | None:
        """Evaluate a batch: `validation_step(batch, batch_idx, dataloader_idx=0)`; several loaders bring the index."""
        raise MisconfigurationError(_undefined(self, "validation_step(self, batch, batch_idx)"))

    def test_step(self, *args: Any, **kwargs: Any) -> Tensor | Mapping[str, Any] | None:
        """Evaluate a batch: `test_step(batch, batch_idx, dataloader_idx=0)`; several loaders bring the index."""
        raise MisconfigurationError(_undefined(self, "test_step(self, batch, batch_idx)"))

    def predict_step(self, *args: Any, **kwargs: Any) -> Any:
        """The prediction for a batch: `predict_step(batch, batch_idx, dataloader_idx=0)`; calls forward by default."""
        return self(args[0])

    # configuration

    def configure_optimizers(self) -> Any:
        """The optimizers and schedulers, in any of six forms.

        An optimizer; a list of optimizers; two lists, of optimizers and of schedulers; a dict with "optimizer" and
        perhaps "lr_scheduler"; a tuple of such dicts; None to train without an optimizer. A scheduler stands for
        itself, or is a dict with "scheduler" and perhaps "interval" ("epoch" or "step"), "frequency", "monitor",
        "strict", "name".
        """
        raise MisconfigurationError(_undefined(self, "configure_optimizers(self)"))

    def configure_callbacks(self) -> Any:
        """Callbacks that this module needs; they replace the trainer's of the same class or of a base of it."""
        return []

    def prepare_data(self) -> None:
        """Download and preprocess; called by one process of each machine (`prepare_data_per_node`), or of the run.

        Do not set state here: other processes would not have it.
        """

    def train_dataloader(self) -> Any:
        """For training: any iterable of batches, or several of them in a list, a dict or a CombinedLoader."""
        return None

    def val_dataloader(self) -> Any:
        """For validation: any iterable of batches, or several in a list, a dict or a CombinedLoader."""
        return None

    def test_dataloader(self) -> Any:
        """For testing, likewise."""
        return None

    def predict_dataloader(self) -> Any:
        """For prediction, likewise."""
        return None

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of `loss`."""
        loss.backward(*args, **kwargs)

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step. The closure runs training_step, zero_grad and backward: pass it on, or call it and step without one."""
        optimizer.step(closure=optimizer_closure)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Clear the gradients at the start of an accumulation window."""
        optimizer.zero_grad()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip; called before every optimizer step with the trainer's arguments."""
        # Not self.clip_gradients, which checks its arguments: these are the trainer's, and this is every step.
        self.trainer.strategy.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm or "norm")

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Step a scheduler; `metric` is the monitored value of a plateau scheduler, else None."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    # what it may do and ask

    def log(
        self,
        name: str,
        value: Loggable,
        prog_bar: bool = False,
        logger: bool | None = None,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str | Callable[..., Any] = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        sync_dist_group: Any = None,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Log a value to loggers, callbacks and the progress bar.

        Args:
            name: the key. With both on_step and on_epoch it forks into `<name>_step` and `<name>_epoch`.
            value: a tensor with one element, a number, or an object with update, compute and reset.
            prog_bar: also for the progress bar.
            logger: for the loggers; None is True.
            on_step: log the value of this step. None: True in training steps and their hooks, else False.
            on_epoch: log the reduction over the epoch. None: True wherever on_step is False by default.
            reduce_fx: "mean" (weighted by batch size), "sum", "min" or "max", or torch's function of that name.
            enable_graph: keep the autograd graph of the value.
            sync_dist: reduce over ranks.
            sync_dist_group: the process group for that.
            add_dataloader_idx: with several evaluation loaders, append `/dataloader_idx_<i>` to the key.
            batch_size: samples that the value stands for; None takes the first dimension of the batch's first tensor.
            metric_attribute: accepted for code written for Lightning; metric objects are found without it.
            rank_zero_only: logged by rank zero alone, so that nobody waits for other ranks.

        Raises:
            MisconfigurationError: the hook may not log, the value cannot be logged, or the same key was logged
                with other settings.
        """
        recorder = self._recorder
        if recorder is None:
            log_without_a_run(name)
            return
        settings = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, rank_zero_only)
        recorder.log(name, value, settings, add_dataloader_idx, batch_size)

    def log_dict(self, dictionary: Mapping[str, Loggable], **arguments: Any) -> None:
        """Log every item of `dictionary` under its key; `arguments` are those of `log`."""
        if not hasattr(dictionary, "items"):
            raise MisconfigurationError(
                f"self.log_dict({dictionary!r}): a {type(dictionary).__name__} has no names. Pass a dict from names to "
                "values; a single value is for self.log(name, value)."
            )
        for name, value in dictionary.items():
            self.log(name, value, **arguments)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print from rank zero alone, above a progress bar if there is one."""
        if self._trainer is None:
            print(*args, **kwargs)
        else:
            self._trainer.print(*args, **kwargs)

    def all_gather(self, data: Any, group: Any = None, sync_grads: bool = False) -> Any:
        """The tensors of all processes of the run.

        Args:
            data: a tensor or a number, or a nested container of them.
            group: the process group; None: all processes. One process has no others.
            sync_grads: whether gradients flow back through it.

        Returns:
            The same container, with tensors of shape (world_size, *shape) on the module's device. A run of one process
            adds no dimension: shape (*shape).
        """
        strategy, world_size = self.trainer.strategy, self.trainer.world_size

        def gathered(value: Any) -> Any:
            tensor = value.to(self.device) if isinstance(value, Tensor) else torch.tensor(value, device=self.device)
            return tensor if world_size == 1 else strategy.all_gather(tensor, group=group, sync_grads=sync_grads)

        return map_batch(gathered, data, (Tensor, bool, int, float))

    @property
    def trainer(self) -> TrainerView:
        """The trainer that runs, or last ran, this module.

        Raises:
            HookloopError: there was none yet.
        """
        if self._trainer is None:
            # An AttributeError would be swallowed by nn.Module.__getattr__ and come out as a missing attribute.
            raise HookloopError(
                f"{type(self).__name__} is not attached to a Trainer. Pass it to fit, validate, test or predict first."
            )
        return self._trainer

    @trainer.setter
    def trainer(self, trainer: TrainerView | None) -> None:
        self._trainer = trainer

    @property
    def current_epoch(self) -> int:
        """Index of the running epoch; 0 without a trainer."""
        return self._trainer.current_epoch if self._trainer is not None else 0

    @property
    def global_step(self) -> int:
        """Optimizer steps taken; 0 without a trainer."""
        return self._trainer.global_step if self._trainer is not None else 0

    @property
    def global_rank(self) -> int:
        """Index of this process in the run; 0 without a trainer."""
        return self._trainer.global_rank if self._trainer is not None else 0

    @property
    def local_rank(self) -> int:
        """Index of this process on this machine; 0 without a trainer."""
        return self._trainer.local_rank if self._trainer is not None else 0

    @property
    def logger(self) -> Logger | None:
        """The trainer's first logger."""
        return self._trainer.logger if self._trainer is not None else None

    @property
    def loggers(self) -> Sequence[Logger]:
        """The trainer's loggers."""
        return self._trainer.loggers if self._trainer is not None else ()

    @property
    def device(self) -> torch.device:
        """The device of the first parameter or buffer; the CPU if there is none."""
        first = self._first_tensor()
        return first.device if first is not None else torch.device("cpu")

    @property
    def device_mesh(self) -> Any:
        """The mesh of devices over which the module's parts are spread, a torch.distributed DeviceMesh.

        None on one device, which is what hookloop trains on today.
        """
        return None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the first parameter or buffer; torch's default one if there is none."""
        first = self._first_tensor()
        return first.dtype if first is not None else torch.get_default_dtype()

    def _first_tensor(self) -> Tensor | None:
        parameter = next(self.parameters(), None)
        return parameter if parameter is not None else next(self.buffers(), None)


_LINKS = ("_trainer", "_recorder", "_outer_links", "_backward_of_run", "_turns")
"""What ties a module to a run."""


def _undefined(module: LightningModule, signature: str) -> str:
    return f"{type(module).__name__} does not define {signature}. Define it to use this entry point of the Trainer."
