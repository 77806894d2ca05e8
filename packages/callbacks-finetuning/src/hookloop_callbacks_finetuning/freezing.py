"""Which parameters of a module learn: freezing parts of it, thawing them, and picking their parameters."""

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from torch import nn
from torch.nn import Parameter
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.utils.hooks import RemovableHandle

Modules: TypeAlias = "nn.Module | Iterable[Modules]"
"""A module, or modules in collections that may be nested."""

_FROZEN_NORMS: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Frozen layers that keep statistics of batches, each with the mode (train or not) that it had before.

Not an attribute of the layers, which would travel in their copies and pickles.
"""


def flatten_modules(modules: Modules) -> list[nn.Module]:
    """The parts that hold parameters themselves, and the leaves, each once, in the order in which they are found.

    Args:
        modules: a module, or a collection of them, which may be nested.
    """
    found: dict[nn.Module, None] = {}
    for module in _each(modules):
        for part in module.modules():
            if next(part.children(), None) is None or next(part.parameters(recurse=False), None) is not None:
                found[part] = None
    return list(found)


def _each(modules: Modules) -> Iterator[nn.Module]:
    if isinstance(modules, nn.Module):
        yield modules
        return
    for one in modules:
        yield from _each(one)


def freeze_module(module: nn.Module) -> None:
    """Stop the parameters that a module holds itself, not those of its parts, from learning.

    Their gradients are dropped: an optimizer that still found one would move them once more. A layer that keeps
    statistics of batches (batch norm) goes to eval mode: it uses those that it has, and adds nothing to them.
    """
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = False
        parameter.grad = None
    if _keeps_statistics(module):
        _FROZEN_NORMS.setdefault(module, module.training)
        module.eval()


def thaw_module(module: nn.Module) -> None:
    """Let the parameters that a module holds itself learn again; the opposite of `freeze_module`."""
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad = True
    if module in _FROZEN_NORMS:
        module.train(_FROZEN_NORMS.pop(module))


def freeze(modules: Modules, train_bn: bool = True) -> None:
    """Freeze parts of a model.

    Args:
        modules: a module, or a collection of them, which may be nested.
        train_bn: whether batch norms in there go on to learn.
    """
    for part in flatten_modules(modules):
        if isinstance(part, _BatchNorm) and train_bn:
            thaw_module(part)
        else:
            freeze_module(part)


def make_trainable(modules: Modules, train_bn: bool = True) -> None:
    """Let parts of a model learn.

    Args:
        modules: a module, or a collection of them, which may be nested.
        train_bn: whether batch norms in there learn too; else they stay as they are.
    """
    for part in flatten_modules(modules):
        if train_bn or not isinstance(part, _BatchNorm):
            thaw_module(part)


def filter_params(modules: Modules, train_bn: bool = True, requires_grad: bool = True) -> Iterator[Parameter]:
    """The parameters of parts of a model, each once.

    Args:
        modules: a module, or a collection of them, which may be nested.
        train_bn: whether those of batch norms are among them.
        requires_grad: those that learn, or those that do not.
    """
    seen: set[Parameter] = set()
    for part in flatten_modules(modules):
        if isinstance(part, _BatchNorm) and not train_bn:
            continue
        for parameter in part.parameters(recurse=False):
            if parameter.requires_grad == requires_grad and parameter not in seen:
                seen.add(parameter)
                yield parameter


def frozen_norms(module: nn.Module) -> list[str]:
    """The names of frozen layers that are kept in eval mode.

    One that somebody else has let learn since then is none of them.
    """
    return [
        name
        for name, part in module.named_modules()
        if part in _FROZEN_NORMS and not any(one.requires_grad for one in part.parameters(recurse=False))
    ]


def keep_norms_in_eval(module: nn.Module) -> None:
    """Frozen batch norms stay in eval mode, whoever has put the whole module into train mode."""
    for name in frozen_norms(module):
        module.get_submodule(name).eval()


def guard_norms(module: nn.Module) -> list[RemovableHandle]:
    """Frozen batch norms go to eval mode right before they are used, whoever has put them into train mode.

    It costs a call for each of them in each forward pass.

    Returns:
        Torch's handles, to remove it.
    """
    return [part.register_forward_pre_hook(_stay_frozen) for part in module.modules() if _keeps_statistics(part)]


def _stay_frozen(module: nn.Module, arguments: tuple[Any, ...]) -> None:
    if module.training and module in _FROZEN_NORMS:
        module.eval()


def give_modes_back(module: nn.Module) -> None:
    """Frozen batch norms get the modes that they had before; they are still frozen."""
    for part in module.modules():
        if part in _FROZEN_NORMS:
            part.training = _FROZEN_NORMS[part]


def freeze_norms(module: nn.Module, names: Iterable[str]) -> None:
    """These layers, and no others of the module, are frozen ones that are kept in eval mode.

    Args:
        module: where they are.
        names: as `frozen_norms` gives them.
    """
    wanted = set(names)
    for name, part in module.named_modules():
        if name in wanted:
            _FROZEN_NORMS.setdefault(part, part.training)
            part.eval()
        elif part in _FROZEN_NORMS:
            part.train(_FROZEN_NORMS.pop(part))


def _keeps_statistics(module: nn.Module) -> bool:
    return isinstance(module, _NormBase) and module.running_mean is not None
