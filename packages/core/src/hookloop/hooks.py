"""The dispatcher: which calls a hook makes, compiled once per run, and again when the callbacks change."""

from collections.abc import Callable, Sequence
from functools import partial
from traceback import format_exception_only
from typing import TYPE_CHECKING, Any, TypeAlias

from hookloop.callback import HOOKS, Callback, Hooks, Order, order_of
from hookloop.datamodule import LightningDataModule
from hookloop.hook_checks import MODULE_METHODS, check_callback, check_datamodule, check_module, overrides
from hookloop.metrics import Recorder
from hookloop.module import LightningModule
from hookloop.profilers import Profiler, timed
from hookloop.profilers.timing import listens
from hookloop.stage import TrainerStatus
from hookloop.view import TrainerView

Call: TypeAlias = Callable[..., Any]

STATE_METHODS = ("state_dict", "load_state_dict")
"""In the list of hooks, but called on one callback at a time."""

UNWINDING = ("setup", "teardown", "on_exception")
"""Hooks whose calls are guarded one by one."""

BEFORE_LAST = ("on_train_batch_end", "on_validation_end", "on_train_epoch_end")
"""Hooks after which the loops owe something (a plateau scheduler's step, a row for the loggers) that callbacks of Order
LAST must find done. These run in `CompiledHooks.last`, the others' in the hook itself."""


PARTS = ("configure_gradient_clipping", "lr_scheduler_step")
"""Methods of the module that a profiler is told of where the module leaves them as they are, too: they do work."""


def nobody(*args: Any) -> None:
    """A hook that nobody overrides."""


class HookCalls:
    """A callable for each hook, taking the hook's arguments without `trainer` and `pl_module`."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Call: ...


class LastCalls:
    """For each hook in `BEFORE_LAST`, the calls of Order LAST as one callable, or None where there are none."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Call | None: ...


class StepCalls:
    """The hooks of a training step, each as one callable, or None where nobody overrides it.

    A step reads all of them. So they have an object of their own, in which they lie side by side.

    Attributes:
        save: the calls of Order LAST for `on_train_batch_end`.
    """

    __slots__ = (
        "on_after_backward",
        "on_after_optimizer_step",
        "on_before_backward",
        "on_before_optimizer_step",
        "on_before_zero_grad",
        "on_train_batch_end",
        "on_train_batch_start",
        "save",
    )

    on_train_batch_start: Call | None
    on_before_zero_grad: Call | None
    on_before_backward: Call | None
    on_after_backward: Call | None
    on_before_optimizer_step: Call | None
    on_after_optimizer_step: Call | None
    on_train_batch_end: Call | None
    save: Call | None

    def take(self, hooks: "CompiledHooks") -> None:
        """Take these hooks over as they are compiled now."""
        for name in self.__slots__:
            if name != "save":
                call = getattr(hooks, name)
                setattr(self, name, None if call is nobody else call)
        self.save = hooks.last.on_train_batch_end


