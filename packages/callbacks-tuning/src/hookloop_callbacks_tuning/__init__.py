"""Finds learning rates and batch sizes for hookloop runs, and schedules gradient accumulation."""

from hookloop_callbacks_tuning.factory import factory

__all__ = ["factory"]
