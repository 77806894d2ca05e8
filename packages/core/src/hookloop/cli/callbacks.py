"""`hookloop callbacks`: what is installed, and what a Trainer gets of it by default."""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from hookloop.cli.text import counted, fields, paragraph
from hookloop.discovery.entries import Installed, Registration, core_version, installed, normalized
from hookloop.discovery.loading import check_core_version, core_range
from hookloop.discovery.selection import DISABLE_VARIABLE, is_disabled
from hookloop.errors import MisconfigurationError

_DESCRIPTION = """List the installed distributions that register callbacks: their versions,
the versions of hookloop that they were made for, the classes that
hookloop.callbacks offers, and what a Trainer without arguments gets from
each, with the reason.

To know what a Trainer gets, the packages that are switched on are imported
and their factories asked."""


@dataclass(frozen=True)
class Answer:
    """What a Trainer without arguments gets from a factory.

    Attributes:
        active: whether it gets something; None if nobody asked.
        why: the reason.
        callbacks: names of the classes of what it gets.
    """

    active: bool | None
    why: str
    callbacks: tuple[str, ...] = ()


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("callbacks", help="list what is installed", description=_DESCRIPTION)
    parser.add_argument("--no-import", action="store_true", help="read metadata alone; imports no package")
    parser.add_argument("--json", action="store_true", help="print everything, for programs")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Print the list."""
    registered = installed()
    asked = [one for one in registered.factories if not (is_disabled(one) or _misfit(one))]
    answers = dict.fromkeys(asked, Answer(None, "not asked")) if given.no_import else _ask(asked)
    described = list(_described(registered, answers))
    if given.json:
        disabled = os.environ.get(DISABLE_VARIABLE)
        found = {"hookloop": core_version(), DISABLE_VARIABLE: disabled, "distributions": described}
        print(json.dumps(found, indent=2))
        return 0
    version = core_version()
    title = "hookloop" if version is None else f"hookloop {version}"
    print(f"{title}, and {counted(len(described), 'package')} with callbacks")
    if not described:
        print('Install some: pip install "hookloop[progress]", "hookloop[checkpoint]" or "hookloop[all]"')
    for one in described:
        print()
        print("\n".join(_lines(one)))
    return 0


def _ask(registrations: list[Registration]) -> dict[Registration, Answer]:
    if not registrations:
        return {}
    # They bring torch.
    from hookloop.discovery.factories import asked
    from hookloop.discovery.families import rivalries, wanted
    from hookloop.options import TrainerOptions

    options = TrainerOptions()
    with redirect_stdout(sys.stderr):  # whatever a package prints when it is imported
        defaults, broken = asked(registrations, options)
    kept = wanted(defaults, options)
    errors = {one.registration: f"{type(one.cause).__name__}: {one.cause}" for one in broken}
    answers = {}
    for one in registrations:
        names = tuple(type(default.callback).__name__ for default in kept if default.registration is one)
        refused = [text for text in rivalries(kept) if one.definition in text]
        if one in errors:
            answers[one] = Answer(False, f"its factory is broken: {errors[one]}. Run `hookloop doctor`.", names)
        elif not names:
            answers[one] = Answer(False, "its factory returns nothing for a Trainer without arguments")
        elif refused:
            why = "another package registers one of its family too. Run `hookloop doctor`."
            answers[one] = Answer(False, why, names)
        else:
            answers[one] = Answer(True, "its factory is registered, and nothing switches it off", names)
    return answers


def _misfit(registration: Registration) -> str:
    """Why it does not fit the installed core; "" if it does."""
    try:
        check_core_version(registration)
    except MisconfigurationError as error:
        return str(error)
    except ValueError as error:
        return f"what {registration.distribution} requires cannot be read: {error}"
    return ""


def _described(registered: Installed, answers: Mapping[Registration, Answer]) -> Iterator[dict[str, Any]]:
    everything = (*registered.factories, *registered.classes, *registered.names)
    for name in sorted({one.distribution for one in everything}, key=normalized):
        own = [one for one in everything if one.distribution == name]
        first = own[0]
        try:
            needs = core_range(first)
        except ValueError:
            needs = "cannot be read"
        yield {
            "distribution": first.distribution,
            "version": first.version,
            "core": needs,
            "fits": not _misfit(first),
            "factories": [_factory(one, answers) for one in own if one in registered.factories],
            "classes": [{"name": one.name, "entry_point": one.definition} for one in own if one in registered.classes],
            "names": [{"name": one.name, "entry_point": one.definition} for one in own if one in registered.names],
        }


def _factory(registration: Registration, answers: Mapping[Registration, Answer]) -> dict[str, Any]:
    if registration in answers:
        answer = answers[registration]
    elif is_disabled(registration):
        answer = Answer(False, f"switched off by {DISABLE_VARIABLE}={os.environ[DISABLE_VARIABLE]}")
    else:
        answer = Answer(False, _misfit(registration))
    return {
        "name": registration.name,
        "entry_point": registration.definition,
        "active": answer.active,
        "why": answer.why,
        "callbacks": list(answer.callbacks),
    }


def _lines(one: Mapping[str, Any]) -> list[str]:
    needs = f"made for hookloop{one['core']}" if one["core"] else "does not say which hookloop it was made for"
    rows = []
    for factory in one["factories"]:
        state = {True: "yes", False: "no", None: "not asked"}[factory["active"]]
        made = f": {', '.join(factory['callbacks'])}" if factory["active"] else ""
        rows += [("factory", factory["entry_point"]), ("by default", state + made)]
        if factory["active"] is not None:
            rows.append(("", factory["why"]))
    for title, key in (("classes", "classes"), ("names", "names")):
        if one[key]:
            rows.append((title, ", ".join(entry["name"] for entry in one[key])))
    return [*paragraph(f"{one['distribution']} {one['version']}, {needs}"), *fields(rows)]
