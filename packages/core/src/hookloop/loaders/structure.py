"""Collections of loaders: lists, tuples and mappings inside each other, taken apart and put together again."""

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from itertools import islice
from typing import Any

_PLAIN = (int, float, str)


def is_collection(part: Any) -> bool:
    """Whether this is a list, tuple or mapping of loaders, and not one loader.

    A list of nothing but numbers or strings is an iterable of batches like any other.
    """
    return isinstance(part, list | tuple | Mapping) and not all(isinstance(child, _PLAIN) for child in children(part))


def holds_batches(part: Any) -> bool:
    """Whether this is an array, or a list or tuple with arrays in it and no loader: batches that are there already."""
    return is_array(part) or (isinstance(part, list | tuple) and _signs_of_batches(part) > 0)


def is_array(part: Any) -> bool:
    """Whether this is a tensor, or an array of another library."""
    return hasattr(part, "ndim")


def children(part: Any) -> list[Any]:
    """What a list, tuple or mapping holds."""
    return list(part.values() if isinstance(part, Mapping) else part)


def _signs_of_batches(part: Any) -> float:
    """How many parts of a nested structure can be part of a batch alone; -inf if there may be a loader in it.

    Lists of lists of numbers are no sign: they are lists of loaders, as everywhere.
    """
    if isinstance(part, list | tuple | Mapping):
        inside = children(part)
        if isinstance(part, Mapping) and all(isinstance(child, _PLAIN) for child in inside):
            return 1
        return sum(_signs_of_batches(child) for child in inside)
    if isinstance(part, _PLAIN):
        return 0
    may_be_loader = not is_array(part) and (hasattr(part, "__iter__") or hasattr(part, "__getitem__"))
    return -math.inf if may_be_loader else 1


@dataclass(frozen=True, slots=True)
class Structure:
    """The shape of a collection, without what it holds.

    Attributes:
        like: a collection of this type; its contents are not used. None for a single loader.
        inside: the structures of its parts, in their order.
        flat: whether all its parts are single loaders.
    """

    like: Any
    inside: "tuple[Structure, ...]"
    flat: bool

    @classmethod
    def take_apart(cls, part: Any, loaders: list[Any], outermost: bool = True) -> "Structure":
        """The structure of `part`; its loaders are appended to `loaders` in the order of reading."""
        if not is_collection(part) or (not outermost and holds_batches(part)):
            loaders.append(part)
            return cls(None, (), False)
        inside = tuple(cls.take_apart(child, loaders, outermost=False) for child in children(part))
        return cls(part, inside, all(one.like is None for one in inside))

    def put_together(self, values: Sequence[Any]) -> Any:
        """The same collection with these values, one for each loader, in its place."""
        return self._from(iter(values))

    def _from(self, values: Iterator[Any]) -> Any:
        like = self.like
        if like is None:
            return next(values)
        # Most are flat, and every batch comes by here.
        filled = list(islice(values, len(self.inside))) if self.flat else [one._from(values) for one in self.inside]
        if isinstance(like, Mapping):
            return _mapping_like(like, dict(zip(like, filled, strict=True)))
        if hasattr(like, "_fields"):
            return type(like)(*filled)
        return filled if type(like) is list else type(like)(filled)


def _mapping_like(like: Mapping[Any, Any], filled: dict[Any, Any]) -> Any:
    if type(like) is dict:
        return filled
    if not hasattr(like, "__setitem__"):
        return type(like)(filled)  # type: ignore[call-arg]
    made: Any = copy(like)  # keeps what else it has, such as the factory of a defaultdict
    for key, value in filled.items():
        made[key] = value
    return made
