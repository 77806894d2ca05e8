"""`Budget`: training ends when its steps, its time or its money are used up, however often it was restarted."""

import math
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from torch import Tensor


class Budget(Callback):
    """Ends training when a budget is used up, counted over all runs that are resumed from each other's checkpoints.

    It looks after each batch whose gradients were stepped on, and asks for the end with `trainer.should_stop`: that
    batch's epoch is ended in order, callbacks save, and `min_epochs` and `min_steps` are kept. Time counts from the
    setup of a fit to its teardown: loading data, validation and saving are in it. What a run used up after the
    checkpoint that the next one is resumed from is not known to that one.

    A run that is resumed with a larger budget goes on; one with the same or a smaller budget trains nothing more. What
    others asked for stays as it is.

    Args:
        steps: optimizer steps; None is no limit.
        wall_time: time; None is no limit.
        money: what the hours may cost in all, in the currency of `price_per_hour`; None is no limit.
        price_per_hour: what an hour of this run costs. It may be another one after a restart.
        reserve: time that each run keeps back for what follows its last batch: validation, saving, uploading.
        clock: seconds from any beginning, which never go backwards.

    Attributes:
        used_steps: optimizer steps so far, over all runs.
        reason: why it asked for the end; "" if it did not.

    Raises:
        MisconfigurationError: there is no limit, or a number that cannot be one.
    """

    order = Order.MONITOR  # before those who save: the file says that the run was asked to end

    def __init__(
        self,
        *,
        steps: int | None = None,
        wall_time: timedelta | None = None,
        money: float | None = None,
        price_per_hour: float | None = None,
        reserve: timedelta = timedelta(0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _check(steps, wall_time, money, price_per_hour, reserve)
        self.steps = steps
        self.wall_time = wall_time
        self.money = money
        self.price_per_hour = price_per_hour
        self.reserve = reserve
        self.clock = clock
        self.used_steps = 0
        self.reason = ""
        self._seconds = 0.0
        self._spent = 0.0
        self._since: float | None = None
        self._stage: str | None = None
        self._steps_of_others = 0

    @property
    def used_seconds(self) -> float:
        """Time so far, over all runs, in seconds."""
        return self._seconds + self._running()

    @property
    def used_money(self) -> float:
        """Money so far, over all runs, each at its own price."""
        return self._spent + self._running() / 3600 * (self.price_per_hour or 0.0)

    def _running(self) -> float:
        return 0.0 if self._since is None else self.clock() - self._since

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self._stage = stage
        if stage == "fit":
            self._since = self.clock()

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        # The trainer's steps begin elsewhere where a budget joins a training that has begun without it.
        self._steps_of_others = trainer.global_step - self.used_steps
        asked_before, self.reason = bool(self.reason), ""
        why = self._agreed(trainer, self._used_up())
        if why:
            self._end(trainer, why)
        elif asked_before:
            # The checkpoint says that the run was asked to end, and that was this budget, which is larger now.
            trainer.should_stop = False

    def on_train_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.used_steps = trainer.global_step - self._steps_of_others
        if trainer.is_accumulating:
            return  # the gradients of a window would be lost
        why = self._agreed(trainer, self._used_up())
        if why and not trainer.should_stop:
            self._end(trainer, why)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self._seconds, self._spent = self.used_seconds, self.used_money
        self._since = self._stage = None

    def state_dict(self) -> dict[str, Any]:
        return {
            "steps": self.used_steps,
            "seconds": self.used_seconds,
            "money": self.used_money,
            "reason": self.reason,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._stage not in (None, "fit"):
            return  # to test the weights of an earlier moment does not give back what was used since then
        self.used_steps = state_dict["steps"]
        self._seconds = state_dict["seconds"]
        self._spent = state_dict["money"]
        self.reason = state_dict["reason"]

    def _used_up(self) -> str:
        """Why the budget is used up; "" if it is not."""
        if self.steps is not None and self.used_steps >= self.steps:
            return f"{self.used_steps} of {self.steps} steps are taken"
        if self.wall_time is None and self.money is None:
            return ""
        running, reserve = self._running(), self.reserve.total_seconds()
        kept = f", and {self.reserve} is kept for the end" if reserve else ""
        if self.wall_time is not None:
            used = self._seconds + running
            if used + reserve >= self.wall_time.total_seconds():
                return f"{timedelta(seconds=round(used))} of {self.wall_time} is over{kept}"
        if self.money is not None and self.price_per_hour is not None:
            spent = self._spent + running / 3600 * self.price_per_hour
            if spent + reserve / 3600 * self.price_per_hour >= self.money:
                return f"{spent:.2f} of {self.money:.2f} is spent{kept}"
        return ""

    def _agreed(self, trainer: TrainerView, why: str) -> str:
        # Clocks differ, and one process that ends alone would leave the others waiting for it.
        return str(trainer.strategy.broadcast(why)) if trainer.world_size > 1 else why

    def _end(self, trainer: TrainerView, why: str) -> None:
        self.reason = why
        trainer.should_stop = True
        trainer.print(f"Budget: training ends, {why}.")


def _check(
    steps: int | None,
    wall_time: timedelta | None,
    money: float | None,
    price_per_hour: float | None,
    reserve: timedelta,
) -> None:
    if steps is None and wall_time is None and money is None:
        raise MisconfigurationError(
            "Budget() has no limit. Give at least one of steps=1000, wall_time=timedelta(hours=8), and money=50.0 with "
            "price_per_hour=2.5."
        )
    numbers: dict[str, Any] = {"steps": steps, "money": money, "price_per_hour": price_per_hour}
    for name, value in numbers.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf
        ):
            raise MisconfigurationError(f"Budget({name}={value!r}): it must be a number above 0.")
    if steps is not None and not isinstance(steps, int):
        raise MisconfigurationError(f"Budget(steps={steps!r}): it must be a whole number.")
    times: dict[str, Any] = {"wall_time": wall_time, "reserve": reserve}
    for name, value in times.items():
        if value is not None and not isinstance(value, timedelta):
            raise MisconfigurationError(
                f"Budget({name}={value!r}): it must be a timedelta, such as timedelta(hours=8)."
            )
    if wall_time is not None and wall_time <= timedelta(0):
        raise MisconfigurationError(f"Budget(wall_time={wall_time!r}): it must be longer than nothing.")
    if (money is None) != (price_per_hour is None):
        raise MisconfigurationError(
            f"Budget(money={money}, price_per_hour={price_per_hour}): give both, or neither: money is counted by time."
        )
    if reserve < timedelta(0):
        raise MisconfigurationError(f"Budget(reserve={reserve!r}): it must not be negative.")
    if reserve and wall_time is None and money is None:
        raise MisconfigurationError(
            f"Budget(reserve={reserve!r}) keeps time back, and there is no limit of time or money. Give wall_time, or "
            "money and price_per_hour."
        )
    affordable = [] if wall_time is None else [wall_time.total_seconds()]
    if money is not None and price_per_hour is not None:
        affordable.append(money / price_per_hour * 3600)
    if affordable and reserve.total_seconds() >= min(affordable):
        raise MisconfigurationError(
            f"Budget(reserve={reserve!r}) is all of the budget, which is {timedelta(seconds=min(affordable))}: nothing "
            "would be trained. Give a smaller reserve or a larger budget."
        )
