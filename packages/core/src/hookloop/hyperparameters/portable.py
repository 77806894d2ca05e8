"""Settings in a form that a checkpoint can hold and a reader can load without running code from the file.

`to_portable` takes values apart into what torch's safe loader knows, and notes what they were; `from_portable` puts
them together again, through the same table of kinds. What was an enum, a named tuple or a dataclass is looked up among
the classes that the reading program has imported, and no constructor of it runs: the file names classes, and never
brings code.
"""

import argparse
import dataclasses
import datetime
import enum
import functools
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping, Set
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from hookloop.errors import CheckpointError
from hookloop.hyperparameters.attribute_dict import AttributeDict

Place = tuple[Any, ...]
"""Where a value stands: the keys and indices that lead to it from the settings."""

Kinds = dict[Place, str]
"""What the values at some places were before they were taken apart."""

ALLOWED = (
    "None, numbers, text, bytes, tensors, numpy arrays, torch's dtypes, devices, layers, optimizers and functions by "
    "name, partials of them, paths, enums, times, and lists, tuples, sets, dicts, namespaces, named tuples and "
    "dataclasses of these"
)
"""In words for messages."""

_AS_THEY_ARE = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    torch.Tensor,
    nn.Parameter,
    torch.Size,
    torch.dtype,
    torch.device,
    torch.layout,
)


class NotPortableError(TypeError):
    """A value cannot be saved.

    Args:
        place: where it stands.
        why: what it is.
    """

    def __init__(self, place: Place, why: str) -> None:
        super().__init__(place, why)
        self.place = place
        self.why = why


def written(place: Place) -> str:
    """A place as one would write it: `hparams["optimizer"]["betas"][0]`."""
    return "hparams" + "".join(f'["{key}"]' if isinstance(key, str) else f"[{key!r}]" for key in place)


def to_portable(value: Any, place: Place = ()) -> tuple[Any, Kinds]:
    """Take a value apart.

    Returns:
        The same in plain types, and what was what.

    Raises:
        TypeError: a NotPortableError; a part of it is of another kind, or contains itself.
    """
    kinds: Kinds = {}
    return _take_apart(value, place, kinds, frozenset()), kinds


def from_portable(plain: Any, kinds: Mapping[Place, str], place: Place = (), home: str = "") -> Any:
    """Put a value together again.

    Args:
        plain: what `to_portable` made of it.
        kinds: what was what.
        place: where the value stands.
        home: a module to look for classes of a script that was run as a program, and is imported now.

    Raises:
        CheckpointError: a class is not imported, or has changed.
    """
    if type(plain) in (dict, OrderedDict):
        plain = type(plain)((key, from_portable(item, kinds, (*place, key), home)) for key, item in plain.items())
    elif type(plain) in (list, tuple):
        plain = type(plain)(from_portable(item, kinds, (*place, number), home) for number, item in enumerate(plain))
    kind = kinds.get(place)
    if kind is None:
        return plain
    word, _, name = kind.partition(" ")
    try:
        return _PUT_TOGETHER[word](plain, _imported(name, home) if name else None)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{written(place)} of the checkpoint was of the kind {kind!r}, and cannot be made of {plain!r} here "
            f"({type(error).__name__}: {error})."
        ) from error


def kind_of(value: Any) -> str | None:
    """What a mapping, a namespace or a dataclass instance is, for `from_portable`; None if it becomes a dict."""
    if dataclasses.is_dataclass(value):
        return f"dataclass {type(value).__module__}:{type(value).__qualname__}"  # wherever it stands
    opened = _opened(value)
    return opened[0] if opened else None


def settled(value: Any) -> Any:
    """OmegaConf's containers as Python's, with what they refer to; anything else as it is.

    Asked for an item that is missing, or refers to something that is not there, they would raise an error.
    """
    return _omegaconf(value)[1] if _is_omegaconf(value) else value


def _take_apart(value: Any, place: Place, kinds: Kinds, inside: frozenset[int]) -> Any:
    exact = type(value)
    if exact is torch.Tensor:
        return value.detach().clone()  # of a view, the file would hold all that it is a view of
    if exact is bytes and not value:
        kinds[place] = "bytes"  # torch's loader does not know an empty one
        return ""
    if exact in _AS_THEY_ARE or (exact in (set, Counter) and all(map(_is_plain_key, value))):
        return value
    if id(value) in inside:
        raise NotPortableError(place, f"a {exact.__name__} that contains itself")
    inside |= {id(value)}
    if exact in (dict, OrderedDict):
        for key in value:
            if not _is_plain_key(key):
                raise NotPortableError(place, f"a {exact.__name__} with the key {key!r} ({type(key).__name__})")
        return exact((key, _take_apart(item, (*place, key), kinds, inside)) for key, item in value.items())
    if exact in (list, tuple):
        return exact(_take_apart(item, (*place, number), kinds, inside) for number, item in enumerate(value))
    opened = _opened(value)
    if opened is None:
        raise NotPortableError(place, f"a {_type_name(value)}")
    kind, plain = opened
    if kind is not None:
        kinds[place] = kind
    return _take_apart(plain, place, kinds, inside)