class CompiledHooks(HookCalls):
    """What the loops call: `hooks.on_train_batch_end(outputs, batch, batch_idx)`.

    A call runs what is overridden and nothing else: callbacks of Order FIRST and NORMAL, the module, callbacks of
    MONITOR and LAST. It returns what the module's own method returned.

    Args:
        trainer: bound into the callbacks' calls.
        module: the same, and its own hooks.
        datamodule: its setup goes first, and it hears of exceptions last.
        recorder: is told which hook is running.
        profiler: times every call if it listens; None costs nothing.

    Attributes:
        last: the calls of Order LAST for the hooks in `BEFORE_LAST`, None where there are none.
        of_a_step: those of a training step once more, as the loop over batches calls them.
        own: the methods in `MODULE_METHODS`, each setting the running hook if the module overrides it.
        callbacks: in the order in which they run.
        trainer: the one that was given.
    """

    def __init__(
        self,
        trainer: TrainerView,
        module: LightningModule,
        datamodule: LightningDataModule | None,
        recorder: Recorder,
        profiler: Profiler | None = None,
    ) -> None:
        check_module(module)
        if datamodule is not None:
            check_datamodule(datamodule)
        self.last = LastCalls()
        self.of_a_step = StepCalls()
        self.own = HookCalls()
        self.callbacks: tuple[Callback, ...] = ()
        self._orders: list[Order] = []
        self.trainer = trainer
        self._module = module
        self._datamodule = datamodule
        self._datamodules_outer: TrainerView | None = None
        self._recorder = recorder
        self._profiler = profiler
        self._stage: str | None = None
        self._set_up: list[object] = []
        self._being_set_up: list[object] = []
        for name in (*MODULE_METHODS, "on_save_checkpoint"):
            setattr(self.own, name, self._own_method(name))

    def attach(self) -> TrainerView | None:
        """Tell module and datamodule who runs them.

        Returns:
            The trainer in a hook of which this run was started, if it runs the same module.
        """
        outer = self._module._join_run(self.trainer, self._recorder)
        if self._datamodule is not None:
            before = self._datamodule.trainer
            if getattr(getattr(before, "state", None), "status", None) is TrainerStatus.RUNNING:
                self._datamodules_outer = before
            self._datamodule.trainer = self.trainer
        return outer

    def compile(self, callbacks: Sequence[Callback]) -> None:
        """Compile the hooks for these callbacks. Newcomers in a running entry point are set up first.

        Args:
            callbacks: in the order in which they run. Read again after the newcomers' setup, which may add more.

        Raises:
            HookError: a hook of a callback is misspelt or has a wrong signature; nothing has changed then.
        """
        for callback in callbacks:
            check_callback(callback)
        if self._stage is not None:
            for callback in tuple(callbacks):
                if not self._is_set_up(callback):
                    self._set_up_one(callback, self._stage)
        for callback in self.callbacks:
            if not any(callback is kept for kept in callbacks):
                _attach(callback, None)
        self.callbacks = tuple(callbacks)
        # Read once: nothing that a callback computes may come between an exception and its unwinding.
        self._orders = [order_of(callback) for callback in self.callbacks]
        for callback in callbacks:
            _attach(callback, self._recorder)
        for name in HOOKS:
            if name in STATE_METHODS or name in UNWINDING:
                continue
            early, late = self._calls(name, Order.FIRST, Order.NORMAL), self._calls(name, Order.MONITOR)
            last = self._calls(name, Order.LAST)
            if name in BEFORE_LAST:
                # None, and not a no-op: a hook that nobody overrides costs one call, and this is the second one.
                setattr(self.last, name, self._dispatch(name, last) if last else None)
            else:
                late += last
            own = None if name in MODULE_METHODS else self._module_call(name)
            if own is None:
                setattr(self, name, self._dispatch(name, early + late))
            else:
                setattr(self, name, self._dispatch_around(name, early, own, late))
        self.of_a_step.take(self)

    # setting up, and unwinding whatever happens

    def set_up(self, stage: str) -> None:
        """Call every `setup`, the datamodule's first; who is through will be torn down."""
        self._set_up = []
        # Asked anew each time: a setup may add callbacks, which then wait for their turn.
        while (owner := next((each for each in self._owners() if not self._is_set_up(each)), None)) is not None:
            self._set_up_one(owner, stage)
        self._stage = stage

    def _set_up_one(self, owner: object, stage: str) -> None:
        self._being_set_up.append(owner)
        try:
            self._guardable(owner, "setup")(stage)
        finally:
            self._being_set_up.pop()
        self._set_up.append(owner)

    def _is_set_up(self, owner: object) -> bool:
        return any(owner is known for known in (*self._set_up, *self._being_set_up))

    def report_exception(self, exception: BaseException) -> None:
        """Tell every callback, then the datamodule, of the run's first exception; none can keep it from the others."""
        for owner in (*self.callbacks, self._datamodule):
            if owner is None:
                continue
            try:
                self._guardable(owner, "on_exception")(exception)
            except BaseException as later:  # noqa: BLE001 - the first exception is the one that the user sees
                add_note(exception, owner, "on_exception", later)

    def tear_down(self, stage: str, exception: BaseException | None) -> BaseException | None:
        """Call `teardown` of all that was set up, once each, whatever raises.

        Args:
            stage: the entry point.
            exception: the run's first exception, if there was one.

        Returns:
            The run's first exception: the one given, or else the first that was raised here, after everybody heard of
            it.
        """
        self._stage = None
        done, self._set_up = self._set_up, []
        in_order = [owner for owner in self._owners() if any(owner is known for known in done)]
        removed_meanwhile = [owner for owner in done if not any(owner is known for known in in_order)]
        try:
            for owner in in_order + removed_meanwhile:
                try:
                    self._guardable(owner, "teardown")(stage)
                except BaseException as raised:  # noqa: BLE001 - the others must be torn down too
                    if exception is None:
                        exception = raised
                        self.report_exception(raised)
                    else:
                        add_note(exception, owner, "teardown", raised)
            return exception
        finally:
            del exception  # its traceback holds this frame; see the end of `guarded`

    def detach(self) -> None:
        """Let go of the callbacks, the module and the datamodule: they are not attached to this run any more."""
        for callback in self.callbacks:
            _attach(callback, None)
        self._module._leave_run()
        if self._datamodule is not None and self._datamodules_outer is not None:
            self._datamodule.trainer = self._datamodules_outer

    def _owners(self) -> list[object]:
        """Everybody who has a setup, in its order."""
        owners: list[object] = [] if self._datamodule is None else [self._datamodule]
        ordered = list(zip(self.callbacks, self._orders, strict=True))
        owners += [callback for callback, order in ordered if order <= Order.NORMAL]
        owners.append(self._module)
        owners += [callback for callback, order in ordered if order > Order.NORMAL]
        return owners

    def _guardable(self, owner: object, name: str) -> Call:
        method: Call = getattr(owner, name)
        if isinstance(owner, LightningModule | LightningDataModule):
            base: type = LightningModule if isinstance(owner, LightningModule) else LightningDataModule
            bound = method
        else:
            base, bound = Hooks, partial(method, self.trainer, self._module)
        if not overrides(owner, base, name):
            return nobody
        return self._dispatch(name, [self._timed(bound, owner, name)])

    # compiling

    def _calls(self, name: str, *orders: Order) -> list[Call]:
        return [
            self._timed(partial(getattr(callback, name), self.trainer, self._module), callback, name)
            for callback, order in zip(self.callbacks, self._orders, strict=True)
            if order in orders and overrides(callback, Hooks, name)
        ]

    def _module_call(self, name: str) -> Call | None:
        if not hasattr(LightningModule, name) or not overrides(self._module, LightningModule, name):
            return None
        return self._timed(getattr(self._module, name), self._module, name)

    def _timed(self, call: Call, owner: object, name: str) -> Call:
        # The label asks for the callback's state_key, which is code of the user's: only where somebody reads it.
        return timed(call, _label(owner, name), self._profiler) if listens(self._profiler) else call

    def _own_method(self, name: str) -> Call:
        own = self._module_call(name)
        if own is None:
            method: Call = getattr(self._module, name)
            return self._timed(method, self._module, name) if name in PARTS else method
        recorder = self._recorder

        def dispatch(*args: Any, **kwargs: Any) -> Any:
            outer = recorder.hook
            recorder.hook = name
            try:
                return own(*args, **kwargs)
            finally:
                recorder.hook = outer

        return dispatch

    def _dispatch(self, name: str, calls: Sequence[Call]) -> Call:
        if not calls:
            return nobody
        recorder, every = self._recorder, tuple(calls)

        def dispatch(*args: Any) -> None:
            outer = recorder.hook
            recorder.hook = name
            try:
                for call in every:
                    call(*args)
            finally:
                # A hook that ran inside another one (a save) may raise, and the other one may catch that and log.
                recorder.hook = outer

        return dispatch

    def _dispatch_around(self, name: str, early: Sequence[Call], own: Call, late: Sequence[Call]) -> Call:
        recorder, before, after = self._recorder, tuple(early), tuple(late)

        def dispatch(*args: Any) -> Any:
            outer = recorder.hook
            recorder.hook = name
            try:
                for call in before:
                    call(*args)
                result = own(*args)
                for call in after:
                    call(*args)
            finally:
                recorder.hook = outer
            return result

        return dispatch


def add_note(exception: BaseException, owner: object, name: str, later: BaseException) -> None:
    """Attach what was raised after an exception to it, with the name of who raised."""
    if later is not exception:
        # Not str(): an exception that cannot be printed must not cost the others their teardown.
        text = "".join(format_exception_only(later)).strip()
        exception.add_note(f"{type(owner).__name__}.{name} raised after that: {text}")


def _attach(callback: Callback, recorder: Recorder | None) -> None:
    # Around the class's own __setattr__: a frozen dataclass is a callback too.
    object.__setattr__(callback, "_recorder", recorder)


def _label(owner: object, name: str) -> str:
    if isinstance(owner, LightningModule):
        return f"[LightningModule]{type(owner).__name__}.{name}"
    if isinstance(owner, LightningDataModule):
        return f"[LightningDataModule]{type(owner).__name__}.{name}"
    return f"[Callback]{getattr(owner, 'state_key', type(owner).__name__)}.{name}"
