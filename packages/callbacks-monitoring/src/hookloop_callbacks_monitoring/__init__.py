"""Callbacks that watch a hookloop run, say what it does and what it costs, and end it when it is time.

Installing the distribution changes nothing by itself: its factory registers what the Trainer's arguments ask for,
and environment variables.
"""

from hookloop_callbacks_monitoring.criteria import EarlyStoppingReason
from hookloop_callbacks_monitoring.device_stats import DeviceStatsMonitor
from hookloop_callbacks_monitoring.early_stopping import EarlyStopping
from hookloop_callbacks_monitoring.factory import factory
from hookloop_callbacks_monitoring.lr_monitor import LearningRateMonitor
from hookloop_callbacks_monitoring.timer import Interval, Timer

__all__ = [
    "DeviceStatsMonitor",
    "EarlyStopping",
    "EarlyStoppingReason",
    "Interval",
    "LearningRateMonitor",
    "Timer",
    "factory",
]
