"""`Monitor`: a metric by name, and which way is better. For callbacks and schedulers that decide by a metric."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from torch import Tensor

from hookloop.errors import MisconfigurationError

Mode: TypeAlias = Literal["min", "max"]


@dataclass(frozen=True, slots=True)
class Monitor:
    """Reads a metric and compares its values.

    Args:
        name: the key under which it is logged.
        mode: "min" if smaller is better, "max" if larger is.

    Raises:
        MisconfigurationError: another mode.
    """

    name: str
    mode: Mode = "min"

    def __post_init__(self) -> None:
        if self.mode not in ("min", "max"):
            raise MisconfigurationError(
                f'mode={self.mode!r} for the monitored metric {self.name!r} must be "min" (smaller is better) or '
                '"max" (larger is better).'
            )

    @property
    def worst(self) -> float:
        """What every number improves on."""
        return math.inf if self.mode == "min" else -math.inf

    def read(self, metrics: Mapping[str, Tensor]) -> Tensor:
        """The metric's latest value.

        Args:
            metrics: `trainer.callback_metrics`.

        Raises:
            MisconfigurationError: it was never logged; the message lists what was.
        """
        if self.name in metrics:
            return metrics[self.name]
        logged = ", ".join(repr(name) for name in sorted(metrics)) or "nothing at all"
        raise MisconfigurationError(
            f"The monitored metric {self.name!r} was not logged; logged until now: {logged}. "
            f"Log it with self.log({self.name!r}, ...), or monitor one of those."
        )

    def improved(self, current: Tensor | float, best: Tensor | float) -> bool:
        """Whether `current` is better than `best`. NaN improves on nothing, and everything but NaN on NaN."""
        current, best = float(current), float(best)
        if math.isnan(current):
            return False
        if math.isnan(best):
            return True
        return current < best if self.mode == "min" else current > best
