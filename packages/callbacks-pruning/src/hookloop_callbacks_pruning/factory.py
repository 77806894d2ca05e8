"""What the entry point names: the callbacks that a Trainer gets by default."""

import os

from hookloop import Callback, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_pruning.model_pruning import ModelPruning

VARIABLE = "HOOKLOOP_PRUNING_AMOUNT"


def factory(options: TrainerOptions) -> list[Callback]:
    """None; a `ModelPruning` where HOOKLOOP_PRUNING_AMOUNT says how much it prunes after each epoch.

    It prunes the smallest weights of the whole module, and does not rewind.

    Raises:
        MisconfigurationError: the variable is no number above 0 and up to 1.
    """
    value = os.environ.get(VARIABLE, "").strip()
    if not value:
        return []
    try:
        amount = float(value)
    except ValueError:
        amount = 0.0
    if not 0.0 < amount <= 1.0:
        raise MisconfigurationError(
            f"{VARIABLE}={value}: it must be a number above 0 and up to 1, the share of the weights that are left "
            "which is pruned after each epoch. Unset it to prune nothing."
        )
    return [ModelPruning("l1_unstructured", amount=amount, use_lottery_ticket_hypothesis=False)]
