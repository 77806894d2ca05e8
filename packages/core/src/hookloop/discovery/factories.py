"""Import and call the factories, check what they return, and report all that are broken in one error."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hookloop.callback import Callback, order_of
from hookloop.discovery.entries import Registration
from hookloop.discovery.loading import load
from hookloop.discovery.selection import disabling
from hookloop.errors import CallbackFactoryError
from hookloop.hook_checks import check_callback
from hookloop.options import TrainerOptions


@dataclass(frozen=True)
class Default:
    """A callback that a registered factory made."""

    callback: Callback
    registration: Registration


@dataclass(frozen=True)
class Broken:
    """A registered factory that made nothing, and why; as text, it is what the error of a Trainer says of it."""

    registration: Registration
    cause: BaseException

    def __str__(self) -> str:
        one = self.registration
        return "\n".join(
            [
                f"  {one.distribution} {one.version}, entry point {one.definition}",
                f"    {type(self.cause).__name__}: " + str(self.cause).replace("\n", "\n    "),
                f"    To go on without it: {disabling([one])}, or pip uninstall {one.distribution}",
            ]
        )


def make_defaults(registrations: Iterable[Registration], options: TrainerOptions) -> list[Default]:
    """What the factories return, each object once.

    Raises:
        CallbackFactoryError: at least one is broken; the message names every one of them.
    """
    defaults, broken = asked(registrations, options)
    if broken:
        raise _error(broken) from broken[0].cause
    return defaults


def asked(registrations: Iterable[Registration], options: TrainerOptions) -> tuple[list[Default], list[Broken]]:
    """What the factories return, each object once, and those that are broken."""
    defaults: dict[int, Default] = {}
    broken: list[Broken] = []
    for registration in registrations:
        try:
            for callback in _validated(_call(load(registration), options)):
                defaults.setdefault(id(callback), Default(callback, registration))
        # SystemExit: a module that parses the command line when it is imported must not end the user's program.
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is reported
            broken.append(Broken(registration, error))
    return list(defaults.values()), broken


def _call(factory: object, options: TrainerOptions) -> object:
    if not callable(factory):
        raise TypeError(f"{factory!r} cannot be called; name a function: module:function")
    try:
        parameters = dict(inspect.signature(factory).parameters)
    except ValueError:  # some callables written in C tell nothing
        parameters = {}
    required = [
        parameter
        for parameter in parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    function: Callable[..., Any] = factory
    named = parameters.get("options")
    if named is not None and named.kind is not named.POSITIONAL_ONLY and required in ([], [named]):
        return function(options=options)
    if not required:
        return function()
    # A class in place of a function: its one argument is a setting of its own, and no place for the options.
    if len(required) == 1 and required[0].kind is not inspect.Parameter.KEYWORD_ONLY and not inspect.isclass(factory):
        return function(options)
    raise TypeError(
        f"it needs the arguments {', '.join(parameter.name for parameter in required)}; a factory takes nothing, or "
        "the TrainerOptions alone"
    )


def _validated(returned: object) -> Sequence[Callback]:
    if returned is None:
        return ()
    if isinstance(returned, Callback):
        returned = (returned,)
    if not isinstance(returned, Sequence) or isinstance(returned, str):
        raise TypeError(f"it returned {_described(returned)}; a factory returns a Callback, a list of them, or nothing")
    for position, item in enumerate(returned):
        if not isinstance(item, Callback):
            raise TypeError(f"item {position} of what it returned is {_described(item)}, which is no Callback")
        check_callback(item)
        order_of(item)
    return returned


def _described(value: object) -> str:
    if inspect.isclass(value):
        return f"the class {value.__name__} and no instance of it"
    return f"{value!r} ({type(value).__name__})"


def _error(broken: Sequence[Broken]) -> CallbackFactoryError:
    several = len(broken) > 1
    lines = [
        f"{len(broken)} registered callback factories are broken:"
        if several
        else "A registered callback factory is broken:"
    ]
    lines += map(str, broken)
    if several:
        lines.append(f"To go on without any of these: {disabling(one.registration for one in broken)}")
    lines.append("To go on without all registered callbacks: Trainer(registered_callbacks=False)")
    return CallbackFactoryError("\n".join(lines))
