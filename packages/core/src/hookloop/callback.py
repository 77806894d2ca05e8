"""`Callback`, `LambdaCallback`, `Order`, and `Hooks`: the one list of everything a callback may override."""

from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from enum import IntEnum
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from torch.optim import Optimizer

from hookloop.errors import MisconfigurationError
from hookloop.metrics import Loggable, Recorder, log_without_a_run
from hookloop.module import LightningModule
from hookloop.view import TrainerView


class Order(IntEnum):
    """When a callback's hooks run, against the module's own hook and other callbacks.

    In every hook: FIRST, NORMAL, then the module, then MONITOR, then LAST. Inside a group the user's order holds.
    """

    FIRST = 0
    """Tuners: they look at the run before anybody else does."""
    NORMAL = 1
    """Everything that neither decides on metrics nor saves state."""
    MONITOR = 2
    """Reads metrics and decides: it sees what the module logged in the same hook."""
    LAST = 3
    """Saves state: all that the moment owes is done when it runs."""


class Hooks:
    """Everything that the trainer tells a callback, in documented no-ops. What nobody overrides is never called.

    Return values are ignored. `trainer` is the running trainer as `hookloop.view.TrainerView` describes it,
    `pl_module` the module that it runs. Eval and predict hooks get `dataloader_idx` only when there are several
    loaders, so keep its default.
    """

    # lifecycle

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """First hook of an entry point. `stage` is "fit", "validate", "test" or "predict"."""

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Last hook of an entry point; runs once for whoever completed `setup`, after an error too."""

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Optimizers exist, their state is not restored yet; callback state is."""

    def on_fit_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Training ended without an error."""

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """The first exception of the run, KeyboardInterrupt included, before any teardown."""

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        """The process was asked to end: the running batch is done, and the run ends after this hook.

        `signum` is SIGTERM, or one of `preemption_signals` of a callback; 0 where a callback has called
        `trainer.pause`: then the process does not end, and the entry point returns.

        Called once, in training, validation (inside a fit too), test and prediction. Callbacks of Order LAST save here:
        what is resumed from such a file goes on with the next batch, or with the validation that was cut short.
        Afterwards the run is unwound by a `SIGTERMException`, which ends the process with exit code 128 + signum.
        """

    # sanity check

    def on_sanity_check_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A few validation batches run before training; nothing they log is kept."""

    def on_sanity_check_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The sanity check is over."""

    # training

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Everything is restored; the first epoch is next."""

    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The last epoch is over."""

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A training epoch begins; not called when a run is resumed inside one."""

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """A training epoch ended, its validation included; epoch metrics are reduced."""

    def on_train_batch_start(
        self, trainer: TrainerView, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch is on the device; `batch_idx` counts from 0 in the epoch."""

    def on_train_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """A batch is done.

        `outputs` holds what training_step returned, detached, with the loss under "loss"; {} if it returned None. With
        automatic optimization the loss is divided by the number of batches in its accumulation window.
        """

    # validation

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Validation begins; the module is in eval mode."""

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Validation ended; its metrics are in `trainer.callback_metrics`."""

    def on_validation_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right before the first validation batch."""

    def on_validation_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right after the last validation batch; what is logged here is an epoch metric."""

    def on_validation_batch_start(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation batch is on the device."""

    def on_validation_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation batch is done; `outputs` is what validation_step returned."""

    # test

    def on_test_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Testing begins; the module is in eval mode."""

    def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Testing ended; its metrics are in `trainer.callback_metrics`."""

    def on_test_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right before the first test batch."""

    def on_test_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right after the last test batch; what is logged here is an epoch metric."""

    def on_test_batch_start(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A test batch is on the device."""

    def on_test_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A test batch is done; `outputs` is what test_step returned."""

    # prediction

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Prediction begins; the module is in eval mode. Nothing can be logged during prediction."""

    def on_predict_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Prediction ended."""

    def on_predict_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right before the first batch."""

    def on_predict_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Right after the last batch."""

    def on_predict_batch_start(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch is on the device."""

    def on_predict_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A batch is done; `outputs` is what predict_step returned."""

    # optimization

    def on_before_zero_grad(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """After the forward pass of a window's first batch, before gradients are cleared."""

    def on_before_backward(self, trainer: TrainerView, pl_module: LightningModule, loss: Tensor) -> None:
        """`loss` is what backward will be called on: divided by the accumulation window, scaled under AMP."""

    def on_after_backward(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Gradients of this batch are accumulated, neither unscaled nor clipped."""

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Gradients are complete and unscaled, and not clipped yet."""

    def on_after_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Weights are updated and `trainer.global_step` counts this step; gradients are still there.

        The batch is not counted yet, so this is no place to save a checkpoint: use on_train_batch_end.
        """

    # checkpoints

    def on_save_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Change or add to what is about to be saved; runs after every `state_dict`."""

    def on_load_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read from a loaded checkpoint; the module's weights are loaded, `load_state_dict` comes next."""

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        """A checkpoint file is complete on disk and can be loaded; once per file."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this callback: tensors, numbers, strings and containers of them."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave. Configuration comes from the constructor; load progress alone."""


class Callback(Hooks):
    """Base of all callbacks: override the hooks you need, call none of them yourself.

    Attributes:
        order: when its hooks run, see `Order`.
        family: what kind of thing it is ("progress_bar", "checkpoint", "model_summary", "timer"), or None. A registered
            default steps aside when the user passed a callback of its family.
        conflicts: families and classes ("package.Class") of which none may be in the same run, see `interplay.py`.
        runs_after: families and classes ("package.Class") of the same Order whose hooks run before this one's.
        state_version: which shape the state has, saved beside it. Raise it when `state_dict` changes its shape, and
            define `migrate_state`.
        state_aliases: names that the class had before (`__qualname__`): states saved under them are its own. Not
            inherited.
        preemption_signals: numbers of signals that ask a run with this callback to end, as SIGTERM always does
            (signal.SIGUSR1, for example): the batch is done, `on_preemption` of every callback runs, and the process
            ends with exit code 128 + the number. Looked at when a run begins.
    """

    order: ClassVar[Order] = Order.NORMAL
    family: ClassVar[str | None] = None
    conflicts: ClassVar[Collection[str]] = ()
    runs_after: ClassVar[Collection[str]] = ()
    state_version: ClassVar[int] = 1
    state_aliases: ClassVar[Collection[str]] = ()
    preemption_signals: Sequence[int] = ()

    # Set while a run is going on. A class attribute, so that subclasses need not call __init__.
    _recorder: Recorder | None = None

    def __getstate__(self) -> object:
        # A copy or a pickle that is made inside a hook belongs to no run.
        state = copy(super().__getstate__())
        if isinstance(state, dict):
            state.pop("_recorder", None)
        return state

    @property
    def state_key(self) -> str:
        """Under which name a checkpoint keeps this callback's state; distinct for each instance in a run."""
        return type(self).__qualname__

    def migrate_state(self, state_dict: dict[str, Any], version: int) -> dict[str, Any]:
        """Bring a state of an older shape to the one that `load_state_dict` takes; called before that.

        A class whose `state_version` is above 1 defines it.

        Args:
            state_dict: a copy of what was saved.
            version: its `state_version`, from 1 to one below that of the class.

        Returns:
            The state in the shape of the class's `state_version`.
        """
        return state_dict

    def resolve_checkpoint(
        self, which: str, trainer: TrainerView | None = None
    ) -> str | Path | Sequence[str | Path] | None:
        """What `ckpt_path="best"`, `"last"` or `"auto"` stands for.

        Asked on rank zero alone, before `setup` and before anything else of the run begins.

        Args:
            which: "best", "last" or "auto". The first callback that knows a best file is obeyed. For the other two all
                callbacks are asked, and the newest file that is intact is taken; "auto" is "last" of a job that may
                be started for the first time.
            trainer: who asks. Nothing of the run is set up, but its loggers and folders can be asked. None where
                a program asks the callback by itself.

        Returns:
            A path, or a sequence of paths in the order in which they are to be tried, the newest first: files that may
            be damaged belong in it too. None if this callback cannot tell, as it knows no folder to look in; an empty
            sequence if it can, and there is no file yet.
        """
        return None

    def named_weights(self, trainer: TrainerView, pl_module: LightningModule) -> Mapping[str, Mapping[str, Any]]:
        """Further weights of the module that a checkpoint keeps beside its own, such as averages.

        Asked by every save, of the weights alone too. A file has them in `checkpoint["weights"]`, from where
        `load_from_checkpoint(path, weights=name)`, `trainer.test(ckpt_path=..., weights=name)` and
        `hookloop checkpoint export PATH --weights name` take them.

        Args:
            trainer: who saves.
            pl_module: the module that is saved.

        Returns:
            By name, the same names and shapes as the module's `state_dict` has; {} while there are none. A callback
            that has put other weights into the module for a while returns the live ones as "live": these are saved as
            the `state_dict` then.
        """
        return {}

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
        """Log a value from a hook of this callback, exactly as `LightningModule.log` does from the module's."""
        recorder = self._recorder
        if recorder is None:
            log_without_a_run(name)
            return
        settings = (prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, rank_zero_only)
        recorder.log(name, value, settings, add_dataloader_idx, batch_size)

    def log_dict(self, dictionary: Mapping[str, Loggable], **arguments: Any) -> None:
        """Log every item of `dictionary` under its key; `arguments` are those of `log`."""
        for name, value in dictionary.items():
            self.log(name, value, **arguments)


def order_of(callback: Callback) -> Order:
    """When a callback's hooks run.

    What stands in for a callback without inheriting from it, such as a mock, has no order of its own: NORMAL.

    Raises:
        MisconfigurationError: its `order` is no `Order`.
    """
    order: object = callback.order
    if isinstance(order, Order):
        return order
    if not issubclass(type(callback), Callback):
        return Order.NORMAL
    raise MisconfigurationError(
        f"{type(callback).__name__}.order is {order!r}, and it must be one of "
        f"{', '.join(f'Order.{known.name}' for known in Order)}."
    )


def declared_names(callback: Callback, attribute: str) -> tuple[str, ...]:
    """The names that a callback's class declares in `conflicts`, `runs_after` or `state_aliases`.

    Raises:
        MisconfigurationError: it is no collection of names.
    """
    if not issubclass(type(callback), Callback):
        return ()  # a mock, which declares nothing
    names: object = getattr(type(callback), attribute)
    if isinstance(names, str) or not isinstance(names, Collection) or not all(isinstance(one, str) for one in names):
        raise MisconfigurationError(
            f"{type(callback).__name__}.{attribute} is {names!r}, and it must be a tuple of names, for example "
            f"{attribute} = ({names if isinstance(names, str) else 'name'!r},)."
        )
    return tuple(names)


def former_names(callback: Callback) -> tuple[str, ...]:
    """The `state_aliases` of a callback's own class; those of its bases are names of the bases."""
    return declared_names(callback, "state_aliases") if "state_aliases" in vars(type(callback)) else ()


def state_version_of(callback: Callback) -> int:
    """The version of the shape that a callback's state has; 1 for what stands in for a callback, such as a mock.

    Raises:
        MisconfigurationError: its `state_version` is no whole number of at least 1.
    """
    if not issubclass(type(callback), Callback):
        return 1
    version: object = type(callback).state_version
    if isinstance(version, int) and not isinstance(version, bool) and version >= 1:
        return version
    raise MisconfigurationError(
        f"{type(callback).__name__}.state_version is {version!r}, and it must be a whole number of at least 1."
    )


HOOKS: tuple[str, ...] = tuple(name for name, member in vars(Hooks).items() if callable(member))
"""The names of all hooks and state methods, in the order of their documentation."""


class LambdaCallback(Callback):
    """A callback made of functions: `LambdaCallback(on_train_end=lambda trainer, pl_module: ...)`.

    Args:
        **hooks: any name in `HOOKS`, with a callable that takes the hook's arguments without `self`; None leaves the
            hook alone.

    Raises:
        MisconfigurationError: a name that is no hook, or a value that cannot be called.
    """

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        for name, function in hooks.items():
            if name not in HOOKS:
                raise MisconfigurationError(
                    f"LambdaCallback got {name}=..., which is no hook. Hooks are: {', '.join(HOOKS)}."
                )
            if function is None:
                continue
            if not callable(function):
                raise MisconfigurationError(
                    f"LambdaCallback got {name}={function!r}, which cannot be called. Pass a function that takes the "
                    "hook's arguments, for example lambda trainer, pl_module: ...."
                )
            setattr(self, name, function)
