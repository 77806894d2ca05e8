"""Parameters that a part of a model shares with the rest: they cannot be frozen in the one and learn in the other."""

from collections.abc import Collection

from torch import nn

from hookloop.errors import MisconfigurationError
from hookloop.tied_parameters import find_shared_parameters


def check_not_shared(module: nn.Module, parts: Collection[str], whose: str) -> None:
    """No parameter of these parts is a parameter of the rest of the module too.

    Args:
        module: the whole.
        parts: names of parts.
        whose: for the message, who wants to freeze them.

    Raises:
        MisconfigurationError: there is one; the message names it.
    """

    def inside(name: str) -> bool:
        return any(name.replace("_orig_mod.", "").startswith(f"{part}.") for part in parts)  # torch.compile's

    for names in find_shared_parameters(module):
        within = [name for name in names if inside(name)]
        if within and len(within) < len(names):
            outside = [name for name in names if not inside(name)]
            raise MisconfigurationError(
                f"{whose}: {', '.join(within)} and {', '.join(outside)} are one parameter, which "
                f"{type(module).__name__} uses in the part that is frozen and outside of it, so it cannot be frozen "
                "here and learn there. Untie them, or choose parts that hold it under all its names."
            )
