"""`GradientAccumulationScheduler`: how many batches make an optimizer step, from which epoch or step on."""

from collections.abc import Mapping
from types import MethodType
from typing import Any, ClassVar, Literal

import torch
from torch.optim import Optimizer

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

_STEP_HOOK = "on_after_optimizer_step"


class GradientAccumulationScheduler(Callback):
    """Changes `trainer.accumulate_grad_batches` while training goes on.

    Never inside of a window: a window that has begun keeps its size, in a resumed run too. By epochs it changes where
    an epoch begins, and an epoch ends its last window; by steps, after the optimizer step which reaches the number.

    Args:
        scheduling: the factor by the epoch, or the number of optimizer steps done, from which on it holds; both whole
            numbers. `{4: 2}`: 2 from the fifth epoch on, and 1 before. It is copied.
        unit: what the keys count: "epochs" or "steps".

    Raises:
        MisconfigurationError: the schedule is empty or has other numbers; or, when a fit begins, the Trainer has an
            accumulate_grad_batches of its own, the module steps its optimizers itself, or its optimizer is LBFGS.

    Attributes:
        scheduling: the schedule, with a factor for 0.
    """

    family: ClassVar[str | None] = "gradient_accumulation"
    conflicts: ClassVar[tuple[str, ...]] = ("gradient_accumulation",)

    def __init__(self, scheduling: Mapping[int, int], unit: Literal["epochs", "steps"] = "epochs") -> None:
        given = f"GradientAccumulationScheduler(scheduling={scheduling!r})"
        if not isinstance(scheduling, Mapping) or not scheduling:
            raise MisconfigurationError(f"{given} must be a dict with at least one factor, such as {{0: 1, 4: 2}}.")
        if any(not _whole(key, least=0) for key in scheduling):
            raise MisconfigurationError(f"{given}: the keys must be whole numbers of at least 0, the epochs or steps.")
        if any(not _whole(value, least=1) for value in scheduling.values()):
            raise MisconfigurationError(f"{given}: the factors must be whole numbers of at least 1.")
        if unit not in ("epochs", "steps"):
            raise MisconfigurationError(f'GradientAccumulationScheduler(unit={unit!r}) must be "epochs" or "steps".')
        self.scheduling = dict(sorted({0: 1, **scheduling}.items()))
        self.unit = unit
        self._restored: int | None = None
        self._running: int | None = None
        if unit == "epochs":  # a hook that does nothing is one that costs nothing
            setattr(self, _STEP_HOOK, MethodType(getattr(Callback, _STEP_HOOK), self))

    def going_to_accumulate_grad_batches(self) -> bool:
        """Whether any factor is above 1."""
        return any(factor > 1 for factor in self.scheduling.values())

    def get_accumulate_grad_batches(self, epoch: int) -> int:
        """The factor that holds in an epoch, or after so many steps."""
        return next(factor for begin, factor in reversed(self.scheduling.items()) if epoch >= begin)

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Check that nobody else decides on it."""
        if stage == "fit" and trainer.accumulate_grad_batches != 1:
            raise MisconfigurationError(
                f"The Trainer has accumulate_grad_batches={trainer.accumulate_grad_batches}, and "
                "GradientAccumulationScheduler changes it. Leave it out, and schedule it: {0: "
                f"{trainer.accumulate_grad_batches}, ...}}."
            )

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Check what is trained. A resumed run begins with the factor that the saved one had."""
        if not pl_module.automatic_optimization:
            raise MisconfigurationError(
                f"{type(pl_module).__name__} steps its optimizers itself (automatic_optimization is False), so "
                "GradientAccumulationScheduler has no windows to change. Leave it out, and count batches in "
                "training_step."
            )
        if self.going_to_accumulate_grad_batches() and any(
            isinstance(one, torch.optim.LBFGS) for one in trainer.optimizers
        ):
            raise MisconfigurationError(
                "GradientAccumulationScheduler does not work with LBFGS, which evaluates the loss several times a step "
                "and would add up the gradients of all of them. Use larger batches."
            )
        restored, self._restored = self._restored, None
        self._set(trainer, self.scheduling[0] if restored is None else restored)

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The factor for where training is."""
        self._schedule(trainer)

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The factor for this epoch."""
        self._schedule(trainer)

    def on_after_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """By steps: the factor for the next window."""
        self._schedule(trainer)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """The next fit finds the Trainer as this one did."""
        if self._running is not None:
            self._running = None
            trainer.accumulate_grad_batches = 1

    def state_dict(self) -> dict[str, Any]:
        """The factor that holds for the next window."""
        return {} if self._running is None else {"accumulate_grad_batches": self._running}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it over."""
        self._restored = state_dict["accumulate_grad_batches"]

    def _schedule(self, trainer: TrainerView) -> None:
        done = trainer.current_epoch if self.unit == "epochs" else trainer.global_step
        factor = self.get_accumulate_grad_batches(done)
        if factor != self._running:
            self._set(trainer, factor)

    def _set(self, trainer: TrainerView, factor: int) -> None:
        self._running = factor
        trainer.accumulate_grad_batches = factor


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
