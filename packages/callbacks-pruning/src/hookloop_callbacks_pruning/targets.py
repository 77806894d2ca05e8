"""Which tensors of a module are pruned: from what users pass to what there is."""

from collections.abc import Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, TypeAlias

from torch import nn
from torch.nn import Parameter

from hookloop.errors import MisconfigurationError
from hookloop.module.compiled_names import plain_names
from hookloop_callbacks_pruning.reparametrize import Target, own_parameters, without_wrapper

Pair: TypeAlias = tuple[nn.Module, str]

PARAMETER_NAMES = ("weight", "bias")


def check_pairs(given: object) -> None:
    """Check the form of `parameters_to_prune`.

    Raises:
        MisconfigurationError: it is no sequence of pairs and names.
    """
    entries = given if isinstance(given, Sequence) and not isinstance(given, str) else None
    if entries is None or not all(isinstance(one, str) or _is_pair(one) for one in entries):
        raise MisconfigurationError(
            f"ModelPruning(parameters_to_prune={given!r}): it is a list of pairs (module, name of a parameter), or of "
            'names as named_parameters() has them, with wildcards: [(model.head, "weight"), "encoder.*.weight"].'
        )


def _is_pair(one: Any) -> bool:
    return isinstance(one, tuple | list) and len(one) == 2 and isinstance(one[0], nn.Module) and isinstance(one[1], str)


def find_pairs(module: nn.Module, given: Sequence[Any], names: Sequence[str]) -> list[Pair]:
    """The tensors to prune, each once.

    Args:
        module: the whole.
        given: pairs, or names with wildcards; empty: all parameters of these `names`.
        names: of parameters ("weight", "bias").

    Raises:
        MisconfigurationError: one is not there, or there is nothing to prune.
    """
    known = _parameters(module)
    parts = set(module.modules())
    found: dict[tuple[nn.Module, str], None] = {}
    for one in given:
        if isinstance(one, str):
            matches = [target for path, target in known.items() if fnmatchcase(path, one)]
            if not matches:
                close = get_close_matches(one, known, n=1)
                raise MisconfigurationError(
                    f"ModelPruning(parameters_to_prune): {one!r} matches no parameter."
                    + (f" Did you mean {close[0]!r}?" if close else "")
                    + f" {type(module).__name__} has {', '.join(known) or 'none'}."
                )
            found |= dict.fromkeys((target.module, target.name) for target in matches)
            continue
        part, name = one
        if part not in parts:
            raise MisconfigurationError(
                f"ModelPruning(parameters_to_prune): a {type(part).__name__} of it is no part of the "
                f"{type(module).__name__} that is trained. Take the parts from that very module, or name them: "
                f"{', '.join(known)}."
            )
        own = own_parameters(part)
        if name not in own:
            raise MisconfigurationError(
                f"ModelPruning(parameters_to_prune): a {type(part).__name__} of it has no parameter {name!r}. It has "
                f"{', '.join(own) or 'none of its own'}."
            )
        found[part, name] = None
    if not given:
        found = dict.fromkeys((one.module, one.name) for name in names for one in known.values() if one.name == name)
        if not found:
            raise MisconfigurationError(
                f"ModelPruning: there is nothing to prune: no part of {type(module).__name__} has a parameter named "
                f"{' or '.join(names)}. It has {', '.join(known) or 'no parameters'}."
            )
    return list(found)


def targets_of(module: nn.Module, pairs: Sequence[Pair]) -> list[Target]:
    """The same with their names in the whole.

    Raises:
        MisconfigurationError: two of them are one parameter, or one is used outside of its part too.
    """
    paths = {(one.module, one.name): path for path, one in _parameters(module).items()}
    owners: dict[int, list[str]] = {}
    for path, one in _parameters(module).items():
        owners.setdefault(id(one.original), []).append(path)
    targets = [Target(part, name, paths[part, name]) for part, name in pairs]
    for target in targets:
        shared = owners[id(target.original)]
        if len(shared) > 1:
            raise MisconfigurationError(
                f"ModelPruning: {' and '.join(shared)} are one parameter, which can be pruned in one place alone. "
                "Untie them, or leave it out: parameters_to_prune says what is pruned."
            )
    return targets


def _parameters(module: nn.Module) -> dict[str, Target]:
    """All parameters of a module by name, those that are pruned already as well."""
    found = {}
    for path, part in plain_names(dict(module.named_modules())).items():
        for name in own_parameters(part):
            full = without_wrapper(f"{path}.{name}" if path else name)
            target = Target(part, name, full)
            if isinstance(target.original, Parameter):
                found[full] = target
    return found
