"""From a checkpoint to an object: its constructor's arguments, from the file and from the caller."""

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from os import PathLike
from typing import Any, TypeVar

import torch
from torch import nn

from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError
from hookloop.hyperparameters.entries import SavedSettings
from hookloop.hyperparameters.mixin import HyperparametersMixin

T = TypeVar("T", bound=HyperparametersMixin)

Parameters = Mapping[str, inspect.Parameter]


def construct(
    made: type[T],
    checkpoint: dict[str, Any],
    hparams_file: str | PathLike[str] | None,
    given: Mapping[str, Any],
) -> T:
    """Make an object with the arguments that a checkpoint has of it.

    Args:
        made: its class.
        checkpoint: what the file holds.
        hparams_file: settings to take in place of the checkpoint's, as YAML or CSV.
        given: arguments that go before those of the files.

    Raises:
        CheckpointError: the constructor needs an argument that neither the files nor the caller have.
        MisconfigurationTypeError: the caller gave one that the constructor does not take.
        MisconfigurationError: the file of settings cannot be read.
    """
    key = made.CHECKPOINT_HYPER_PARAMS_KEY
    if hparams_file is not None:
        from hookloop.hyperparameters.files import read_hparams_file

        name = checkpoint.get(made.CHECKPOINT_HYPER_PARAMS_NAME)
        checkpoint = {key: read_hparams_file(hparams_file), made.CHECKPOINT_HYPER_PARAMS_NAME: name}
    saved = SavedSettings(checkpoint, made)
    parameters = _parameters(made)
    as_one = saved.name if saved.name in parameters and saved.name not in given else None
    if as_one is not None:
        arguments = _as_one_argument(made, saved, as_one, parameters, given)
    else:
        arguments = _one_by_one(made, saved, parameters, given)
    source = f"{hparams_file}" if hparams_file is not None else "the checkpoint"
    _require(made, parameters, arguments, saved, source)
    positional = [
        arguments.pop(name)
        for name, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_ONLY and name in arguments
    ]
    return made(*positional, **arguments)


def takes(made: type, name: str) -> bool:
    """Whether a class's constructor names an argument so."""
    return name in _parameters(made)


def _parameters(made: type) -> Parameters:
    constructor: Any = inspect.getattr_static(made, "__init__")
    if constructor in (object.__init__, nn.Module.__init__):
        return {}  # it has none of its own, and these take *args and **kwargs only to refuse them
    return dict(list(inspect.signature(constructor).parameters.items())[1:])


def _takes_any(parameters: Parameters) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _named(parameters: Parameters) -> list[str]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [name for name, parameter in parameters.items() if parameter.kind not in variable]


def _one_by_one(made: type, saved: SavedSettings, parameters: Parameters, given: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting is an argument; what the constructor does not take stays in the file."""
    named = _named(parameters)
    if not _takes_any(parameters):
        for name in given:
            if name not in named:
                close = get_close_matches(name, named, n=1)
                raise MisconfigurationTypeError(
                    f"{made.__name__}.load_from_checkpoint got {name}=, and {made.__name__}.__init__ takes no such "
                    f"argument; it takes {', '.join(named) or 'none'}."
                    + (f" Did you mean {close[0]}?" if close else "")
                )
    wanted = [name for name in saved.names if name in named or _takes_any(parameters)]
    left_out = [name for name in saved.left_out if name in named or _takes_any(parameters)]
    _refuse_left_out(made, saved, [name for name in left_out if name not in given])
    return {name: saved.get(name) for name in wanted if name not in given} | dict(given)


def _as_one_argument(
    made: type, saved: SavedSettings, as_one: str, parameters: Parameters, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The settings are the items of one argument; what the caller gives that is no argument changes its items."""
    named = _named(parameters)
    others = {name: value for name, value in given.items() if name in named}
    items = {name: value for name, value in given.items() if name not in named}
    unknown = [name for name in items if name not in saved.names and name not in saved.left_out]
    if unknown and saved.has_fixed_names:
        raise MisconfigurationTypeError(
            f"{made.__name__}.load_from_checkpoint got {unknown[0]}=, which is neither an argument of "
            f"{made.__name__}.__init__ ({', '.join(named)}) nor a field of {as_one} ({', '.join(saved.names)})."
        )
    _refuse_left_out(made, saved, [name for name in saved.left_out if name not in items])
    settings = {name: saved.get(name) for name in saved.names if name not in items} | items
    return {as_one: saved.as_one({name: settings[name] for name in dict.fromkeys([*saved.names, *items])})} | others


def _refuse_left_out(made: type, saved: SavedSettings, names: list[str]) -> None:
    if names:
        raise CheckpointError(
            f"The checkpoint was saved without {', '.join(f'{name} ({saved.left_out[name]})' for name in names)}, "
            f"which a file cannot hold. Pass it: {made.__name__}.load_from_checkpoint(path, {names[0]}=...)."
        )


def _require(
    made: type, parameters: Parameters, arguments: Mapping[str, Any], saved: SavedSettings, source: str
) -> None:
    missing = [
        name
        for name in _named(parameters)
        if name not in arguments and parameters[name].default is inspect.Parameter.empty
    ]
    if missing:
        has = f"has {', '.join(saved.names)}" if saved.names else "has no hyperparameters"
        raise CheckpointError(
            f"{made.__name__}.__init__ needs {', '.join(missing)}, and {source} {has}. Pass what is missing: "
            f"{made.__name__}.load_from_checkpoint(path, {', '.join(f'{name}=...' for name in missing)}). Checkpoints "
            "have the arguments that __init__ saves: self.save_hyperparameters()."
        )


def check_map_location(map_location: Any) -> None:
    """Check a device that tensors are to be loaded to.

    Raises:
        MisconfigurationError: there is no such device here, or it is none.
    """
    if map_location is None or callable(map_location) or isinstance(map_location, Mapping):
        return
    allowed = "a device ('cpu', 'cuda:0'), a dict from device to device, a function, or None"
    try:
        device = torch.device(map_location)
    except (RuntimeError, TypeError) as error:
        raise MisconfigurationError(
            f"map_location={map_location!r} is no device ({str(error).splitlines()[0]}). Give {allowed}."
        ) from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise MisconfigurationError(
            f"map_location={map_location!r}: this machine has {torch.cuda.device_count()} CUDA device(s). "
            f"Give {allowed}."
        )