def _is_plain_key(key: object) -> bool:
    if type(key) is tuple:
        return all(map(_is_plain_key, key))
    return type(key) in (type(None), bool, int, float, str, bytes)


def _opened(value: Any) -> tuple[str | None, Any] | None:
    """What a value is, and the same as a plain value or a list or dict of its parts; None if it is of no known kind."""
    for test, opened in _TAKE_APART:
        if test(value):
            answer = opened(value)
            if answer is not None:
                return answer
    return None


def _type_name(value: object) -> str:
    if isinstance(value, type):
        return f"class, {value.__module__}.{value.__qualname__}"
    if isinstance(value, FunctionType):
        return f"function, {value.__module__}.{value.__qualname__}"
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _of_class(word: str, owner: type, plain: Any) -> tuple[str, Any] | None:
    """A value of a class that can be found again by its name; None if it can't, as it stands in a function."""
    name = f"{owner.__module__}:{owner.__qualname__}"
    return (f"{word} {name}", plain) if _found(name) is owner else None


def _found(name: str) -> Any:
    """What stands in an imported module under a name; nothing of it runs, be it a module's __getattr__ or a property.

    Some modules import others when they are asked for a name, and a file must not choose what is imported.
    """
    module, _, qualname = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
    return found


def _imported(name: str, home: str) -> Any:
    found = _found(name)
    if found is None and name.startswith("__main__:"):
        found = _found(name.replace("__main__", home, 1))
    if found is None:
        raise KeyError(f"{name.replace(':', '.')} is not imported")
    return found


# what is taken apart into what


def _enum(value: enum.Enum) -> tuple[str, Any] | None:
    if isinstance(value, enum.Flag):
        return _of_class("flag", type(value), value.value)
    return _of_class("enum", type(value), value.name)


def _dataclass(value: Any) -> tuple[str, Any] | None:
    names = [field.name for field in dataclasses.fields(value)]
    fields = {name: getattr(value, name) for name in names if hasattr(value, name)}
    return _of_class("dataclass", type(value), fields | getattr(value, "__dict__", {}))


def _numpy(value: Any) -> tuple[str | None, Any] | None:
    if value.dtype.kind not in "bifc":
        return None
    if value.shape == () and type(value).__name__ != "ndarray":
        return None, value.item()
    try:
        return "numpy.ndarray", torch.from_numpy(value.copy())
    except TypeError:  # a dtype that torch has not
        return None


def _torch_name(value: Any) -> tuple[str, Any] | None:
    if isinstance(value, type):
        ours = issubclass(value, nn.Module | torch.optim.Optimizer | torch.optim.lr_scheduler.LRScheduler)
        if ours and value.__module__.startswith(("torch.nn.", "torch.optim.")):
            return _of_class("torch", value, f"{value.__module__}.{value.__qualname__}")
        return None
    name = value.__name__
    for namespace in ("torch.nn.functional", "torch"):
        if getattr(sys.modules[namespace], name, None) is value and _is_function_of_torch(namespace, name, value):
            return f"torch {namespace}:{name}", f"{namespace}.{name}"
    return None


def _is_function_of_torch(namespace: str, name: str, value: Any) -> bool:
    # Of torch itself, those that compute with tensors: a file must not choose torch.load.
    return namespace == "torch.nn.functional" or (
        isinstance(value, BuiltinFunctionType) and hasattr(torch.Tensor, name)
    )


def _omegaconf(value: Any) -> tuple[str, Any]:
    from omegaconf import OmegaConf  # type: ignore[import-not-found, unused-ignore]

    try:
        return "omegaconf", OmegaConf.to_container(value, resolve=True)
    except Exception:  # noqa: BLE001
        # An interpolation that cannot be resolved here (the environment lacks a variable) stays one.
        return "omegaconf", OmegaConf.to_container(value, resolve=False)


def _is_omegaconf(value: object) -> bool:
    module = sys.modules.get("omegaconf")
    return module is not None and isinstance(value, module.Container)


