"""Parameter groups of optimizers: adding one to an optimizer that is at work, and building the same ones again."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.module.compiled_names import plain_names

_UNKNOWN = ""
"""In place of the name of a parameter that is none of the module's."""


def names_of_parameters(module: nn.Module) -> dict[Parameter, str]:
    """The name of each parameter, the first one where it has several.

    As it is without what torch.compile and torch.nn.utils.prune write into it: what is compiled or pruned in one run
    need not be so yet when another one goes on from its checkpoint.
    """
    masked = {name.removesuffix("_mask") for name, _ in module.named_buffers() if name.endswith("_mask")}
    names: dict[Parameter, str] = {}
    for name, parameter in module.named_parameters():
        plain = name.removesuffix("_orig")
        names[parameter] = plain if plain in masked else name
    return {parameter: name for name, parameter in plain_names({name: one for one, name in names.items()}).items()}


def parameters_of(optimizer: Optimizer) -> set[Parameter]:
    """All parameters that an optimizer steps."""
    return {parameter for group in optimizer.param_groups for parameter in group["params"]}


def filter_on_optimizer(optimizer: Optimizer, params: Iterable[Parameter]) -> list[Parameter]:
    """Those of the parameters that an optimizer does not have yet; it warns of the others.

    Args:
        optimizer: torch's.
        params: compared by identity: two parameters that are equal in value are two.
    """
    own = parameters_of(optimizer)
    params = list(params)
    new = [parameter for parameter in params if parameter not in own]
    if len(new) < len(params):
        warnings.warn(
            f"{len(params) - len(new)} of {len(params)} parameters that are to get a group of their own are in the "
            f"{type(optimizer).__name__} already, so they learn at the rate of the group that they are in. To choose "
            "their rate, give the optimizer in configure_optimizers only what learns from the beginning: "
            "filter(lambda p: p.requires_grad, self.parameters()).",
            stacklevel=4,
        )
    return new


def add_group(optimizer: Optimizer, params: Sequence[Parameter], lr: float | Tensor) -> None:
    """Add a parameter group to an optimizer that may have stepped already.

    Its other settings are the optimizer's defaults.

    Args:
        optimizer: torch's.
        params: which it does not have yet.
        lr: the group's rate.

    Raises:
        MisconfigurationError: the optimizer cannot have this group.
    """
    name = type(optimizer).__name__
    if isinstance(optimizer, torch.optim.LBFGS):
        raise MisconfigurationError(
            f"{name} has one parameter group for good, so no group can be added when a part is unfrozen. Give it all "
            "parameters in configure_optimizers (self.parameters()): frozen ones stay as they are until they are "
            "unfrozen. Or use an optimizer with groups."
        )
    if isinstance(optimizer, torch.optim.Muon):
        others = [tuple(parameter.shape) for parameter in params if parameter.ndim != 2]
        if others:
            raise MisconfigurationError(
                f"{name} steps matrices alone, and of the {len(params)} parameters that are to be unfrozen "
                f"{len(others)} are none (shapes: {', '.join(map(str, others[:5]))}). Unfreeze parts with matrices "
                "alone, or use another optimizer."
            )
    given: list[Any] = list(params)
    if "param_names" in optimizer.param_groups[0]:
        # torch wants names for all groups or for none; BaseFinetuning puts the module's in place of these.
        taken = sum(len(group["params"]) for group in optimizer.param_groups)
        given = [(f"unfrozen.{taken + index}", parameter) for index, parameter in enumerate(given)]
    optimizer.add_param_group({"params": given, "lr": lr})
    if "differentiable" not in optimizer.param_groups[0]:
        # An optimizer that was resumed has got a default of this name (Adafactor does not know it otherwise).
        optimizer.param_groups[-1].pop("differentiable", None)
    if isinstance(optimizer, torch.optim.Adagrad):
        # It makes the state of parameters in its constructor, and nowhere else.
        start = optimizer.param_groups[-1]["initial_accumulator_value"]
        made = torch.optim.Adagrad(list(params), initial_accumulator_value=start)
        optimizer.state.update(made.state)


def put_names(module: nn.Module, optimizer: Optimizer) -> None:
    """Where an optimizer knows names of its parameters, those of added groups become the module's own."""
    if "param_names" not in optimizer.param_groups[0]:
        return
    names = names_of_parameters(module)
    for group in optimizer.param_groups:
        group["param_names"] = [
            names.get(parameter, given) for parameter, given in zip(group["params"], group["param_names"], strict=True)
        ]


def layout_of(module: nn.Module, optimizer: Optimizer) -> list[dict[str, Any]]:
    """An optimizer's groups in plain values: the names of their parameters under "names", and their settings."""
    names = names_of_parameters(module)
    return [
        {
            "names": [names.get(parameter, _UNKNOWN) for parameter in group["params"]],
            "settings": {key: value for key, value in group.items() if key not in ("params", "param_names")},
        }
        for group in optimizer.param_groups
    ]


def restore_layout(module: nn.Module, optimizer: Optimizer, layout: Sequence[Mapping[str, Any]]) -> None:
    """Give an optimizer that was made anew the groups that one had when it was saved.

    Groups that `configure_optimizers` has made keep the settings that it gave them; those that were added get theirs.
    States and settings of all of them are loaded by the core after that, if there is a checkpoint.

    Args:
        module: whose parameters they are.
        optimizer: torch's; nothing has stepped it yet.
        layout: as `layout_of` gives it.

    Raises:
        CheckpointError: the module lacks a parameter, or the optimizer has more groups than were saved.
    """
    by_name = {name: parameter for parameter, name in names_of_parameters(module).items()}
    given = layout_of(module, optimizer)
    if len(given) > len(layout):
        raise CheckpointError(
            f"The checkpoint was saved when the {type(optimizer).__name__} had {len(layout)} parameter group(s), and "
            f"configure_optimizers() returned one with {len(given)}. Return what the saved run did."
        )
    for index, saved in enumerate(layout):
        names = list(saved["names"])
        if index < len(given) and given[index]["names"] == names:
            continue
        missing = [name for name in names if name not in by_name]
        if missing:
            raise CheckpointError(
                f"Parameter group {index} of the {type(optimizer).__name__} held "
                f"{', '.join(name or 'a parameter that was none of the module' for name in missing)} when the "
                f"checkpoint was saved, and {type(module).__name__} has no parameter of that name. Build the module "
                "and its optimizer as they were then."
            )
        parameters = [by_name[name] for name in names]
        if index < len(given):
            optimizer.param_groups[index]["params"] = parameters
        else:
            add_group(optimizer, parameters, saved["settings"].get("lr", optimizer.param_groups[0]["lr"]))
            optimizer.param_groups[index].update(saved["settings"])
    put_names(module, optimizer)
