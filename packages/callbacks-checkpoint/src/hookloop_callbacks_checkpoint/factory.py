"""What the entry point names: the checkpoint callback that a Trainer gets by default."""

from hookloop import Callback, TrainerOptions
from hookloop_callbacks_checkpoint.model_checkpoint import ModelCheckpoint


def factory(options: TrainerOptions) -> list[Callback]:
    """A `ModelCheckpoint` that keeps the newest file, also as last.ckpt.

    Nothing where the user said `enable_checkpointing=False`, nor in a fast_dev_run, which leaves no files; only if it
    was asked for, it is there even so, and does nothing.
    """
    wanted = options.enable_checkpointing
    if wanted is False or (options.fast_dev_run and wanted is None):
        return []
    return [ModelCheckpoint(save_last=True)]
