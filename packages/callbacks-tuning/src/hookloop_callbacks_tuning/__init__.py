"""Finds and schedules what a hookloop run trains with: learning rate, batch size, gradient accumulation.

Installing the distribution changes nothing by itself: its factory registers what environment variables ask for.
"""

from hookloop_callbacks_tuning.accumulation import GradientAccumulationScheduler
from hookloop_callbacks_tuning.curve import LearningRateCurve
from hookloop_callbacks_tuning.factory import factory
from hookloop_callbacks_tuning.rate_finder import LearningRateFinder
from hookloop_callbacks_tuning.size_finder import BatchSizeFinder
from hookloop_callbacks_tuning.tuner import Tuner

__all__ = [
    "BatchSizeFinder",
    "GradientAccumulationScheduler",
    "LearningRateCurve",
    "LearningRateFinder",
    "Tuner",
    "factory",
]
