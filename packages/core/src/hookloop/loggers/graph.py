"""The example input with which a logger draws a module's graph, and the module as it was after the drawing."""

import warnings
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from hookloop.batches import map_batch
from hookloop.errors import MisconfigurationError
from hookloop.random_state import isolated_random_state


def draw(model: Any, input_array: Any, add_graph: Callable[[Any, tuple[Any, ...]], None]) -> None:
    """Have a module drawn; its submodules' modes and all random numbers are the same afterwards.

    The input goes the way of a batch: through the module's hooks around the transfer, and to its device. Its floating
    tensors get the dtype of the module's parameters.

    Args:
        model: a LightningModule, or any torch.nn.Module.
        input_array: what `forward` takes: a tensor, a tuple or list of positional arguments, or a dict of arguments by
            name. None: the module's `example_input_array`; without one there is a warning and nothing is drawn.
        add_graph: draws; called with the traced module and its inputs.

    Raises:
        MisconfigurationError: the input is of another kind, or `forward` cannot be traced with it.
    """
    given = getattr(model, "example_input_array", None) if input_array is None else input_array
    name = type(model).__name__
    if given is None:
        warnings.warn(
            f"log_graph=True draws nothing: {name} has no example_input_array. Set it to an input of forward(), as in "
            "self.example_input_array = torch.zeros(1, 28 * 28), or call logger.log_graph(model, input_array).",
            stacklevel=3,
        )
        return
    if not isinstance(given, Tensor | tuple | list | Mapping):
        raise MisconfigurationError(
            f"The graph of {name} cannot be drawn with an example input of type {type(given).__qualname__}; give a "
            "tensor, a tuple of positional arguments of forward(), or a dict of arguments by name."
        )
    modes = [(module, module.training) for module in model.modules()]
    try:
        with isolated_random_state(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.trace", DeprecationWarning)  # nothing else draws
            warnings.filterwarnings("ignore", ".*already a ScriptModule")
            inputs, names = _arguments(_transferred(model, given))
            model.eval()
            # Strict, it takes no dicts; checking would run forward twice more, and mind whatever is random in it.
            add_graph(torch.jit.trace(_plain(model, names), inputs, strict=False, check_trace=False), inputs)
    except OSError:
        raise  # of the disk
    except Exception as error:
        raise MisconfigurationError(
            f"The graph of {name} could not be drawn: {type(error).__name__}: {error}. It is drawn by torch.jit.trace, "
            "which calls forward() with example_input_array. Give an input that forward() takes, or leave out "
            "log_graph=True."
        ) from error
    finally:
        for module, training in modes:
            module.training = training


def _transferred(model: Any, given: Any) -> Any:
    first = next(chain(model.parameters(), model.buffers()), None)
    device = first.device if first is not None else torch.device("cpu")
    if hasattr(model, "transfer_batch_to_device"):
        given = model.on_before_batch_transfer(given, 0)
        given = model.transfer_batch_to_device(given, device, 0)
        given = model.on_after_batch_transfer(given, 0)
    dtype = next((one.dtype for one in model.parameters() if one.is_floating_point()), None)

    def fit(tensor: Tensor) -> Tensor:
        return tensor.to(device, dtype if tensor.is_floating_point() else None)

    return map_batch(fit, given)


def _arguments(given: Any) -> tuple[tuple[Any, ...], tuple[str, ...]]:
    """What forward is called with, and the names under which it gets them; none: in their order."""
    if isinstance(given, Mapping):
        return tuple(given.values()), tuple(given)
    return tuple(given) if isinstance(given, tuple | list) else (given,), ()


def _plain(model: nn.Module, names: tuple[str, ...]) -> nn.Module:
    """A module of the same name and parts that runs this one.

    The tracer reads every attribute of the module that it is given, and properties of a LightningModule may raise; and
    it gives inputs by their order alone.
    """

    def forward(self: nn.Module, *inputs: Any) -> Any:
        return model(**dict(zip(names, inputs, strict=True))) if names else model(*inputs)

    plain: nn.Module = type(type(model).__name__, (nn.Module,), {"forward": forward})()
    plain._modules, plain._parameters, plain._buffers = model._modules, model._parameters, model._buffers
    plain.training = model.training
    return plain
