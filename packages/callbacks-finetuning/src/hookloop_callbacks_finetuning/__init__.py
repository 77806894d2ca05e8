"""Freezes parts of a model in hookloop runs, and thaws them on time."""

from hookloop_callbacks_finetuning.backbone import BackboneFinetuning, multiplicative
from hookloop_callbacks_finetuning.base import BaseFinetuning
from hookloop_callbacks_finetuning.factory import factory
from hookloop_callbacks_finetuning.gradual import GradualUnfreezing
from hookloop_callbacks_finetuning.schedule import Unfreeze

__all__ = ["BackboneFinetuning", "BaseFinetuning", "GradualUnfreezing", "Unfreeze", "factory", "multiplicative"]
