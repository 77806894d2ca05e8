"""Where Lightning's users look for `Interval` and `Timer`; hookloop-callbacks-monitoring has them."""

from typing import Any

from hookloop.discovery import name_at


def __getattr__(name: str) -> Any:
    return name_at(__name__, name)
