"""How much is pruned: numbers, functions of an epoch or a step, and sparsity that rises along a curve."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from hookloop.errors import MisconfigurationError

Amount: TypeAlias = "int | float | Callable[[int], int | float] | SparsityRamp"


@dataclass(frozen=True)
class SparsityRamp:
    """How much of everything is to be pruned after an epoch or a step: quickly at first, then ever more slowly.

    After epoch or step t it is `final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power`, `initial` up
    to `begin` and `final` from `end` on (Zhu and Gupta, 2017, "To prune, or not to prune", where the power is 3).

    Attributes:
        final: the share that is zero in the end, 0 to 1.
        end: index of the epoch, or number of the step, at which it is reached.
        begin: at which it rises from `initial`.
        initial: the share at `begin`.
        power: of the curve; 1 is a straight line.

    Raises:
        MisconfigurationError: a value is out of range.
    """

    final: float
    end: int
    begin: int = 0
    initial: float = 0.0
    power: float = 3.0

    def __post_init__(self) -> None:
        shares = _is_number(self.final) and _is_number(self.initial) and 0 <= self.initial <= self.final <= 1
        if not shares:
            raise MisconfigurationError(
                f"{self}: final and initial are shares of what is pruned, with 0 <= initial <= final <= 1."
            )
        whole = all(isinstance(one, int) and not isinstance(one, bool) for one in (self.begin, self.end))
        if not whole or not 0 <= self.begin < self.end:
            raise MisconfigurationError(f"{self}: begin and end are epochs or steps, with 0 <= begin < end.")
        if not _is_number(self.power) or self.power <= 0:
            raise MisconfigurationError(f"{self}: power must be above 0; 3 is a cubic curve.")

    def __call__(self, when: int) -> float:
        """The share that is to be pruned after epoch or step `when`."""
        done = min(max((when - self.begin) / (self.end - self.begin), 0.0), 1.0)
        left: float = (1 - done) ** self.power
        return self.final + (self.initial - self.final) * left


def check_amount(amount: Any, where: str) -> None:
    """Check an amount: a share as a float, or a number of tensor elements or channels as an int.

    Raises:
        MisconfigurationError: it is neither, or out of range.
    """
    if isinstance(amount, int) and not isinstance(amount, bool) and amount >= 0:
        return
    if isinstance(amount, float) and 0.0 <= amount <= 1.0:
        return
    raise MisconfigurationError(
        f"{where}{amount!r}: it must be a float from 0.0 to 1.0, the share of what is left that is pruned each time, "
        "or an int of at least 0, how many are."
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
