"""`Criteria`: what becomes of a run at each value of a metric. Arithmetic alone: no trainer, no clock, no weights."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Literal, Self, TypeAlias

from hookloop.monitor import Monitor

Unit: TypeAlias = Literal["checks", "epochs", "steps"]

UNITS: tuple[Unit, ...] = ("checks", "epochs", "steps")
"""What patience may count."""


class EarlyStoppingReason(Enum):
    """Why training was ended; the numbers are Lightning's."""

    NOT_STOPPED = 0
    STOPPING_THRESHOLD = 1
    DIVERGENCE_THRESHOLD = 2
    PATIENCE_EXHAUSTED = 3
    NON_FINITE_METRIC = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a check is, counted in each unit, the running one included.

    Attributes:
        checks: looks at the metric.
        epochs: training epochs.
        steps: optimizer steps.
    """

    checks: int = 0
    epochs: int = 0
    steps: int = 0

    def counted(self, unit: Unit) -> int:
        """How many of them."""
        count: int = getattr(self, unit)
        return count


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known after some checks; part of every checkpoint, in plain numbers.

    Attributes:
        checks: how many there were.
        best: the best value, None before anything has improved.
        since: where that was, or where counting began; None if an older state does not say.
        waited: in the unit of the patience, since then.
    """

    checks: int = 0
    best: float | None = None
    since: Place | None = Place()
    waited: int = 0

    def state_dict(self) -> dict[str, Any]:
        """The progress in plain numbers; the names of its first entries are those that Lightning's users know."""
        since = None if self.since is None else {unit: self.since.counted(unit) for unit in UNITS}
        return {"wait_count": self.waited, "best_score": self.best, "checks": self.checks, "since": since}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The progress in a state; Lightning's has no places, and waits in checks."""
        waited, best, since = int(state.get("wait_count") or 0), state.get("best_score"), state.get("since")
        if best is not None:
            best = float(best)
            best = best if math.isfinite(best) or "since" in state else None
        return cls(
            checks=int(state.get("checks", waited)),
            best=best,
            since=None if since is None else Place(**{unit: int(since[unit]) for unit in UNITS}),
            waited=waited,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check came to.

    Attributes:
        reason: why training should end; NOT_STOPPED if it should go on.
        message: the same in words, "" if it should go on.
        improved: whether the value is the best so far.
    """

    reason: EarlyStoppingReason = EarlyStoppingReason.NOT_STOPPED
    message: str = ""
    improved: bool = False

    @property
    def stops(self) -> bool:
        """Whether training should end."""
        return self.reason is not EarlyStoppingReason.NOT_STOPPED


@dataclass(frozen=True, slots=True)
class Criteria:
    """When a metric says that training should end; the attributes are the arguments of `EarlyStopping`."""

    monitor: Monitor
    min_delta: float
    patience: int
    unit: Unit
    start_from: int
    baseline: float | None
    check_finite: bool
    stopping_threshold: float | None
    divergence_threshold: float | None

    def judge(self, before: Progress, value: float, place: Place) -> tuple[Progress, Verdict]:
        """The progress after a check, and what it comes to.

        Args:
            before: the progress until now.
            value: of the metric.
            place: where the check is.
        """
        counted = place.counted(self.unit)
        if counted <= self.start_from:
            return replace(before, checks=place.checks), Verdict()
        since = before.since or Place(0, place.epochs, place.steps)
        improved = self._improved(value, before.best)
        if improved:
            after = Progress(place.checks, value, place, 0)
        else:
            waited = counted - max(since.counted(self.unit), self.start_from)
            after = Progress(place.checks, before.best, since, waited)
        reason, message = self._reason(after, value, improved)
        return after, Verdict(reason, message, improved)

    def _improved(self, value: float, best: float | None) -> bool:
        if best is None:
            best = self.monitor.worst if self.baseline is None else self.baseline
        required = best - self.min_delta if self.monitor.mode == "min" else best + self.min_delta
        return self.monitor.improved(value, required)

    def _reason(self, after: Progress, value: float, improved: bool) -> tuple[EarlyStoppingReason, str]:
        name, stop, diverged = self.monitor.name, self.stopping_threshold, self.divergence_threshold
        if self.check_finite and not math.isfinite(value):
            return EarlyStoppingReason.NON_FINITE_METRIC, f"{name}={value} is not finite; {self._best(after)}"
        if stop is not None and (value == stop or self.monitor.improved(value, stop)):
            return EarlyStoppingReason.STOPPING_THRESHOLD, f"{name}={value:.6g} has reached {stop:.6g}"
        if diverged is not None and self.monitor.improved(diverged, value):
            return (
                EarlyStoppingReason.DIVERGENCE_THRESHOLD,
                f"{name}={value:.6g} is worse than {diverged:.6g}; {self._best(after)}",
            )
        if improved or after.waited < self.patience:
            return EarlyStoppingReason.NOT_STOPPED, ""
        unit = self.unit if after.waited != 1 else self.unit.removesuffix("s")
        return (
            EarlyStoppingReason.PATIENCE_EXHAUSTED,
            f"{name} has not improved for {after.waited} {unit}; {self._best(after)}",
        )

    def _best(self, after: Progress) -> str:
        if after.best is None:
            return (
                "there was no number before"
                if self.baseline is None
                else f"it never was better than {self.baseline:.6g}"
            )
        where = "" if after.since is None else f", in epoch {after.since.epochs - 1}"
        return f"the best was {after.best:.6g}{where}"
