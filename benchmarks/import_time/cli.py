"""The command line."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from _machine import Machine
from _table import table

from . import __doc__ as purpose
from .measure import QUANTITIES, measure
from .subject import Subject, subjects

DISTRIBUTIONS = ("torch", "hookloop", "lightning", "pytorch-ignite")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="import_time", description=purpose)
    parser.add_argument("--quick", action="store_true", help="3 rounds: a look, not a result")
    parser.add_argument("--rounds", type=int, default=9, help="processes for each import (default 9)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything to this file")
    options = parser.parse_args(arguments)
    rounds = 3 if options.quick else max(options.rounds, 1)

    machine, found = Machine.here(*DISTRIBUTIONS), subjects()
    values = measure(found, rounds, _show_progress)
    _show_progress("")
    print(machine)
    print(f"Over `import torch`; medians of {rounds} fresh processes each, interleaved.\n")
    print(_table(found, values))
    if options.json is not None:
        document = {"machine": machine.as_dict(), "rounds": rounds, "results": values}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _table(found: Sequence[Subject], values: dict[str, dict[str, list[float]]]) -> str:
    rows = [["", "CPU ms", "modules", "MB"]]
    for subject in found:
        medians = (statistics.median(values[subject.name][quantity]) for quantity in QUANTITIES)
        rows.append([subject.name, *(f"{median:.0f}" for median in medians)])
        if subject.target is not None:
            rows.append([f"{subject.name}'s target", *map(str, subject.target)])
    return table(rows)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<20}", end="" if text else "\r", file=sys.stderr, flush=True)
