"""Everything that is wrong with the installed packages at once, in the words with which a Trainer refuses each."""

import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version

from hookloop.callback_list import CallbackList, check_state_keys
from hookloop.discovery.classes import broken_names
from hookloop.discovery.entries import Registration, forget_entry_points, installed, normalized
from hookloop.discovery.factories import Default, asked
from hookloop.discovery.families import rivalries, wanted, without_rivals
from hookloop.discovery.loading import requirements
from hookloop.discovery.provenance import registered_provenance
from hookloop.discovery.selection import is_disabled, switched_on
from hookloop.errors import MisconfigurationError
from hookloop.interplay import check_conflicts
from hookloop.options import TrainerOptions


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: "entry points", "requirement", "factory", "family", "conflict", "state", "list" or "name".
        distributions: which packages it is about.
        text: what is wrong and how to mend it, of several lines where the Trainer's message is.
    """

    kind: str
    distributions: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class Examination:
    """What a Trainer without arguments would find.

    Attributes:
        defaults: what the factories that are switched on made for it.
        problems: what is wrong, in the order in which it should be mended.
    """

    defaults: tuple[Default, ...] = ()
    problems: tuple[Problem, ...] = ()


def examine(left_alone: Collection[Registration] = ()) -> Examination:
    """Look at everything that is registered; this imports the packages that are switched on.

    Args:
        left_alone: what must not be imported. What the environment variable switches off is left alone too.
    """
    options = TrainerOptions()
    forget_entry_points()
    with warnings.catch_warnings(record=True) as unreadable:
        warnings.simplefilter("always")
        registered = installed()
    problems = [Problem("entry points", (), str(one.message)) for one in unreadable]
    problems += _unmet([*registered.factories, *registered.classes, *registered.names])
    made, broken = asked((one for one in switched_on(options) if one not in left_alone), options)
    problems += [Problem("factory", (one.registration.distribution,), str(one)) for one in broken]
    defaults = wanted(made, options)
    problems += [Problem("family", _owners(defaults, text), text) for text in rivalries(defaults)]
    # One cause is said once: rivals of a family may declare that they are, and share a state.
    problems += _clashes(without_rivals(defaults))
    # And a package that cannot be imported has no class either.
    told = {one.registration.distribution for one in broken} | {one.distribution for one in left_alone}
    told |= {one.distribution for one in registered.factories if is_disabled(one)}
    for registration, error in broken_names(left_alone=frozenset(told)):
        if registration.distribution not in told:
            told.add(registration.distribution)
            problems.append(Problem("name", (registration.distribution,), str(error)))
    return Examination(tuple(defaults), tuple(problems))


def _unmet(registrations: Sequence[Registration]) -> Iterator[Problem]:
    lines = {one.distribution: one.requires for one in registrations}
    with suppress(PackageNotFoundError):  # the core runs from a folder of sources
        lines = {"hookloop": tuple(distribution("hookloop").requires or ()), **lines}
    for name, requires in lines.items():
        try:
            needed = list(requirements(requires))
        except Exception as error:  # noqa: BLE001 - whatever somebody wrote into their metadata
            yield Problem("requirement", (name,), f"What {name} requires cannot be read: {error}. Install it again.")
            continue
        for one in needed:
            if normalized(one.name) == "hookloop":
                continue  # asked before anything of it is imported
            command = f'pip install "{one.name}{one.specifier}"'
            try:
                there = version(one.name)
            except PackageNotFoundError:
                yield Problem(
                    "requirement", (name,), f"{name} needs {one.name}, which is not installed. Run `{command}`."
                )
                continue
            if not one.specifier.contains(there, prereleases=True):
                text = f"{name} needs {one.name}{one.specifier}, and {one.name} {there} is installed. Run `{command}`."
                yield Problem("requirement", (name,), text)


def _owners(defaults: Sequence[Default], text: str) -> tuple[str, ...]:
    return tuple(one.registration.distribution for one in defaults if one.registration.definition in text)


def _clashes(defaults: Sequence[Default]) -> Iterator[Problem]:
    """What keeps these from being in one run, the first of each kind."""
    origins = {id(one.callback): registered_provenance(one.registration) for one in defaults}
    callbacks = [one.callback for one in defaults]
    # The last one makes the other checks too; what is left for it is an order that nobody can keep.
    checks: dict[str, Callable[..., object]] = {
        "conflict": check_conflicts,
        "state": check_state_keys,
        "list": CallbackList,
    }
    told = False
    for kind, check in checks.items():
        if kind == "list" and told:
            return
        try:
            check(callbacks, lambda callback: origins[id(callback)])
        except MisconfigurationError as error:
            told = True
            yield Problem(kind, (), str(error))
