"""What the entry point names: the callbacks that a Trainer gets by default."""

import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_finetuning.backbone import BackboneFinetuning

VARIABLE = "HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH"


def factory(options: TrainerOptions) -> list[Callback]:
    """None; a `BackboneFinetuning` where HOOKLOOP_UNFREEZE_BACKBONE_AT_EPOCH says in which epoch it unfreezes.

    Raises:
        MisconfigurationError: the variable is no whole number of at least 0.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return []
    if not (value.isascii() and value.isdigit()):
        raise MisconfigurationError(
            f"{VARIABLE}={value}: it must be the index of an epoch, a whole number of at least 0. Unset it to freeze "
            "nothing."
        )
    return [BackboneFinetuning(unfreeze_backbone_at_epoch=int(value))]
