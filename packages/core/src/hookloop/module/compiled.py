"""Modules that went through torch.compile: the steps run compiled, and everything else sees the module itself.

`torch.compile(module)` is no LightningModule but a wrapper that compiles `forward`, which the steps are not. So the
Trainer takes the module out of it, and compiles the steps with what the wrapper would have compiled `forward` with.
Checkpoints know nothing of it: torch writes `_orig_mod.` into the names of compiled weights, and they hold plain names.
"""

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.metrics import Recorder
from hookloop.module.module import LightningModule

_WRAPPER = "_orig_mod."
"""What torch.compile puts before the names of a module's parts."""


def is_compiled(model: object) -> bool:
    """Whether `model` is what torch.compile makes of a module."""
    dynamo = sys.modules.get("torch._dynamo.eval_frame")  # not loaded: nobody has compiled anything
    return dynamo is not None and isinstance(model, dynamo.OptimizedModule)


def from_compiled(model: Any) -> LightningModule:
    """The module inside `torch.compile(module)`; a Trainer runs its steps compiled from now on.

    Raises:
        MisconfigurationTypeError: it was not compiled, or what was compiled is no LightningModule.
    """
    if not is_compiled(model):
        raise MisconfigurationTypeError(
            f"from_compiled() got a {type(model).__name__}, and what torch.compile(module) returns is needed."
        )
    module = model._orig_mod
    if not isinstance(module, LightningModule):
        raise MisconfigurationTypeError(
            f"torch.compile was called on a {type(module).__name__}, which is no LightningModule. Compile the "
            "LightningModule, or compile its parts in its __init__ or configure_model."
        )
    module._compiler = model.dynamo_ctx
    return module


def to_uncompiled(model: Any) -> LightningModule:
    """The module inside `torch.compile(module)`, or one that `from_compiled` gave: its steps run as they are written.

    Raises:
        MisconfigurationError: the module was not compiled.
        MisconfigurationTypeError: it is no LightningModule.
    """
    module = from_compiled(model) if is_compiled(model) else model
    if not isinstance(module, LightningModule):
        raise MisconfigurationTypeError(f"to_uncompiled() got a {type(model).__name__}, and a module is needed.")
    if module._compiler is None:
        raise MisconfigurationError(f"to_uncompiled() got a {type(module).__name__} that was not compiled.")
    module._compiler = None
    return module


def compiled_step(module: LightningModule, step: Callable[..., Any]) -> Callable[..., Any]:
    """A step as the module's compiler runs it; the step itself where there is none."""
    if module._compiler is None:
        return step
    compiled: Callable[..., Any] = module._compiler(step)
    return compiled


_UNTRACED: dict[type[Recorder], type[Recorder]] = {}


def untraced(kind: type[Recorder]) -> type[Recorder]:
    """The same recorder, whose `log` the compiler does not look into: the graph is interrupted there, and goes on."""
    # A class, made once, and not a function in each recorder: compiled code is kept for a class, and used by every run.
    if kind not in _UNTRACED:
        _UNTRACED[kind] = type(kind.__name__, (kind,), {"log": torch.compiler.disable(kind.log)})
    return _UNTRACED[kind]


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
