"""What a checkpoint holds of a run: `connector` collects it and gives it back; the files are `checkpoint_file`'s."""

from hookloop.checkpoint.connector import dump, restore_module_and_callbacks, restore_training, understood

__all__ = ["dump", "restore_module_and_callbacks", "restore_training", "understood"]
