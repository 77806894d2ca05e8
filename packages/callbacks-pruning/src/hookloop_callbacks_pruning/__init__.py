"""Prunes models in hookloop runs, on torch.nn.utils.prune alone."""

from hookloop_callbacks_pruning.factory import factory

__all__ = ["factory"]
