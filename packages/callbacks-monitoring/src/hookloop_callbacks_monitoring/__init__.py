"""Callbacks that watch a hookloop run: `EarlyStopping` ends it, `LearningRateMonitor` logs the rates it trains with.

Installing the distribution changes nothing by itself: its factory registers no callback. Pass those that you want.
"""

from hookloop_callbacks_monitoring.criteria import EarlyStoppingReason
from hookloop_callbacks_monitoring.early_stopping import EarlyStopping
from hookloop_callbacks_monitoring.factory import factory
from hookloop_callbacks_monitoring.lr_monitor import LearningRateMonitor

__all__ = ["EarlyStopping", "EarlyStoppingReason", "LearningRateMonitor", "factory"]
