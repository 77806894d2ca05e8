"""Defaults for the Trainer's arguments from the environment: `HOOKLOOP_TRAINER_MAX_EPOCHS=3`."""

import os
import re
import types
import typing
from collections.abc import Container, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hookloop.errors import MisconfigurationError

PREFIX = "HOOKLOOP_TRAINER_"

_WHOLE = re.compile(r"[+-]?\d+")


def arguments_from_environment(types_of: Mapping[str, Any], passed: Container[str]) -> dict[str, Any]:
    """The arguments that the environment sets and the user did not pass.

    A variable without a value counts as not set.

    Args:
        types_of: the type of every argument by its name.
        passed: names of the arguments that were passed; these win.

    Returns:
        Values by argument, of the argument's type.

    Raises:
        MisconfigurationError: a variable names no argument, or its value is none of the argument's type.
    """
    found = {}
    for variable, text in os.environ.items():
        if not variable.startswith(PREFIX) or not text.strip():
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name not in types_of:
            near = get_close_matches(name, types_of, n=1)
            meant = f" Did you mean {PREFIX}{near[0].upper()}?" if near else ""
            raise MisconfigurationError(
                f"The environment variable {variable}={text!r} sets an argument that Trainer does not have.{meant} "
                "Correct it or unset it."
            )
        if name not in passed:
            found[name] = _read(variable, text.strip(), name, types_of[name])
    return found


def _read(variable: str, text: str, name: str, annotation: Any) -> Any:
    """The text as a value of the first type that it can be, from the narrowest to the widest."""
    kinds = _alternatives(annotation)
    lower = text.lower()
    if type(None) in kinds and lower in ("none", "null"):
        return None
    if bool in kinds:
        # "1" is a number for an argument that takes numbers too.
        words = {"true": True, "false": False} | ({} if int in kinds else {"1": True, "0": False})
        if lower in words:
            return words[lower]
    if int in kinds and _WHOLE.fullmatch(text):
        return int(text)
    if float in kinds:
        try:
            return float(text)
        except ValueError:
            pass
    for kind in kinds:
        listed = _listed(text, kind)
        if listed is not None:
            return listed
    if str in kinds:
        return text
    ways = [way for kind, way in _WAYS.items() if kind in kinds]
    ways += [f"a list like {_WAYS_OF_LISTS[item]}" for item in map(_item, kinds) if item in _WAYS_OF_LISTS]
    if set(ways) <= {_WAYS[type(None)]}:
        raise MisconfigurationError(
            f"The environment variable {variable}={text!r} cannot set {name}, which takes objects. Pass it in the "
            f"program, and unset {variable}."
        )
    raise MisconfigurationError(
        f"The environment variable {variable}={text!r} is no value for {name}. Write {' or '.join(ways)}, or unset it."
    )


_WAYS = {bool: "true or false", int: "a whole number", float: "a number", type(None): "none"}
_WAYS_OF_LISTS: dict[Any, str] = {int: "0,1", str: "one,two"}


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _item(kind: Any) -> Any:
    return next(iter(typing.get_args(kind)), None) if typing.get_origin(kind) in (list, Sequence) else None


def _listed(text: str, kind: Any) -> list[Any] | None:
    """A list of whole numbers ("0,1", "[0, 1]") or of names ("one,two"); None if the type is another one, or no list.

    A lone number is none for an argument that counts, which is tried before; a lone name is a list of one.
    """
    item = _item(kind)
    parts = [part.strip().strip("'\"") for part in text.strip("[]").split(",") if part.strip()]
    if item is int and parts and all(_WHOLE.fullmatch(part) for part in parts):
        return [int(part) for part in parts]
    if item is str and parts:
        return parts
    return None