_TAKE_APART: tuple[tuple[Callable[[Any], bool], Callable[[Any], tuple[str | None, Any] | None]], ...] = (
    (lambda value: isinstance(value, enum.Enum), _enum),
    (lambda value: isinstance(value, PurePath), lambda value: ("path", str(value))),
    (lambda value: type(value) is set, lambda value: ("set", sorted(value, key=repr))),
    (lambda value: type(value) is frozenset, lambda value: ("frozenset", sorted(value, key=repr))),
    (lambda value: type(value) is deque, lambda value: ("deque", [list(value), value.maxlen])),
    (lambda value: type(value) is range, lambda value: ("range", [value.start, value.stop, value.step])),
    (lambda value: type(value) is slice, lambda value: ("slice", [value.start, value.stop, value.step])),
    (
        lambda value: type(value) is datetime.timedelta,
        lambda value: ("timedelta", [value.days, value.seconds, value.microseconds]),
    ),
    (lambda value: type(value) in (datetime.datetime, datetime.date), lambda value: ("date", value.isoformat())),
    (lambda value: type(value) is argparse.Namespace, lambda value: ("namespace", dict(vars(value)))),
    (lambda value: isinstance(value, AttributeDict), lambda value: ("attributes", dict(value))),
    (_is_omegaconf, _omegaconf),
    (
        lambda value: isinstance(value, tuple) and hasattr(value, "_fields"),
        lambda value: _of_class("namedtuple", type(value), list(value)),
    ),
    (
        lambda value: dataclasses.is_dataclass(value) and not isinstance(value, type | nn.Module),
        _dataclass,
    ),
    (lambda value: isinstance(value, type | FunctionType | BuiltinFunctionType), _torch_name),
    (
        lambda value: type(value) is functools.partial,
        lambda value: ("partial", [value.func, value.args, value.keywords]),
    ),
    (lambda value: type(value).__module__ == "numpy" and hasattr(value, "dtype"), _numpy),
    # Subclasses of plain types are what they inherit from.
    (lambda value: isinstance(value, int), lambda value: (None, int(value))),
    (lambda value: isinstance(value, float), lambda value: (None, float(value))),
    (lambda value: isinstance(value, str), lambda value: (None, str.__str__(value))),
    (lambda value: isinstance(value, Mapping), lambda value: (None, dict(value))),
    (lambda value: isinstance(value, list), lambda value: (None, list(value))),
    (lambda value: isinstance(value, tuple), lambda value: (None, tuple(value))),
    (lambda value: isinstance(value, Set), lambda value: ("set", sorted(value, key=repr))),
)


# and together again; the second argument is the class or function that the file names


def _checked(found: Any, base: type) -> Any:
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(f"{found!r} is no {base.__name__}")
    return found


def _make_enum(plain: Any, found: Any) -> Any:
    return _checked(found, enum.Enum)[plain]


def _make_flag(plain: Any, found: Any) -> Any:
    return _checked(found, enum.Flag)(plain)


def _make_namedtuple(plain: Any, found: Any) -> Any:
    names = _checked(found, tuple)._fields
    if len(names) != len(plain):
        raise ValueError(f"it has the fields {', '.join(names)} now")
    return tuple.__new__(found, plain)


def _make_dataclass(plain: dict[str, Any], found: Any) -> Any:
    if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
        raise TypeError(f"{found!r} is no dataclass")
    made: Any = object.__new__(found)
    names = [field.name for field in dataclasses.fields(found)]
    lacking = [field.name for field in dataclasses.fields(found) if field.name not in plain and not _defaults(field)]
    if lacking:
        raise ValueError(f"its field {lacking[0]} is not there; it has {', '.join(names)} now")
    for field in dataclasses.fields(found):
        if field.name not in plain:
            made_default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            object.__setattr__(made, field.name, made_default)
    for name, value in plain.items():
        if name in names or (hasattr(made, "__dict__") and not name.startswith("__")):
            object.__setattr__(made, name, value)
    return made


def _defaults(field: "dataclasses.Field[Any]") -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _make_torch(plain: Any, found: Any) -> Any:
    answer = _torch_name(found) if callable(found) else None
    if answer is None or answer[1] != plain:
        raise TypeError(f"{found!r} is none of torch's layers, optimizers and functions")
    return found


def _make_omegaconf(plain: Any, found: Any) -> Any:
    if not isinstance(plain, dict | list):
        raise TypeError("a dict or a list is expected")  # of text it would parse YAML
    try:
        from omegaconf import OmegaConf
    except ImportError:
        return plain
    return OmegaConf.create(plain)


_PUT_TOGETHER: dict[str, Callable[[Any, Any], Any]] = {
    "bytes": lambda plain, found: b"",
    "enum": _make_enum,
    "flag": _make_flag,
    "path": lambda plain, found: Path(plain),
    "set": lambda plain, found: set(plain),
    "frozenset": lambda plain, found: frozenset(plain),
    "deque": lambda plain, found: deque(*plain),
    "range": lambda plain, found: range(*plain),
    "slice": lambda plain, found: slice(*plain),
    "timedelta": lambda plain, found: datetime.timedelta(*plain),
    "date": lambda plain, found: (
        datetime.datetime.fromisoformat(plain) if "T" in plain else datetime.date.fromisoformat(plain)
    ),
    "namespace": lambda plain, found: argparse.Namespace(**plain),
    "attributes": lambda plain, found: AttributeDict(plain),
    "omegaconf": _make_omegaconf,
    "namedtuple": _make_namedtuple,
    "dataclass": _make_dataclass,
    "torch": _make_torch,
    "partial": lambda plain, found: functools.partial(plain[0], *plain[1], **plain[2]),
    "numpy.ndarray": lambda plain, found: plain.numpy(),
}
