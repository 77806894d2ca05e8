"""Families of callbacks: the Trainer's switches for them, and those of which a run has one at most."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookloop.callback import Callback
from hookloop.discovery.entries import Registration, installed, normalized
from hookloop.discovery.selection import disabling, listed, why_off
from hookloop.errors import MisconfigurationError
from hookloop.options import TrainerOptions

if TYPE_CHECKING:
    from hookloop.discovery.factories import Default


@dataclass(frozen=True)
class Family:
    """A family that the Trainer has an argument for.

    Attributes:
        name: value of `Callback.family`.
        argument: of the Trainer; a given one asks for the family, False refuses it.
        distribution: what to install for it.
        exclusive: whether a run has one of them at most.
    """

    name: str
    argument: str
    distribution: str
    exclusive: bool

    def asked_for(self, options: TrainerOptions) -> bool | None:
        """True: there must be one. False: there may be none. None: whatever there is."""
        value = getattr(options, self.argument)
        if value is None:
            return None
        return True if self.argument == "max_time" else bool(value)

    def as_given(self, options: TrainerOptions) -> str:
        """The argument as the user wrote it."""
        return f"{self.argument}={getattr(options, self.argument)!r}"


FAMILIES = (
    Family("progress_bar", "enable_progress_bar", "hookloop-callbacks-progress", exclusive=True),
    Family("checkpoint", "enable_checkpointing", "hookloop-callbacks-checkpoint", exclusive=False),
    Family("model_summary", "enable_model_summary", "hookloop-callbacks-progress", exclusive=True),
    Family("timer", "max_time", "hookloop-callbacks-monitoring", exclusive=True),
)


def check_passed(options: TrainerOptions) -> None:
    """Whether what the user passed in `callbacks` fits the switches.

    Raises:
        MisconfigurationError: one of a family that a switch refuses, or two of a family that a run has one of.
    """
    for family in FAMILIES:
        passed = _of(family, options.callbacks)
        names = ", ".join(type(callback).__name__ for callback in passed)
        if passed and family.asked_for(options) is False:
            raise MisconfigurationError(
                f"{family.as_given(options)}, and callbacks holds {names} of family {family.name!r}. Drop one "
                "or the other."
            )
        if family.exclusive and len(passed) > 1:
            raise MisconfigurationError(
                f"callbacks holds {len(passed)} callbacks of family {family.name!r} ({names}), and a run can have only "
                "one of them. Keep one."
            )
        if passed and family.name == "timer" and options.max_time is not None:
            warnings.warn(
                f"{family.as_given(options)} is not used, because callbacks holds {names}, which keeps its own limit. "
                "Drop one or the other.",
                stacklevel=5,  # the line that calls Trainer(...)
            )


def check_present(defaults: "Sequence[Default]", on: Sequence[Registration], options: TrainerOptions) -> None:
    """Whether everything that the switches ask for is there.

    Args:
        defaults: what the registered factories returned.
        on: the factories that were asked.
        options: the Trainer's arguments.

    Raises:
        MisconfigurationError: a family was asked for that nobody supplies; the message says what to install.
    """
    for family in FAMILIES:
        present = _of(family, [*options.callbacks, *(default.callback for default in defaults)])
        if family.asked_for(options) and not present:
            raise MisconfigurationError(_missing(family, on, options))


def wanted(defaults: "Iterable[Default]", options: TrainerOptions) -> "list[Default]":
    """The defaults without those of families that the switches, or a fast_dev_run, refuse."""
    refused = {family.name for family in FAMILIES if family.asked_for(options) is False}
    if options.fast_dev_run:
        refused.add("checkpoint")
    return [default for default in defaults if default.callback.family not in refused]


def check_exclusive(defaults: "Sequence[Default]") -> None:
    """Whether at most one default is left of each family that a run has one of.

    Raises:
        MisconfigurationError: two are left; the message says how to switch each of them off.
    """
    for message in rivalries(defaults):
        raise MisconfigurationError(message)


def rivalries(defaults: "Sequence[Default]") -> list[str]:
    """For each family that a run has one of and that has two defaults: which they are, and how to switch one off."""
    messages = []
    for family in FAMILIES:
        rivals = [default for default in defaults if default.callback.family == family.name]
        if family.exclusive and len(rivals) > 1:
            lines = [
                f"Installed packages register {len(rivals)} callbacks of family {family.name!r}; a run can have one:"
            ]
            lines += [
                f"  {type(rival.callback).__name__} of {rival.registration.distribution} {rival.registration.version}, "
                f"entry point {rival.registration.definition}; switched off by {disabling([rival.registration])}"
                for rival in rivals
            ]
            lines.append(
                "Switch off all but one, name those to keep in Trainer(registered_callbacks=[...]), or pass your own "
                "in callbacks."
            )
            messages.append("\n".join(lines))
    return messages


def without_rivals(defaults: "Sequence[Default]") -> "list[Default]":
    """The defaults, of each family that a run has one of the first alone."""
    exclusive = {family.name for family in FAMILIES if family.exclusive}
    first: dict[object, Default] = {}
    for default in defaults:
        family = default.callback.family
        first.setdefault(family if family in exclusive else id(default), default)
    return list(first.values())


def _of(family: Family, callbacks: Iterable[Callback]) -> list[Callback]:
    return [callback for callback in callbacks if callback.family == family.name]


def _missing(family: Family, on: Sequence[Registration], options: TrainerOptions) -> str:
    factories = installed().factories
    off = [one for one in factories if one not in on]
    parts = [
        f"{family.as_given(options)} needs a callback of family {family.name!r}: callbacks holds none, and no "
        f"registered factory returned one (switched on: {listed(on)})."
    ]
    if off:
        parts.append(f"Switched off by {why_off(options)}: {listed(off)}.")
    if not any(normalized(one.distribution) == family.distribution for one in factories):
        parts.append(f"Run `pip install {family.distribution}` and start Python again, or pass one in callbacks.")
    elif off:
        parts.append("Switch on what supplies it, or pass one in callbacks.")
    else:
        parts.append(f"Pass one in callbacks, or drop {family.as_given(options)}.")
    return " ".join(parts)
