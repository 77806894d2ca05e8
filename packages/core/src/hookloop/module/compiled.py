"""Modules that went through torch.compile: the steps run compiled, and everything else sees the module itself.

`torch.compile(module)` is no LightningModule but a wrapper that compiles `forward`, which the steps are not. So the
Trainer takes the module out of it, and compiles the steps with what the wrapper would have compiled `forward` with.
"""

from collections.abc import Callable
from typing import Any

import torch

from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.metrics import Recorder
from hookloop.module.compiled_names import is_compiled
from hookloop.module.module import LightningModule


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
