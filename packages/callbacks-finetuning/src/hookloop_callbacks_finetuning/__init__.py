"""Freezes parts of a model in hookloop runs, and thaws them on time."""

from hookloop_callbacks_finetuning.factory import factory

__all__ = ["factory"]
