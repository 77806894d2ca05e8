"""The names of compiled weights: torch writes `_orig_mod.` into them, and checkpoints know nothing of it."""

import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import nn

_WRAPPER = "_orig_mod."
"""What torch.compile puts before the names of a module's parts."""


def is_compiled(model: object) -> bool:
    """Whether `model` is what torch.compile makes of a module."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")  # not loaded: nobody has compiled anything
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)


def plain_names(state: dict[str, Any]) -> dict[str, Any]:
    """Weights under the names that they have without torch.compile; the same object where nothing is compiled.

    So the attribute is kept that torch hangs on it: by its versions old weights are brought up to date.
    """
    if not any(_WRAPPER in name for name in state):
        return state
    return OrderedDict((name.replace(_WRAPPER, ""), value) for name, value in state.items())


def names_in(module: nn.Module, state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Weights under the names that this module's have, whether its parts are compiled, or those that were saved."""
    # From the outside to the inside. Not from module.state_dict(), which is the user's to override.
    compiled = [f"{path}." for path, part in module.named_modules(remove_duplicate=False) if is_compiled(part)]
    if not compiled and not any(_WRAPPER in name for name in state):
        return state

    def own(name: str) -> str:
        for path in compiled:
            if name.startswith(path):
                name = f"{path}{_WRAPPER}{name.removeprefix(path)}"
        return name

    return OrderedDict((own(name.replace(_WRAPPER, "")), value) for name, value in state.items())
