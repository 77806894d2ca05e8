"""Finds and schedules what a hookloop run trains with: learning rate, batch size, gradient accumulation.

Installing the distribution changes nothing by itself: its factory registers what environment variables ask for.
"""

from hookloop_callbacks_tuning.accumulation import GradientAccumulationScheduler
from hookloop_callbacks_tuning.factory import factory

__all__ = ["GradientAccumulationScheduler", "factory"]
