"""What the entry point names: the callbacks that a Trainer gets by default."""

import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_monitoring.device_stats import DeviceStatsMonitor
from hookloop_callbacks_monitoring.timer import Timer

DEVICE_STATS = "HOOKLOOP_DEVICE_STATS"
"""The environment variable that asks for a `DeviceStatsMonitor`: 1 does, 0 and nothing do not."""


def factory(options: TrainerOptions) -> list[Callback]:
    """A timer for whoever passed `max_time`, a monitor for whoever set `HOOKLOOP_DEVICE_STATS=1`; nothing else.

    Args:
        options: what the user passed to the Trainer.

    Raises:
        MisconfigurationError: the variable is neither 1 nor 0.
    """
    added: list[Callback] = [] if options.max_time is None else [Timer(options.max_time)]
    asked = os.environ.get(DEVICE_STATS, "")
    if asked not in ("", "0", "1"):
        raise MisconfigurationError(
            f"{DEVICE_STATS}={asked} must be 1, which adds a DeviceStatsMonitor to each Trainer, or 0."
        )
    return [*added, DeviceStatsMonitor()] if asked == "1" else added
