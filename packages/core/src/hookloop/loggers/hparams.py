"""Settings as YAML text, and as one flat dict.

A writer of YAML only, for the part of it that settings need, so that the core depends on no YAML library. Readers of
YAML 1.1 and 1.2 (PyYAML's `safe_load` among them) read the text back as the same values:

- dicts, lists, strings, ints, floats (nan and infinities too), booleans and None as themselves;
- tuples and sets as lists (sets sorted by their text), an Enum as its name, a path as its text, a dataclass and a
  Namespace as a dict, a tensor or array with one element as its number;
- classes and functions as the text of their dotted name, anything else as the text of its repr().
"""

import dataclasses
import enum
import math
import os
import re
from argparse import Namespace
from collections import UserString
from collections.abc import Iterator, Mapping, Sequence, Set
from types import FunctionType
from typing import TypeAlias

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[Plain, Plain] | None"

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
# Words that YAML 1.1 reads as something that is no text.
_RESERVED = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def to_plain(value: object) -> Plain:
    """Copy a value into dicts, lists and scalars, as the module's text says; circular parts become the text `...`."""
    return _plain(value, frozenset())


def to_yaml(value: Plain) -> str:
    """Plain values as YAML text that ends in a line feed."""
    return "\n".join(_lines(value)) + "\n"


def flatten(value: Plain, name: str = "") -> dict[str, bool | int | float | str]:
    """Plain values as one dict: {"optimizer": {"lr": 0.1}} is {"optimizer/lr": 0.1}.

    Dicts in a list get its index as a name. Other lists, None, and empty dicts are their text, ints that no float can
    hold too.
    """
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and (value or not name):
        start = f"{name}/" if name else ""
        parts = (flatten(item, start + str(key)) for key, item in value.items())
        return {key: item for part in parts for key, item in part.items()}
    if isinstance(value, bool | float | str):
        return {name: value}
    if isinstance(value, int) and abs(value) < 2**1023:
        return {name: value}
    return {name: str(value)}


def _plain(value: object, inside: frozenset[int]) -> Plain:
    if isinstance(value, enum.Enum):
        return value.name
    if value is None or isinstance(value, bool):
        return value
    # Subclasses (numpy's float64) have a repr of their own; only the value counts here.
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str | UserString | os.PathLike):
        return str(value)
    if isinstance(value, type | FunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    if id(value) in inside:
        return "..."
    inside |= {id(value)}
    if isinstance(value, Namespace):
        value = vars(value)
    elif dataclasses.is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, inside) for key, item in value.items()}
    if isinstance(value, Set):
        return [_plain(item, inside) for item in sorted(value, key=repr)]
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview | range):
        return [_plain(item, inside) for item in value]
    number = _number(value)
    return repr(value) if number is None else number


def _key(key: object) -> Plain:
    if key is None or isinstance(key, bool | int | float | enum.Enum):
        return to_plain(key)
    return str(key)


def _number(value: object) -> bool | int | float | None:
    """The number in a tensor, an array or a numpy scalar of one element; None for everything else."""
    item = getattr(value, "item", None)
    if not callable(item):
        return None
    try:
        number = item()
    except Exception:  # noqa: BLE001
        # Whatever `item` is there, or however many elements: it is no number, and repr() will do.
        return None
    return number if isinstance(number, bool | int | float) else None


def _lines(value: Plain) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _entry(f"{_scalar(key)}:", item)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _entry("-", item)
    else:
        yield _scalar(value)


def _entry(start: str, item: Plain) -> Iterator[str]:
    if isinstance(item, dict | list) and item:
        yield start
        yield from (f"  {line}" for line in _lines(item))
    else:
        yield f"{start} {_scalar(item)}"


def _scalar(value: Plain) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) and value.lower() not in _RESERVED else _quoted(value)
    return "[]" if isinstance(value, list) else "{}"


def _float(value: float) -> str:
    if math.isnan(value):
        return ".nan"
    if math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    text = repr(value)
    # YAML 1.1 takes 1e-05 for a text: its floats have a point.
    return text if "." in text else text.replace("e", ".0e")


def _quoted(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(char) or (char if char.isprintable() else _escaped(char)) for char in text) + '"'


def _escaped(char: str) -> str:
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
