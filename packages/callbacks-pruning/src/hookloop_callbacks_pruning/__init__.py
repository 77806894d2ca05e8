"""Prunes models in hookloop runs, on torch.nn.utils.prune alone."""

from hookloop_callbacks_pruning.amounts import SparsityRamp
from hookloop_callbacks_pruning.factory import factory
from hookloop_callbacks_pruning.model_pruning import ModelPruning

__all__ = ["ModelPruning", "SparsityRamp", "factory"]
