"""Parameters that several parts of a module share: found by their names, and tied together again."""

from collections.abc import Sequence

from torch import nn

from hookloop.errors import MisconfigurationError


def find_shared_parameters(module: nn.Module) -> list[list[str]]:
    """The names under which each parameter is known that has more than one.

    Moving a module to some kinds of devices makes new parameters, and unties what was tied. Ask before, and call
    `set_shared_parameters` after.

    Returns:
        A list of names for each such parameter, in the order of the module's parts.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [shared for shared in names.values() if len(shared) > 1]


def set_shared_parameters(module: nn.Module, shared_params: Sequence[Sequence[str]]) -> nn.Module:
    """Tie parameters together, in place: under every name of a group, the module has the parameter of the first one.

    Args:
        module: whose parameters.
        shared_params: groups of names, as `find_shared_parameters` returns them.

    Returns:
        The same module.

    Raises:
        MisconfigurationError: the module has no parameter of a name.
    """
    known = dict(module.named_parameters(remove_duplicate=False))
    for name in (name for group in shared_params for name in group):
        if name not in known:
            raise MisconfigurationError(
                f"set_shared_parameters: {type(module).__name__} has no parameter {name!r}. It has "
                f"{', '.join(known) or 'none'}."
            )
    for group in shared_params:
        for name in group[1:]:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, known[group[0]])
    return module
