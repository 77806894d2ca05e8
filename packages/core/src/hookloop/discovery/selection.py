"""Which registered factories are switched on: the Trainer's argument, the environment variable, barebones."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from hookloop.discovery.entries import Registration, installed
from hookloop.errors import MisconfigurationError

if TYPE_CHECKING:
    from hookloop.options import TrainerOptions  # it brings torch

DISABLE_VARIABLE = "HOOKLOOP_DISABLE_CALLBACKS"
"""Environment variable: entry point names or distributions to switch off, with commas between them; `*` for all."""


def switched_on(options: "TrainerOptions") -> tuple[Registration, ...]:
    """The factories that may be imported. Where everything is off, not even the entry points are read.

    Raises:
        MisconfigurationError: `registered_callbacks` is neither a bool nor a list of names, or names what nobody
            registers. Names in the environment variable may be unknown: it is often set for many machines at once.
    """
    wanted = _wanted(options.registered_callbacks)
    disabled = _disabled()
    if options.barebones or wanted == [] or "*" in disabled:
        return ()
    factories = installed().factories
    unknown = [name for name in wanted or () if not any(one.goes_by([name]) for one in factories)]
    if unknown:
        raise MisconfigurationError(
            f"registered_callbacks names {', '.join(map(repr, unknown))}, which no installed package registers. "
            f"Registered are: {listed(factories)}. Use the name of an entry point or of a distribution."
        )
    return tuple(one for one in factories if (wanted is None or one.goes_by(wanted)) and not one.goes_by(disabled))


def is_disabled(registration: Registration) -> bool:
    """Whether the environment variable switches it off, for every Trainer."""
    disabled = _disabled()
    return "*" in disabled or registration.goes_by(disabled)


def why_off(options: "TrainerOptions") -> str:
    """What switches factories off in this Trainer, in the user's own words."""
    reasons = []
    if options.barebones:
        reasons.append("barebones=True")
    if options.registered_callbacks is not True:
        reasons.append(f"registered_callbacks={options.registered_callbacks!r}")
    if _disabled():
        reasons.append(f"{DISABLE_VARIABLE}={os.environ[DISABLE_VARIABLE]}")
    return " and ".join(reasons)


def disabling(registrations: Iterable[Registration]) -> str:
    """The setting of the environment variable that switches these off, besides what it switches off now."""
    names = [_switch(one) for one in registrations]
    return f"{DISABLE_VARIABLE}={','.join(dict.fromkeys([*_disabled(), *names]))}"


def listed(registrations: Iterable[Registration]) -> str:
    """For a message: `name (distribution version)` of each, or that there are none."""
    return ", ".join(map(str, registrations)) or "none"


def _switch(registration: Registration) -> str:
    # The distribution, where the name alone would switch off somebody else's factory as well.
    shared = [one for one in installed().factories if one.name == registration.name]
    return registration.name if len(shared) == 1 else registration.distribution


def _wanted(given: bool | Sequence[str]) -> list[str] | None:
    """The names asked for; None for all."""
    if isinstance(given, bool):
        return None if given else []
    names: object = given
    if isinstance(names, Sequence) and not isinstance(names, str) and all(isinstance(name, str) for name in names):
        return list(names)
    raise MisconfigurationError(
        f"registered_callbacks={given!r} must be True, False, or a list of names of entry points or distributions, "
        'such as ["hookloop-callbacks-progress"].'
    )


def _disabled() -> list[str]:
    return [name.strip() for name in os.environ.get(DISABLE_VARIABLE, "").split(",") if name.strip()]
