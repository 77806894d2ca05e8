"""Torch's way to prune a tensor (`weight` becomes `weight_orig` and `weight_mask`), taken on and off without a loss."""

from collections.abc import Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.utils import prune

from hookloop.module.compiled_names import plain_names


@dataclass(frozen=True, slots=True)
class Target:
    """A tensor that is pruned.

    Attributes:
        module: that holds it.
        name: under which it does.
        path: its name in the whole module.
    """

    module: nn.Module
    name: str
    path: str

    @property
    def pruned(self) -> bool:
        """Whether it is pruned now, in torch's way."""
        return isinstance(getattr(self.module, f"{self.name}_orig", None), Parameter)

    @property
    def original(self) -> Parameter:
        """The values under the mask, or the parameter itself where there is no mask."""
        found = getattr(self.module, f"{self.name}_orig" if self.pruned else self.name)
        assert isinstance(found, Parameter)
        return found

    @property
    def mask(self) -> Tensor:
        """What is kept: bool, the shape of the tensor. All of it if it is not pruned."""
        if not self.pruned:
            return torch.ones_like(self.original, dtype=torch.bool)
        return self.module.get_buffer(f"{self.name}_mask") != 0


def put_mask(target: Target, mask: Tensor, original: Tensor | None = None) -> None:
    """Prune a tensor by a mask, in place of the one that it has.

    Its parameter stays the same object, at the same place among the parameters of its module: an optimizer goes on
    with it, and one that is made later finds it in the same order. A chain of pruning methods, to which torch adds one
    with each pruning, is one mask again.

    Args:
        target: what to prune.
        mask: nonzero where it is kept, of the tensor's shape, any dtype.
        original: the values under the mask; None: as they are.
    """
    values = (target.original if original is None else original).detach().clone()
    order = own_parameters(target.module)
    with torch.no_grad():
        if target.pruned:
            prune.remove(target.module, target.name)
        parameter = target.original
        prune.custom_from_mask(target.module, target.name, mask.to(parameter.device, parameter.dtype))
        parameter.copy_(values)
    put_in_order(target.module, order)
    refresh(target)


def take_mask(target: Target, permanent: bool) -> None:
    """Give a tensor back its place as a parameter.

    Args:
        target: a tensor that may be pruned.
        permanent: whether it is zero where it was masked; else it has the values that were under the mask.
    """
    if not target.pruned:
        return
    order, values = own_parameters(target.module), target.original.detach().clone()
    prune.remove(target.module, target.name)
    if not permanent:
        with torch.no_grad():
            target.original.copy_(values)
    put_in_order(target.module, order)


def refresh(target: Target) -> None:
    """Compute a pruned tensor from its parameter, as its module does before each forward pass.

    Between an optimizer's step and the next forward pass it is that of before the step.
    """
    if target.pruned:
        mask = target.module.get_buffer(f"{target.name}_mask")
        setattr(target.module, target.name, mask.to(target.original.dtype) * target.original)


def own_parameters(module: nn.Module) -> list[str]:
    """The names of the parameters that a module holds itself, as they are without pruning, in their order."""
    return [_plain(module, name) for name, _ in module.named_parameters(recurse=False)]


def put_in_order(module: nn.Module, order: Iterable[str]) -> None:
    """Put a module's parameters into an order, given by their names without pruning.

    Torch puts what it renames last, and an optimizer's state is saved by the order of its parameters.
    """
    now = {_plain(module, name): name for name, _ in module.named_parameters(recurse=False)}
    for plain in order:
        parameter = getattr(module, now[plain])
        delattr(module, now[plain])
        module.register_parameter(now[plain], parameter)


def _plain(module: nn.Module, name: str) -> str:
    plain = name.removesuffix("_orig")
    return plain if plain != name and hasattr(module, f"{plain}_mask") else name


def pruned_in(module: nn.Module) -> Iterator[Target]:
    """Everything in a module that is pruned in torch's way."""
    for path, part in plain_names(dict(module.named_modules())).items():
        for name, _ in list(part.named_parameters(recurse=False)):
            if _plain(part, name) != name:
                plain = _plain(part, name)
                yield Target(part, plain, without_wrapper(f"{path}.{plain}" if path else plain))


def save_folded(module: nn.Module, state: MutableMapping[str, Any], prefix: str, metadata: Any) -> None:
    """A hook for `Module.state_dict`: of what is pruned it holds the tensor, with its zeros, and no mask."""
    for name in [name for name in state if name.startswith(prefix) and name.endswith("_mask")]:
        plain = name.removesuffix("_mask")
        if f"{plain}_orig" in state:
            original, mask = state.pop(f"{plain}_orig"), state.pop(name)
            state[plain] = original * mask.to(original.dtype)


def load_as_it_is(module: nn.Module, state: MutableMapping[str, Any], prefix: str, *rest: Any) -> None:
    """A hook for `Module.load_state_dict`: weights that were saved pruned, or not, fit the module, pruned or not.

    A module that is not pruned gets tensors with zeros. One that is gets a tensor by its values: where that is not zero
    it is kept from now on, else the mask, and what is under it, stays as it is.
    """
    pruned = {f"{prefix}{target.path}": target for target in pruned_in(module)}
    for name in [name for name in state if name.startswith(prefix) and name.endswith("_mask")]:
        plain = name.removesuffix("_mask")
        if f"{plain}_orig" in state and without_wrapper(plain) not in pruned:
            original, mask = state.pop(f"{plain}_orig"), state.pop(name)
            state[plain] = original * mask.to(original.dtype)
    for plain in [name for name in state if without_wrapper(name) in pruned]:
        target, value = pruned[without_wrapper(plain)], state.pop(plain)
        original = target.original.detach()
        mask = target.mask | (value.to(original.device) != 0)
        state[f"{plain}_mask"] = mask.to(original.dtype)
        state[f"{plain}_orig"] = torch.where(mask, value.to(original.device, original.dtype), original)


def without_wrapper(name: str) -> str:
    """A tensor's name without what torch.compile writes into it."""
    return name.replace("_orig_mod.", "")
