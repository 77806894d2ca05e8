"""Lengths of time as users write them: "DD:HH:MM:SS", a timedelta, or a dict of timedelta's arguments."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from hookloop.errors import MisconfigurationError

_WRITTEN = re.compile(r"(\d+):(\d+):(\d+):(\d+)")
_UNITS = ("weeks", "days", "hours", "minutes", "seconds", "milliseconds", "microseconds")

WAYS = (
    'Write it as "DD:HH:MM:SS" (days, hours, minutes, seconds), for example "00:01:30:00", as a datetime.timedelta, '
    'or as a dict of its arguments, for example {"minutes": 90}.'
)
"""How a length of time can be written, for messages."""


def duration(name: str, given: Any) -> timedelta:
    """A length of time.

    Args:
        name: the argument that it was passed as, for messages.
        given: "DD:HH:MM:SS" (days, hours, minutes, seconds; each any number of digits), a timedelta, or a dict of
            timedelta's arguments.

    Raises:
        MisconfigurationError: it is none of these, or not longer than no time at all. A number is none: it would not
            say of what.
    """
    length: timedelta | None = None
    if isinstance(given, timedelta):
        length = given
    elif isinstance(given, str) and (match := _WRITTEN.fullmatch(given.strip())):
        days, hours, minutes, seconds = map(int, match.groups())
        length = _made(name, given, days=days, hours=hours, minutes=minutes, seconds=seconds)
    elif isinstance(given, Mapping):
        unknown = [key for key in given if key not in _UNITS]
        if unknown or not given:
            what = f"has {', '.join(map(repr, unknown))}" if unknown else "is empty"
            raise MisconfigurationError(
                f"{name}={given!r} {what}, and a dict of time holds any of {', '.join(_UNITS)}. {WAYS}"
            )
        length = _made(name, given, **given)
    if length is None:
        raise MisconfigurationError(f"{name}={given!r} ({type(given).__name__}) is no length of time. {WAYS}")
    if length <= timedelta(0):
        raise MisconfigurationError(f"{name}={given!r} must be longer than no time at all. {WAYS}")
    return length


def _made(name: str, given: Any, **parts: Any) -> timedelta:
    try:
        return timedelta(**parts)
    except (TypeError, ValueError, OverflowError) as error:
        raise MisconfigurationError(f"{name}={given!r} is no length of time: {error}. {WAYS}") from error
