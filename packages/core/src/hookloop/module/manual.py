"""`ManualOptimization`: what a module calls that takes its optimizer steps itself, and what it asks of optimizers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from hookloop.errors import MisconfigurationError
from hookloop.module.hooks import ModuleHooks
from hookloop.module.toggling import Turns
from hookloop.view import TrainerView


class ManualOptimization(ModuleHooks):
    """The part of a `LightningModule` that has to do with optimizers, clipping and backward by hand."""

    # Set for the time of a fit, as the module's other links to a run are.
    _backward_of_run: Callable[..., None] | None = None
    _turns: Turns | None = None
    _automatic_optimization: bool = True

    if TYPE_CHECKING:

        @property
        def trainer(self) -> TrainerView:
            """LightningModule has it."""
            ...

    @property
    def automatic_optimization(self) -> bool:
        """Whether the trainer calls backward and the optimizer (default), or training_step does so itself.

        Set it in `__init__`; `configure_optimizers` is the last place where it can be changed.
        """
        return self._automatic_optimization

    @automatic_optimization.setter
    def automatic_optimization(self, value: bool) -> None:
        if not isinstance(value, bool):
            raise MisconfigurationError(
                f"{type(self).__name__}.automatic_optimization={value!r} ({type(value).__name__}) is neither True nor "
                "False."
            )
        if self._backward_of_run is not None and value != self._automatic_optimization:
            raise MisconfigurationError(
                f"{type(self).__name__}.automatic_optimization was set to {value!r} while the fit runs, whose "
                "optimizers are configured for the other mode. Set it in __init__ (or in setup)."
            )
        self._automatic_optimization = value

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizer, or a list of several; one that does nothing (`NoOptimizer`) where there is none.

        Args:
            use_pl_optimizer: wrapped, so that `step()` runs the trainer's hooks and counts; False gives torch's own.
        """
        trainer = self.trainer
        optimizers: Sequence[Any] = trainer.lightning_optimizers if use_pl_optimizer else trainer.optimizers
        if not optimizers:
            from hookloop.module.no_optimizer import NoOptimizer  # for those who have none

            return NoOptimizer()
        return optimizers[0] if len(optimizers) == 1 else list(optimizers)

    def lr_schedulers(self) -> Any:
        """The learning rate scheduler, a list of several, or None. With manual optimization, step them yourself."""
        schedulers = [config.scheduler for config in self.trainer.lr_scheduler_configs]
        if not schedulers:
            return None
        return schedulers[0] if len(schedulers) == 1 else schedulers

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute gradients in manual optimization: as `loss.backward()`, with the trainer's precision and hooks.

        The loss is scaled where the precision does that; then on_before_backward, the module's `backward` and
        on_after_backward run.

        Args:
            loss: a tensor with one element, or with several if `gradient` is given.
            *args: passed on to `backward`, and so to `Tensor.backward`.
            **kwargs: the same: `retain_graph=True`, `create_graph=True`, `inputs=...`, `gradient=...`.

        Raises:
            MisconfigurationError: under automatic optimization, outside of a fit, or no gradient can be computed from
                this loss; the message says why.
        """
        name = type(self).__name__
        if self.automatic_optimization:
            raise MisconfigurationError(
                f"{name}.manual_backward() is for manual optimization, and {name}.automatic_optimization is True: the "
                "trainer calls backward itself. Return the loss from training_step, or set "
                "self.automatic_optimization = False in __init__."
            )
        if self._backward_of_run is None:
            raise MisconfigurationError(
                f"{name}.manual_backward() was called outside of a fit. Call it in training_step, or in another hook "
                "while trainer.fit(...) runs; elsewhere, loss.backward() is what you need."
            )
        self._backward_of_run(loss, *args, **kwargs)

    def toggle_optimizer(self, optimizer: Any) -> None:
        """Begin an optimizer's turn: the parameters that belong to others alone need no gradients until it ends.

        Turns may be nested. What is still toggled when the fit ends, also by an error, is untoggled.

        Args:
            optimizer: one of `self.optimizers()`, or torch's own.

        Raises:
            MisconfigurationError: it is none of this fit's optimizers.
        """
        chosen = self._own_optimizer(optimizer, "toggle_optimizer")
        if self._turns is None:
            self._turns = Turns()
        self._turns.begin(chosen, self.trainer.optimizers)

    def untoggle_optimizer(self, optimizer: Any) -> None:
        """End an optimizer's turn: every parameter needs gradients as it did when the turn began.

        Args:
            optimizer: the one that was toggled last.

        Raises:
            MisconfigurationError: it is none of this fit's optimizers, or not the one that was toggled last.
        """
        chosen = self._own_optimizer(optimizer, "untoggle_optimizer")
        (self._turns or Turns()).end(chosen)

    @contextmanager
    def toggled_optimizer(self, optimizer: Any) -> Iterator[None]:
        """`toggle_optimizer` on entering and `untoggle_optimizer` on leaving, after an exception too.

        Args:
            optimizer: one of `self.optimizers()`, or torch's own.

        Raises:
            MisconfigurationError: it is none of this fit's optimizers.
        """
        self.toggle_optimizer(optimizer)
        turns = self._turns
        assert turns is not None
        depth = len(turns)
        try:
            yield
        except BaseException:
            turns.end_down_to(depth - 1)  # what was toggled in here and not untoggled must not hide the exception
            raise
        self.untoggle_optimizer(optimizer)

    def clip_gradients(
        self,
        optimizer: Any,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of an optimizer's parameters in place.

        Where the precision scales losses, manual optimization may call this before the step: the gradients are
        unscaled first.

        Args:
            optimizer: whose parameters; one of `self.optimizers()`, or torch's own.
            gradient_clip_val: the largest total norm, or absolute value; None for the Trainer's; 0 clips nothing.
            gradient_clip_algorithm: "norm" or "value"; None for the Trainer's, which is "norm" by default.

        Raises:
            MisconfigurationError: this is no optimizer, the value is no number of at least 0, the algorithm is not
                known, or the Trainer was given another one.
        """
        trainer = self.trainer
        if not hasattr(optimizer, "param_groups"):
            several = " Clip the gradients of each of several optimizers." if isinstance(optimizer, list) else ""
            raise MisconfigurationError(
                f"clip_gradients() got a {type(optimizer).__name__}, and an optimizer is needed: "
                f"self.optimizers().{several}"
            )
        value = _chosen("gradient_clip_val", gradient_clip_val, trainer.gradient_clip_val or None)
        if isinstance(gradient_clip_algorithm, str):
            gradient_clip_algorithm = gradient_clip_algorithm.lower()
        algorithm = _chosen("gradient_clip_algorithm", gradient_clip_algorithm, trainer.gradient_clip_algorithm)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0):
            raise MisconfigurationError(
                f"clip_gradients(gradient_clip_val={value!r}): it must be a number of at least 0, or None."
            )
        strategy = trainer.strategy
        if value and not self.automatic_optimization and strategy.precision.scales_loss:
            strategy.precision.unscale(_unwrapped(trainer, optimizer) or optimizer)
        strategy.clip_gradients(optimizer, value, "norm" if algorithm is None else algorithm)

    def _own_optimizer(self, optimizer: Any, method: str) -> Optimizer:
        trainer = self.trainer
        own = _unwrapped(trainer, optimizer)
        if own is None:
            names = ", ".join(type(known).__name__ for known in trainer.optimizers) or "none"
            given = optimizer if isinstance(optimizer, type) else type(optimizer)
            raise MisconfigurationError(
                f"{type(self).__name__}.{method}() got a {given.__name__} that is none of this fit's optimizers "
                f"({names}). Pass one of self.optimizers(), and return every optimizer from configure_optimizers()."
            )
        return own

    def _leave_run(self) -> None:
        """The run is over: nothing of it may be called any more, and nothing that it toggled stays toggled."""
        self._backward_of_run = None
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.end_down_to(0)


def _unwrapped(trainer: TrainerView, optimizer: Any) -> Optimizer | None:
    """torch's optimizer, if this is one of the fit's, or the wrapper of one."""
    for own, wrapped in zip(trainer.optimizers, trainer.lightning_optimizers, strict=True):
        if optimizer is own or optimizer is wrapped:
            return own
    return None


def _chosen(name: str, given: Any, of_trainer: Any) -> Any:
    if given is None:
        return of_trainer
    if of_trainer is not None and given != of_trainer:
        raise MisconfigurationError(
            f"clip_gradients({name}={given!r}), and Trainer({name}={of_trainer!r}) was given too. Use one of them: "
            "leave it out here, or there."
        )
    return given
