"""Whether a state can be loaded without running code from its file; asked before it is written.

torch.load(weights_only=True) knows few types. What it would refuse weeks later is refused when it is saved, with the
place where it stands. The types that every state is made of are known here; of everything else torch itself is asked,
by writing and loading that one value.
"""

import dataclasses
import enum
import io
import warnings
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from pathlib import PurePath
from typing import Any, NamedTuple

import torch
from torch import nn

from hookloop.errors import CheckpointError

Place = tuple[Any, ...]
"""Where a value stands: the keys and indices that lead to it."""

ALLOWED = (
    "None, True and False, numbers, strings, bytes, tensors, torch's dtypes, devices and sizes, and dicts, lists, "
    "tuples and sets of these"
)
"""In words for messages."""

_ALWAYS = frozenset(
    {type(None), bool, float, complex, str, bytearray, torch.Size, torch.dtype, torch.device, torch.layout}
)
_DICTS = frozenset({dict, OrderedDict, Counter})
_SEQUENCES = frozenset({list, tuple, set})
_TENSORS = frozenset({torch.Tensor, nn.Parameter})
# The 255 bytes of pickle's short form; torch reads no other.
_SMALLEST, _LARGEST = -(2**2039), 2**2039 - 1
_SHOWN = 5


class Refused(NamedTuple):
    """A value that could not be loaded.

    Attributes:
        place: where it stands.
        value: it.
    """

    place: Place
    value: Any


def refused(state: Any) -> list[Refused]:
    """The parts of a state that torch.load(weights_only=True) would refuse, or that cannot be written at all.

    Args:
        state: any value. Tensors in it are not copied, and their elements are not looked at.
    """
    search = _Search()
    search.look_at(state, ())
    return search.found


def check_loadable(checkpoint: Mapping[str, Any]) -> None:
    """Check that a checkpoint can be loaded with weights_only=True once it is written.

    Args:
        checkpoint: what is to be written.

    Raises:
        CheckpointError: it could not; the message names each part, its type, and what to save in its place.
    """
    try:
        found = refused(checkpoint)
    except RecursionError:
        raise CheckpointError(
            "The checkpoint cannot be saved: its state is nested too deeply. Save lists and dicts that are less deep."
        ) from None
    if not found:
        return
    named = [f"{written(each.place)} is {described(each.value)}. {_advice(each)}" for each in found[:_SHOWN]]
    more = f" And {len(found) - _SHOWN} more." if len(found) > _SHOWN else ""
    raise CheckpointError(
        f"The checkpoint cannot be saved, as it could not be loaded without running code from it: {' '.join(named)}"
        f"{more} Allowed are {ALLOWED}."
    )


def written(place: Place) -> str:
    """A place as one would write it: `checkpoint["callbacks"]["Tally"]["best"][0]`."""
    return "checkpoint" + "".join(f'["{key}"]' if isinstance(key, str) else f"[{key!r}]" for key in place)


def described(value: object) -> str:
    """What a value is, with its article."""
    kind = type(value)
    if isinstance(value, type):
        return f"the class {value.__module__}.{value.__qualname__}"
    if kind is bytes:
        return "an empty bytes object"
    if kind is int:
        return "an int of more than 255 bytes"
    if kind in _DICTS or kind in _SEQUENCES:
        return f"a {kind.__name__} that contains itself"
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    if callable(value) and hasattr(value, "__qualname__"):
        name += f", {value.__qualname__}"
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


