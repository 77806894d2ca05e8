"""What the Trainer makes of its argument `plugins`: how numbers are represented, and where checkpoints are kept."""

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch

from hookloop.checkpoint_io import CheckpointIO
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.options import TrainerOptions
from hookloop.precision import Precision
from hookloop.strategies import Strategy

_NEVER_CALLED = (
    *("backward", "clip_grad_by_norm", "clip_grad_by_value", "clip_gradients", "connect", "convert_output"),
    *("main_params", "module_init_context", "on_load_checkpoint", "on_save_checkpoint", "post_backward"),
    *("predict_step_context", "pre_backward", "setup", "teardown", "tensor_init_context", "test_step_context"),
    *("train_step_context", "unscale_gradients", "val_step_context"),
)
"""Methods of a Lightning precision plugin that nobody asks for here."""

_CALLED = "convert_module, convert_input, forward_context, scale, optimizer_step, state_dict, load_state_dict"

_SEVERAL_PROCESSES = ("ClusterEnvironment", "LayerSync")


@dataclass(frozen=True, slots=True)
class Plugins:
    """What was passed, by what it is for; None for what was not.

    Attributes:
        precision: how numbers are represented.
        checkpoint_io: where checkpoints are kept.
    """

    precision: Precision | None = None
    checkpoint_io: CheckpointIO | None = None

    def precision_on(self, device: torch.device) -> Precision | None:
        """The precision, for a run on this device.

        Raises:
            MisconfigurationError: it was made for another kind of device.
        """
        kind = None if self.precision is None else self.precision.autocast_device
        if kind not in (None, device.type):
            raise MisconfigurationError(
                f'plugins holds a {type(self.precision).__name__} for "{kind}", and this Trainer runs on "{device}". '
                f'Make it with device="{device.type}", or choose accelerator="{kind}".'
            )
        return self.precision


def sort_plugins(options: TrainerOptions) -> Plugins:
    """The plugins that were passed, one at most of each kind.

    Raises:
        MisconfigurationTypeError: something in `plugins` is no plugin.
        MisconfigurationError: two of a kind, one that another argument contradicts, or one that cannot work.
    """
    precisions: list[Precision] = []
    ios: list[CheckpointIO] = []
    for plugin in _listed(options.plugins):
        if isinstance(plugin, Precision):
            _check_precision(plugin)
            precisions.append(plugin)
        elif isinstance(plugin, CheckpointIO):
            ios.append(plugin)
        else:
            raise MisconfigurationTypeError(_refusal(plugin))
    for kind, plugins in (("precision", precisions), ("checkpoint", ios)):
        if len(plugins) > 1:
            names = ", ".join(type(plugin).__name__ for plugin in plugins)
            raise MisconfigurationError(
                f"plugins holds {len(plugins)} {kind} plugins ({names}), and a Trainer has one of each kind. Keep one."
            )
    if precisions and options.precision is not None:
        raise MisconfigurationError(
            f"precision={options.precision!r} was passed, and plugins holds a {type(precisions[0]).__name__} "
            f"({precisions[0].name}). Drop one of them."
        )
    if isinstance(options.strategy, Strategy) and (precisions or ios):
        [argument, plugin] = ["precision_plugin", precisions[0]] if precisions else ["checkpoint_io", ios[0]]
        raise MisconfigurationError(
            f"plugins holds a {type(plugin).__name__}, and the strategy object that was passed brings its own. Build "
            f"the strategy with it: {type(options.strategy).__name__}({argument}=...)."
        )
    return Plugins(precisions[0] if precisions else None, ios[0] if ios else None)


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | type) else [given]


def _refusal(plugin: object) -> str:
    use = "Pass a Precision (MixedPrecision, HalfPrecision, DoublePrecision) or a CheckpointIO of hookloop.plugins."
    if isinstance(plugin, type):
        return f"plugins holds the class {plugin.__name__}. Pass an instance: {plugin.__name__}(...)."
    bases = {base.__name__ for base in type(plugin).__mro__}
    if bases & {*_SEVERAL_PROCESSES}:
        return (
            f"plugins holds a {type(plugin).__name__}, which is about several processes, and today hookloop trains in "
            f"one. Leave it out. {use}"
        )
    if bases & {"Precision", "CheckpointIO"}:
        return f"plugins holds a {type(plugin).__name__} of {type(plugin).__module__}, another library. {use}"
    return f"plugins holds {plugin!r} ({type(plugin).__name__}), which is no plugin. {use}"


def _check_precision(plugin: Precision) -> None:
    """Nothing that a plugin defines shall be left aside without a word."""
    name = type(plugin).__name__
    aside = [method for method in _NEVER_CALLED if hasattr(plugin, method)]
    if aside:
        raise MisconfigurationError(
            f"{name} defines {aside[0]}(), which hookloop calls on no precision plugin. It calls {_CALLED}; what "
            "belongs into a hook of the module, such as configure_gradient_clipping, goes there."
        )
    parameters = inspect.signature(Precision.optimizer_step).parameters.values()
    documented = [one.name for one in parameters if one.kind is one.POSITIONAL_OR_KEYWORD and one.name != "self"]
    try:
        inspect.signature(plugin.optimizer_step).bind(*documented)
        fits = True
    except TypeError:
        fits = False
    given = list(inspect.signature(plugin.optimizer_step).parameters)
    if not fits or "model" in given:
        raise MisconfigurationError(
            f"{name}.optimizer_step({', '.join(given)}) is called with ({', '.join(documented)}): it computes the "
            "gradients with the closure, calls before_step, and steps. Change its parameters."
        )
