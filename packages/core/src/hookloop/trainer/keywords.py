"""Which arguments a Trainer gets: by name alone, each of them known, those not passed from the environment."""

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar

from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.module import LightningModule
from hookloop.trainer.environment import PREFIX, arguments_from_environment

Init = TypeVar("Init", bound=Callable[..., None])


def known_keywords(init: Init) -> Init:
    """The same constructor, which says what it lacks where Python would only say that something is unexpected.

    What was not passed is taken from `HOOKLOOP_TRAINER_<ARGUMENT>`, if that is set; see `trainer/environment.py`.

    Raises:
        MisconfigurationTypeError: an argument without a name, or one of a name that the constructor does not have.
        MisconfigurationError: a variable of the environment names no argument, or holds a value that is none of its.
    """

    @wraps(init)
    def with_known_keywords(self: Any, *positional: Any, **passed: Any) -> None:
        if positional:
            raise MisconfigurationTypeError(_by_name(positional))
        parameters = inspect.signature(init).parameters
        names = [name for name in parameters if name != "self"]
        for name, value in passed.items():
            if name not in parameters:
                raise MisconfigurationTypeError(unknown_argument(name, names))
            if hasattr(value, "__array__") and getattr(value, "ndim", None):
                raise MisconfigurationTypeError(
                    f"{name}={value!r} is a {type(value).__name__}, and no argument of Trainer takes one. Pass "
                    "Python's own numbers, or a list of them."
                )
        found = arguments_from_environment({name: parameters[name].annotation for name in names}, passed)
        try:
            init(self, **(found | passed))
        except MisconfigurationError as error:
            # Whoever reads that max_epochs is wrong, and never wrote it, has to know where it was written.
            from_there = [f"{PREFIX}{name.upper()}" for name in found if name in str(error)]
            if from_there:
                error.args = (f"{error} This came from the environment: {', '.join(from_there)}.",)
            raise

    return with_known_keywords  # type: ignore[return-value]


def unknown_argument(name: str, names: list[str]) -> str:
    """What to say of an argument that the Trainer does not have.

    Args:
        name: the argument.
        names: those that it has.
    """
    from hookloop.trainer.removed import INSTEAD  # only who makes a mistake needs it

    if name in INSTEAD:
        return f"Trainer has no argument {name!r}. {INSTEAD[name]}"
    near = get_close_matches(name, [*names, *INSTEAD], n=1)
    if near and near[0] in INSTEAD:
        return (
            f"Trainer has no argument {name!r}. Did you mean {near[0]!r}? It has none of that name either. "
            + (INSTEAD[near[0]])
        )
    if near:
        return f"Trainer has no argument {name!r}. Did you mean {near[0]!r}?"
    return f"Trainer has no argument {name!r}. It has: {', '.join(names)}."


def _by_name(positional: tuple[Any, ...]) -> str:
    first = positional[0]
    if isinstance(first, LightningModule):
        return (
            f"Trainer takes no positional argument, and got a {type(first).__name__}. A module goes to the entry "
            "points: Trainer(...).fit(module)."
        )
    return (
        f"Trainer takes no positional argument, and got {', '.join(map(repr, positional))}. "
        "Write its arguments by name, for example Trainer(max_epochs=3)."
    )
