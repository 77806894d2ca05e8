"""`Budget`: how long something may last. Arithmetic alone: no clock, no trainer."""

import math
import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hookloop.durations import duration
from hookloop.errors import MisconfigurationError

_SECONDS_OF = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
_PART = r"(\d+(?:\.\d+)?)\s*([wdhms])"
_SHORT = re.compile(rf"(?:{_PART}\s*)+")


def seconds_of(name: str, given: Any, *, zero: bool = False) -> float:
    """A length of time in seconds.

    Args:
        name: the argument that it was passed as, for messages.
        given: a number of seconds; "4h", "1d12h", "90m", "30s"; "DD:HH:MM:SS"; a timedelta, or a dict of its arguments.
        zero: whether no time at all is allowed too.

    Raises:
        MisconfigurationError: it is none of these, or not longer than no time at all.
    """
    if isinstance(given, str) and _SHORT.fullmatch(given.strip()):
        given = sum(float(count) * _SECONDS_OF[unit] for count, unit in re.findall(_PART, given))
    if isinstance(given, int | float) and not isinstance(given, bool):
        if not (given > 0 or (zero and given == 0)) or not math.isfinite(given):
            least = "at least 0" if zero else "above 0"
            raise MisconfigurationError(f"Timer({name}={given!r}) must be a number of seconds {least}.")
        return float(given)
    if zero and given == timedelta(0):
        return 0.0
    try:
        return duration(name, given).total_seconds()
    except MisconfigurationError as error:
        raise MisconfigurationError(f'Timer: {error} A number of seconds, or "4h30m", does here too.') from None


@dataclass(frozen=True, slots=True)
class Budget:
    """A length of time, of which the end is kept for what comes after it.

    Attributes:
        seconds: the whole of it; None is no limit.
        reserve: seconds at its end.
    """

    seconds: float | None
    reserve: float = 0.0

    @property
    def usable(self) -> float:
        """Seconds without the reserve; `math.inf` without a limit."""
        return math.inf if self.seconds is None else self.seconds - self.reserve

    def deadline(self, now: float, elapsed: float) -> float:
        """When it is used up, by the clock that says `now`, after `elapsed` seconds of it."""
        return now + self.usable - elapsed