class _Search:
    """Goes through a state; each container once, however often it is in there."""

    def __init__(self) -> None:
        self.found: list[Refused] = []
        self._seen: set[int] = set()
        self._inside: set[int] = set()

    def look_at(self, value: Any, place: Place) -> None:
        kind = type(value)
        if kind in _DICTS or kind in _SEQUENCES:
            self._look_into(value, kind, place)
        elif not _is_fine(value, kind):
            self.found.append(Refused(place, value))

    def _look_into(self, value: Any, kind: type, place: Place) -> None:
        if id(value) in self._inside:
            if not _torch_can_load(value):
                self.found.append(Refused(place, value))
            return
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        self._inside.add(id(value))
        if kind in _DICTS:
            if not _are_fine(value):  # keys are written as well
                for key in value:
                    self.look_at(key, (*place, _Key(key)))
            if not _are_fine(value.values()):
                for key, item in value.items():
                    self.look_at(item, (*place, key))
            if kind is OrderedDict and vars(value):  # the metadata of a module's state
                self.look_at(vars(value), place)
        elif not _are_fine(value):
            for index, item in enumerate(value):
                self.look_at(item, (*place, index))
        self._inside.discard(id(value))


def _is_fine(value: Any, kind: type) -> bool:
    if kind in _ALWAYS:
        return True
    if kind in _TENSORS:
        # All that torch makes itself can be loaded; what a program has added to one is written with it.
        return not vars(value) or _torch_can_load(value)
    if kind is int:
        return bool(_SMALLEST <= value <= _LARGEST)
    if kind is bytes:
        return bool(value)
    return _torch_can_load(value)


def _are_fine(values: Collection[Any]) -> bool:
    """Whether one look at all of them is enough: a state is mostly long rows of tensors and numbers."""
    kinds = set(map(type, values))
    if kinds <= _ALWAYS:
        return True
    if kinds <= _TENSORS:
        return not any(map(vars, values))
    if kinds == {int}:
        return bool(min(values) >= _SMALLEST and max(values) <= _LARGEST)
    return False


class _Key:
    """Stands in a place for a key of a dict, as what is refused is not what the key leads to."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def __repr__(self) -> str:
        return f"the key {self.key!r}"


def _torch_can_load(value: Any) -> bool:
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.save(value, file)
            file.seek(0)
            torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # noqa: BLE001 - pickle, torch and the value's own methods raise anything
        return False
    return True


# ------------------------------------------------------------------------------------------------ what to do instead


def _advice(found: Refused) -> str:
    return f"{_instead(found.value)}{_where(found.place)}."


def _instead(value: Any) -> str:
    kind = type(value)
    if isinstance(value, enum.Enum):
        return "Save its name or value"
    if isinstance(value, PurePath):
        return "Save str() of it"
    if kind.__module__ == "numpy":
        return "Save .tolist() or torch.from_numpy() of it" if kind.__name__ == "ndarray" else "Save .item() of it"
    if isinstance(value, torch.Tensor):
        return "Save a plain tensor, or the tensors that it is made of"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "Save tuple() or ._asdict() of it"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "Save dataclasses.asdict() of it"
    if isinstance(value, Mapping):
        return "Save dict() of it" if kind not in _DICTS else "Save it without the reference to itself"
    if isinstance(value, AbstractSet):
        return "Save set() or sorted() of it"
    if kind in _SEQUENCES:
        return "Save it without the reference to itself"
    if kind is bytes:
        return "Save None"
    if kind is int:
        return "Save str() of it"
    if isinstance(value, list):
        return "Save list() of it"
    for plain in (int, float, str):
        if isinstance(value, plain):
            return f"Save {plain.__name__}() of it"
    if isinstance(value, nn.Module):
        return "Save state_dict() of it"
    if callable(value) and hasattr(value, "__qualname__"):
        return "Save a name by which it can be chosen again"
    return "Save the numbers, strings and tensors that it is made of"


def _where(place: Place) -> str:
    """Whose words these are: who has to save something else."""
    match place:
        case ("callbacks", str() as key, *_):
            return f" in state_dict() of the callback {key}"
        case ("datamodule", *_):
            return " in state_dict() of the datamodule"
        case ("state_dict", *_):
            return " in state_dict() or get_extra_state() of the module"
        case ("optimizer_states", *_):
            return " in state_dict() of the optimizer"
        case ("lr_schedulers", *_):
            return " in state_dict() of the scheduler"
        case ("loaders", *_):
            return " in state_dict() of the loader"
        case ("logged" | "callback_metrics", *_):
            return " as the state of the metric"
        case _:
            return " in on_save_checkpoint()"
