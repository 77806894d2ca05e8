"""How is chosen what is pruned: by a name of torch.nn.utils.prune, by a class of pruning methods, or by a function."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils import prune

from hookloop.errors import MisconfigurationError
from hookloop_callbacks_pruning.reparametrize import Target

NAMES: dict[str, tuple[Callable[..., Any], type[prune.BasePruningMethod]]] = {
    "ln_structured": (prune.ln_structured, prune.LnStructured),
    "l1_unstructured": (prune.l1_unstructured, prune.L1Unstructured),
    "random_structured": (prune.random_structured, prune.RandomStructured),
    "random_unstructured": (prune.random_unstructured, prune.RandomUnstructured),
}


@dataclass(frozen=True)
class Method:
    """A way to prune tensors.

    Attributes:
        name: for messages.
        apply: prunes a tensor: (module, name, amount).
        kind: the class that chooses in all tensors together; None: each tensor is pruned by itself.
        dim: the dimension whose channels are pruned as a whole; None: single elements are.
    """

    name: str
    apply: Callable[..., Any]
    kind: type[prune.BasePruningMethod] | None = None
    dim: int | None = None

    def prune(self, targets: Sequence[Target], amounts: Sequence[int | float]) -> None:
        """Prune tensors.

        Args:
            targets: which.
            amounts: one for each; one for all, where the method chooses in all of them together.
        """
        if self.kind is not None:
            pairs = [(target.module, target.name) for target in targets]
            prune.global_unstructured(pairs, pruning_method=self.kind, amount=amounts[0])
            return
        for target, amount in zip(targets, amounts, strict=True):
            if amount:
                self.apply(target.module, name=target.name, amount=amount)

    def units(self, target: Target) -> tuple[int, int]:
        """How many units (elements, or channels) of a tensor there are, and how many of them are pruned."""
        mask = target.mask
        if self.dim is None:
            return mask.numel(), int((~mask).sum())
        others = [dim for dim in range(mask.dim()) if dim != self.dim % mask.dim()]
        kept = mask.any(dim=others) if others else mask
        return kept.numel(), int((~kept).sum())


def resolve_method(given: Any, globally: bool, dim: int | None, norm: int | float | str | None) -> Method:
    """A method from the arguments of `ModelPruning`.

    Raises:
        MisconfigurationError: it is none, or lacks what it needs.
    """
    known = ", ".join(NAMES)
    if isinstance(given, str):
        name = given.lower()
        if name not in NAMES:
            raise MisconfigurationError(
                f"ModelPruning(pruning_fn={given!r}) is none of torch.nn.utils.prune's: {known}. Use one of them, a "
                "subclass of BasePruningMethod, or a function of (module, name, amount)."
            )
        function, kind = NAMES[name]
        if not name.endswith("_structured"):
            return Method(name, function, kind if globally else None)
        arguments: dict[str, Any] = {"dim": _dim(name, dim)}
        if name == "ln_structured":
            if norm is None:
                raise MisconfigurationError(
                    "ModelPruning(pruning_fn='ln_structured') compares channels by a norm: pass pruning_norm (1, 2, "
                    "float('inf') ...)."
                )
            arguments["n"] = norm
        if globally:
            raise _not_global(name)
        return Method(name, _with(function, **arguments), dim=dim)
    if inspect.isclass(given) and issubclass(given, prune.BasePruningMethod):
        kind_of = getattr(given, "PRUNING_TYPE", None)
        if globally and kind_of != "unstructured":
            raise _not_global(f"{given.__name__} (PRUNING_TYPE = {kind_of!r})")
        structured = kind_of == "structured"
        more = {"dim": _dim(given.__name__, dim)} if structured else {}
        return Method(
            given.__name__, _with(given.apply, **more), given if globally else None, dim if structured else None
        )
    if isinstance(given, prune.BasePruningMethod):
        raise MisconfigurationError(
            f"ModelPruning(pruning_fn={given!r}): pass the class {type(given).__name__}, not an instance of it."
        )
    if callable(given) and not inspect.isclass(given):
        name = getattr(given, "__name__", type(given).__name__)
        if globally:
            raise _not_global(f"the function {name}")
        return Method(name, given)
    raise MisconfigurationError(
        f"ModelPruning(pruning_fn={given!r}): it must be one of {known}, a subclass of BasePruningMethod, or a "
        "function of (module, name, amount)."
    )


def _with(function: Callable[..., Any], **more: Any) -> Callable[..., Any]:
    def apply(module: torch.nn.Module, name: str, amount: int | float) -> None:
        function(module, name=name, amount=amount, **more)

    return apply


def _dim(name: str, dim: int | None) -> int:
    if dim is None:
        raise MisconfigurationError(
            f"ModelPruning(pruning_fn={name!r}) prunes whole channels: say of which dimension, for example "
            "pruning_dim=0, the outputs of a layer."
        )
    return dim


def _not_global(name: str) -> MisconfigurationError:
    return MisconfigurationError(
        f"ModelPruning(use_global_unstructured=True) chooses single elements of all tensors together, and {name} does "
        "not. Pass use_global_unstructured=False to prune each tensor by itself, or a class with "
        "PRUNING_TYPE = 'unstructured'."
    )
