"""Checkpoints: `connector` collects a run's state and gives it back; the files are `hookloop.checkpoint_file`'s."""

from hookloop.checkpoint.connector import dump, restore_module_and_callbacks, restore_training, understood

__all__ = ["dump", "restore_module_and_callbacks", "restore_training", "understood"]
