"""From what somebody supplied to its loaders, and to the one CombinedLoader that stands for them."""

from collections.abc import Mapping
from copy import copy
from typing import Any

from hookloop.errors import MisconfigurationError
from hookloop.loaders.combined import CombinedLoader, Mode
from hookloop.loaders.structure import holds_batches, is_array, is_collection


def parts_of(given: Any) -> list[Any]:
    """Every single loader in what somebody supplied."""
    return (given if isinstance(given, CombinedLoader) else CombinedLoader(given)).flattened


def combine(given: Any, stage: str, mode: Mode) -> CombinedLoader | None:
    """What stands for several loaders; None for a single one.

    A CombinedLoader of the user's own is copied, because limits are set and loaders may be replaced in it.

    Raises:
        MisconfigurationError: a list for training looks like one of batches. Taken as loaders, it would train on
            something else.
    """
    if isinstance(given, CombinedLoader):
        return copy(given)
    if not is_collection(given):
        return None
    combined = CombinedLoader(given, mode)
    in_a_list = not isinstance(given, Mapping)
    if stage == "train" and any(is_array(part) or (in_a_list and holds_batches(part)) for part in combined.flattened):
        raise MisconfigurationError(
            f"The training dataloader is a {type(given).__name__}, which stands for several loaders, and what it holds "
            "looks like batches. If these are batches, wrap them: DataLoader(batches, batch_size=None). If they are "
            'loaders, say so: hookloop.utilities.CombinedLoader(loaders, "max_size_cycle").'
        )
    return combined
