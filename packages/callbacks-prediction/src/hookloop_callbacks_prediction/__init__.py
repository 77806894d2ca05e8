"""Writes what hookloop runs predict, part by part.

Installing the distribution changes nothing by itself: its factory registers a callback where HOOKLOOP_PREDICTIONS names
a folder, and none otherwise.
"""

from hookloop_callbacks_prediction.base import BasePredictionWriter
from hookloop_callbacks_prediction.factory import factory
from hookloop_callbacks_prediction.interval import WriteInterval
from hookloop_callbacks_prediction.reading import read_predictions
from hookloop_callbacks_prediction.writer import PredictionWriter

__all__ = ["BasePredictionWriter", "PredictionWriter", "WriteInterval", "factory", "read_predictions"]
