"""Where Lightning's users look for `DeviceStatsMonitor`; hookloop-callbacks-monitoring has it."""

from typing import Any

from hookloop.discovery import name_at


def __getattr__(name: str) -> Any:
    return name_at(__name__, name)
