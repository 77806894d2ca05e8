"""Writes what hookloop runs predict, part by part."""

from hookloop_callbacks_prediction.factory import factory

__all__ = ["factory"]
