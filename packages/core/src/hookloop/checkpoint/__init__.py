"""Checkpoints: `io` reads and writes files, `connector` collects a run's state and gives it back."""

from hookloop.checkpoint.connector import dump, restore_module_and_callbacks, restore_training
from hookloop.checkpoint.io import check_is_there, read_checkpoint, write_checkpoint

__all__ = [
    "check_is_there",
    "dump",
    "read_checkpoint",
    "restore_module_and_callbacks",
    "restore_training",
    "write_checkpoint",
]
