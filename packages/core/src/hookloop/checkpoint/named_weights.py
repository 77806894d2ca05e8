"""Weights that callbacks have beside the module's, for a checkpoint: each set under a name."""

from collections.abc import Mapping
from typing import Any

from hookloop.callback import Callback
from hookloop.checkpoint_file.weight_sets import LIVE, WEIGHTS
from hookloop.errors import CheckpointError
from hookloop.hook_checks import overrides
from hookloop.run import Run


def add_named_weights(run: Run, checkpoint: dict[str, Any]) -> None:
    """Ask every callback that has some, and put them into a checkpoint.

    The live weights, if other ones are in the module at the moment, take the place of its `state_dict`.

    Args:
        run: whose callbacks.
        checkpoint: gets them.

    Raises:
        CheckpointError: two callbacks have weights of one name.
    """
    sets: dict[str, Mapping[str, Any]] = {}
    owners: dict[str, str] = {}
    for callback in run.hooks.callbacks:
        if not overrides(callback, Callback, "named_weights"):
            continue
        for name, weights in callback.named_weights(run.hooks.trainer, run.module).items():
            owner = type(callback).__name__
            if name in sets:
                raise CheckpointError(
                    f'{owners[name]} and {owner} both have weights "{name}" for the checkpoint. Drop one of the two.'
                )
            sets[name], owners[name] = weights, owner
    if LIVE in sets:
        checkpoint["state_dict"] = sets.pop(LIVE)
    if sets:
        checkpoint[WEIGHTS] = sets
