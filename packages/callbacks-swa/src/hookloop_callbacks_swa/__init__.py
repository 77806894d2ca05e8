"""Averages the weights of hookloop runs: SWA, EMA, and averages of your own."""

from hookloop_callbacks_swa.factory import factory

__all__ = ["factory"]
