"""Which arguments an object was constructed with, read from the frames of its constructors while they run."""

import dataclasses
import inspect
from types import FrameType
from typing import Any

from hookloop.errors import MisconfigurationError


def constructor_arguments(owner: object, frame: FrameType | None) -> dict[str, Any] | None:
    """The arguments of every `__init__` of this object that runs now, a base class's before those of its subclasses.

    `*args` are left out, as a name is needed for each; `**kwargs` count as the names that they hold. An argument that
    was assigned to meanwhile has its new value. Of a dataclass, what counts is what its fields hold.

    Args:
        owner: the object that is being constructed.
        frame: where to begin, outwards; other objects' constructors in between are passed over.

    Returns:
        The values by name, or None if no constructor of this object runs.

    Raises:
        MisconfigurationError: a constructor has deleted one of its arguments.
    """
    found: dict[str, Any] | None = None
    while frame is not None:
        if _constructs(frame, owner):
            # What a subclass got goes before what it passed on.
            found = {**(found or {}), **_arguments_of(frame, owner)}
        frame = frame.f_back
    if found is None and dataclasses.is_dataclass(owner):
        return {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner) if field.init}
    return found


def _constructs(frame: FrameType, owner: object) -> bool:
    code = frame.f_code
    return code.co_name == "__init__" and code.co_argcount > 0 and frame.f_locals.get(code.co_varnames[0]) is owner


def _arguments_of(frame: FrameType, owner: object) -> dict[str, Any]:
    code, values = frame.f_code, frame.f_locals
    named = code.co_argcount + code.co_kwonlyargcount
    has_args = bool(code.co_flags & inspect.CO_VARARGS)
    names = code.co_varnames[1:named]
    deleted = [name for name in names if name not in values]
    if deleted:
        raise MisconfigurationError(
            f"{type(owner).__name__}.__init__ has deleted its argument {deleted[0]} before save_hyperparameters() "
            "could save it. Call save_hyperparameters() first."
        )
    arguments = {name: values[name] for name in names}
    if code.co_flags & inspect.CO_VARKEYWORDS:
        arguments |= values.get(code.co_varnames[named + has_args], {})
    for made in type(owner).__mro__:
        # A constructor that dataclasses wrote: its locals have a placeholder where a default factory is called.
        if "__dataclass_fields__" in vars(made) and getattr(vars(made).get("__init__"), "__code__", None) is code:
            fields = {field.name for field in dataclasses.fields(made) if field.init}
            arguments |= {name: getattr(owner, name) for name in fields & arguments.keys()}
    return arguments
