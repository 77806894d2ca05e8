"""Nested batches: apply something to every tensor inside, move, detach, and measure how many samples they hold."""

from abc import ABC
from collections import UserList, deque
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from hookloop.errors import MisconfigurationError


class Movable(ABC):  # noqa: B024 - what counts as one is decided by the subclass hook
    """Anything whose class has a method `to`: tensors, packed sequences, batches of graph libraries.

    Its class is asked and not the object: a named tuple may have a field of that name, and a class in a batch is no
    object that could move.
    """

    @classmethod
    def __subclasshook__(cls, other: type) -> bool:
        return callable(getattr(other, "to", None))


def map_batch(function: Callable[[Any], Any], batch: Any, kind: type[Any] | tuple[type[Any], ...] = Tensor) -> Any:
    """The same structure with `function` applied to every part of type `kind`.

    Mappings, lists, tuples, named tuples, deques, UserLists and dataclass instances are walked through and keep their
    types and whatever else they hold; anything else stays as it is.
    """
    if isinstance(batch, kind):
        return function(batch)
    if type(batch) is dict:
        return {key: map_batch(function, value, kind) for key, value in batch.items()}
    if isinstance(batch, Mapping):
        return _rebuild_mapping(function, batch, kind)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_batch(function, value, kind) for value in batch))
    if isinstance(batch, list | tuple):
        return type(batch)(map_batch(function, value, kind) for value in batch)
    if is_dataclass(batch) and not isinstance(batch, type):
        return _rebuild_dataclass(function, batch, kind)
    if isinstance(batch, deque | UserList):
        rebuilt = copy(batch)  # keeps the largest length of a deque
        for index, value in enumerate(batch):
            rebuilt[index] = map_batch(function, value, kind)
        return rebuilt
    return batch


def _rebuild_mapping(
    function: Callable[[Any], Any], batch: Mapping[Any, Any], kind: type[Any] | tuple[type[Any], ...]
) -> Any:
    mapped = {key: map_batch(function, value, kind) for key, value in batch.items()}
    if not hasattr(batch, "__setitem__"):
        return type(batch)(mapped)  # type: ignore[call-arg]
    # A copy with its items set one by one: constructors and update() differ (defaultdict, Counter), this does not.
    rebuilt: Any = copy(batch)
    for key, value in mapped.items():
        rebuilt[key] = value
    return rebuilt


def _rebuild_dataclass(function: Callable[[Any], Any], batch: Any, kind: type[Any] | tuple[type[Any], ...]) -> Any:
    # A copy, and not a new one: __post_init__ has run, and would compute again what was computed.
    rebuilt = copy(batch)
    for field in fields(batch):
        if hasattr(batch, field.name):
            # A frozen dataclass refuses setattr.
            object.__setattr__(rebuilt, field.name, map_batch(function, getattr(batch, field.name), kind))
    return rebuilt


def move_data_to_device(batch: Any, device: torch.device | str) -> Any:
    """The batch with everything that has a `.to` moved to `device`.

    Copies from pinned memory do not wait for the device; torch orders them before their first use.
    """
    return map_batch(lambda movable: _move(movable, device), batch, kind=Movable)


def _move(movable: Any, device: torch.device | str) -> Any:
    moved = movable.to(device, non_blocking=True) if isinstance(movable, Tensor) else movable.to(device)
    # Some objects move themselves in place and return nothing.
    return movable if moved is None else moved


def recursive_detach(in_dict: Any, to_cpu: bool = False) -> Any:
    """The same structure with every tensor detached from its graph.

    Args:
        in_dict: a dict, or any other nested structure.
        to_cpu: also move the tensors to the CPU.
    """
    return map_batch(lambda tensor: tensor.detach().cpu() if to_cpu else tensor.detach(), in_dict)


def extract_batch_size(batch: Any) -> int:
    """How many samples a batch holds: the size of the first dimension of its first tensor (1 for a scalar).

    Raises:
        MisconfigurationError: the batch holds nothing with a size.
    """
    return batch_size(batch)[0]


def batch_size(batch: Any) -> tuple[int, bool]:
    """How many samples a batch holds: the size of the first dimension of its tensors (1 for a scalar).

    Returns:
        The size that was found first, and whether other parts of the batch have other sizes.

    Raises:
        MisconfigurationError: the batch holds nothing with a size.
    """
    sizes: list[int] = []
    # Tensors are measured here and not in a call of their own: batches of a list of tensors are the usual ones.
    for part in batch if type(batch) is list or type(batch) is tuple else (batch,):
        if isinstance(part, Tensor):
            shape = part.shape
            sizes.append(shape[0] if shape else 1)
        else:
            _collect_sizes(part, sizes)
    if not sizes:
        raise MisconfigurationError(
            f"The batch size cannot be told from a batch of type {type(batch).__name__} that holds no tensor. "
            "Pass it: self.log(name, value, batch_size=...)."
        )
    return sizes[0], sizes.count(sizes[0]) != len(sizes)


def _collect_sizes(part: Any, sizes: list[int]) -> None:
    if isinstance(part, Tensor):
        sizes.append(part.size(0) if part.ndim > 0 else 1)
    elif isinstance(part, list | tuple | deque | UserList):
        for value in part:
            _collect_sizes(value, sizes)
    elif isinstance(part, Mapping):
        for value in part.values():
            _collect_sizes(value, sizes)
    elif is_dataclass(part) and not isinstance(part, type):
        for field in fields(part):
            _collect_sizes(getattr(part, field.name, None), sizes)
