"""The sets of weights in a checkpoint: the live ones, and others that callbacks keep beside them, by name."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from hookloop.errors import CheckpointError, MisconfigurationTypeError

LIVE = "live"
"""The name of the weights that training goes on with: the checkpoint's `state_dict`."""

WEIGHTS = "weights"
"""The entry of a checkpoint that has the others: from names to weights, each under the names of `state_dict`."""


def weight_sets(checkpoint: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """All sets of weights in a checkpoint, by name; "live" comes first.

    A file of Lightning's whose `state_dict` is an average has the live weights elsewhere; they are told apart.

    Args:
        checkpoint: what a file holds.
    """
    if _is_lightnings_average(checkpoint):
        return {LIVE: checkpoint["current_model_state"], "averaged": checkpoint["state_dict"]}
    others = checkpoint.get(WEIGHTS)
    return {LIVE: checkpoint["state_dict"], **(others if isinstance(others, Mapping) else {})}


def check_name(name: object, call: str) -> None:
    """Whether something can be the name of a set of weights.

    Raises:
        MisconfigurationTypeError: it is neither a string nor None.
    """
    if not isinstance(name, str | None):
        raise MisconfigurationTypeError(
            f'{call}(weights={name!r}) must be the name of weights in the checkpoint, such as "averaged", or None.'
        )


def with_weights(checkpoint: Mapping[str, Any], name: str, where: object) -> dict[str, Any]:
    """The checkpoint with these weights as its `state_dict`.

    Args:
        checkpoint: what a file holds; it is not changed.
        name: of the weights.
        where: the file, for the message.

    Raises:
        CheckpointError: it has no weights of that name; the message lists those that it has.
    """
    sets = weight_sets(checkpoint)
    if name not in sets:
        close = get_close_matches(name, sets, n=1)
        guess = f' Did you mean "{close[0]}"?' if close else ""
        raise CheckpointError(
            f'{where} has no weights "{name}".{guess} It has {", ".join(map(repr, sets))}. Weights beside the '
            "live ones are saved by callbacks that average, while they are in the run."
        )
    chosen = {**checkpoint, "state_dict": sets[name]}
    if _is_lightnings_average(checkpoint):
        chosen[WEIGHTS] = {other: weights for other, weights in sets.items() if other != LIVE}
        del chosen["current_model_state"]
    return chosen


def _is_lightnings_average(checkpoint: Mapping[str, Any]) -> bool:
    return "averaging_state" in checkpoint and "current_model_state" in checkpoint
