"""Averages the weights of hookloop runs: SWA, EMA, and averages of your own."""

from hookloop_callbacks_swa.ema import EMAWeightAveraging
from hookloop_callbacks_swa.factory import factory
from hookloop_callbacks_swa.stochastic import StochasticWeightAveraging
from hookloop_callbacks_swa.weight_averaging import WeightAveraging

__all__ = ["EMAWeightAveraging", "StochasticWeightAveraging", "WeightAveraging", "factory"]
