"""`hookloop doctor`: what is wrong with the installed packages, and how to mend each of it."""

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hookloop.cli.probing import Cost, probe
from hookloop.cli.text import counted, table
from hookloop.discovery.entries import Registration, core_version, installed
from hookloop.discovery.loading import check_core_version
from hookloop.discovery.selection import disabling, is_disabled
from hookloop.errors import MisconfigurationError

if TYPE_CHECKING:
    from hookloop.discovery.examination import Problem  # it brings torch

_DESCRIPTION = """Look for packages that are broken, that were made for another version of
hookloop or lack what they need, and for two packages that want to be the
same thing. It says of each how to mend it, in the words of the error that
Trainer() would raise, and what each package costs to import. Exit code 1 if
something is wrong.

Each package is imported in a process of its own first, so that one which
ends the process does not end the doctor. Whatever the variable
HOOKLOOP_DISABLE_CALLBACKS switches off is left alone."""


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("doctor", help="find what is broken, and say how to mend it", description=_DESCRIPTION)
    parser.add_argument("--no-cost", action="store_true", help="do not measure what imports cost, which takes seconds")
    parser.add_argument("--json", action="store_true", help="print everything, for programs")
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Examine, and print what was found."""
    from hookloop.discovery.examination import Problem, examine

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what cannot be read: the examination tells
        registered = installed()
    off = {one.distribution for one in registered.factories if is_disabled(one)}
    everything = [one for one in registered.factories if not is_disabled(one)]
    everything += [one for one in (*registered.classes, *registered.names) if one.distribution not in off]
    fitting = [one for one in everything if _fits(one)]
    costs = [] if given.no_cost else [probe(module) for module in dict.fromkeys(one.module for one in fitting)]
    deadly = {one.module: one.problem for one in costs if one.problem}
    left_alone = [one for one in fitting if one.module in deadly]
    problems = [
        Problem("import", (first.distribution,), _ending(first, deadly[first.module]))
        for first in {one.module: one for one in reversed(left_alone)}.values()
    ]
    with redirect_stdout(sys.stderr):  # whatever a package prints when it is imported
        problems += examine(left_alone).problems
    if given.json:
        found = {
            "hookloop": core_version(),
            "problems": [asdict(one) for one in problems],
            "imports": [_described(one, fitting) for one in costs],
        }
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(problems, costs, fitting)))
    return 1 if problems else 0


def _lines(problems: Sequence["Problem"], costs: Sequence[Cost], registrations: Sequence[Registration]) -> list[str]:
    lines = []
    if costs:
        described = [_described(one, registrations) for one in costs]
        rows = [
            [one["module"], one["distribution"], "-", "-"]
            if one["seconds"] is None
            else [one["module"], one["distribution"], f"{1000 * one['seconds']:.0f} ms", str(one["modules"])]
            for one in described
        ]
        lines += [*table(["import of", "distribution", "takes", "modules"], rows, numbers=(2, 3)), ""]
    packages = {one.distribution for one in registrations}
    if not problems:
        return [*lines, f"Nothing is wrong with hookloop and {counted(len(packages), 'package')} of callbacks."]
    for number, one in enumerate(problems, start=1):
        of_whom = f" ({', '.join(one.distributions)})" if one.distributions else ""
        lines += [f"{number}. {_TITLES[one.kind]}{of_whom}", *_indented(one.text), ""]
    return [*lines, f"{counted(len(problems), 'problem')} found."]


def _indented(text: str) -> list[str]:
    # As Trainer() prints it, so that one can be found by the other: its lines are not broken anew.
    margin = min(len(line) - len(line.lstrip()) for line in text.splitlines() if line.strip())
    return [f"   {line[margin:]}".rstrip() for line in text.splitlines()]


_TITLES = {
    "import": "A package ends the process that imports it",
    "requirement": "A requirement is not met",
    "entry points": "Metadata cannot be read",
    "factory": "A registered callback factory is broken",
    "family": "Two packages register callbacks of one family",
    "conflict": "Two callbacks cannot be in one run",
    "state": "Two callbacks share a state",
    "list": "Callbacks cannot be in one list",
    "name": "A registered name cannot be imported",
}


def _ending(one: Registration, problem: str) -> str:
    return (
        f"{one.distribution} {one.version}, entry point {one.definition}\n"
        f"  {problem[0].upper()}{problem[1:]}.\n"
        f"  To go on without it: {disabling([one])}, or pip uninstall {one.distribution}"
    )


def _fits(registration: Registration) -> bool:
    try:
        check_core_version(registration)
    except (MisconfigurationError, ValueError):
        return False  # the examination tells
    return True


def _described(cost: Cost, registrations: Sequence[Registration]) -> dict[str, Any]:
    owner = next(one for one in registrations if one.module == cost.module)
    return {"distribution": owner.distribution, **asdict(cost)}
