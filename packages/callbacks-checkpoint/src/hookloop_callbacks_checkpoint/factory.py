"""What the entry point names: the checkpoint callback that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions
from hookloop_callbacks_checkpoint.model_checkpoint import ModelCheckpoint


def factory(options: TrainerOptions) -> list[Callback]:
    """A `ModelCheckpoint` that keeps the newest file, also as last.ckpt.

    Nothing where the user said `enable_checkpointing=False`. In a fast_dev_run, which leaves no files, the Trainer
    drops it again; it is returned all the same, so that `enable_checkpointing=True` finds the package installed.
    """
    if options.enable_checkpointing is False or (options.fast_dev_run and options.enable_checkpointing is None):
        return []
    return [ModelCheckpoint(save_last=True)]
