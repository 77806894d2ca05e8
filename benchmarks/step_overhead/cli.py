"""The command line."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from _machine import Machine

from . import __doc__ as purpose
from .column import COLUMNS
from .measure import measure
from .probe import STRETCH
from .report import as_dict, calls_table, overhead_table, quiet_table
from .subjects import subjects
from .work import BATCH_SIZE, CLASSES, FEATURES

DISTRIBUTIONS = ("torch", "hookloop", "hookloop-callbacks-progress", "lightning", "pytorch-ignite", "tqdm")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="step_overhead", description=purpose)
    parser.add_argument("--quick", action="store_true", help="5 rounds of 48 steps: a look, not a result")
    parser.add_argument("--rounds", type=_positive, default=40, help="how often each cell is timed (default 40)")
    parser.add_argument("--steps", type=_steps, default=96, help="steps that are timed each time (default 96)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything to this file")
    options = parser.parse_args(arguments)
    rounds, steps = (5, 48) if options.quick else (options.rounds, options.steps - options.steps % STRETCH)

    machine = Machine.here(*DISTRIBUTIONS)
    results = measure(subjects(), rounds, steps, _show_progress)
    _show_progress("")
    print(f"{machine}, {torch.get_num_threads()} thread")
    print(f"Linear({FEATURES}, {CLASSES}), batch size {BATCH_SIZE}, SGD, in-memory DataLoader without workers")
    print(f"{rounds} rounds of {steps} steps, {STRETCH} at a time: the subjects of a column take turns")
    print("\nMicroseconds of CPU time a step (a batch in validate and predict) over the plain loop of the same round:")
    print("median, ± half the distance between the quartiles. Compare within a column.")
    print("\n".join(f"  {column.title}: {column.meaning}" for column in COLUMNS if column.meaning), end="\n\n")
    print(overhead_table(results))
    print(
        f"\nThe same from the quietest tenth of all stretches of {STRETCH} steps, where other programs disturb least:\n"
    )
    print(quiet_table(results))
    print("\nPython + C calls a step, the same in every run:\n")
    print(calls_table(results))
    if options.json is not None:
        document = {
            "machine": machine.as_dict(),
            "threads": torch.get_num_threads(),
            "rounds": rounds,
            "steps": steps,
            "results": as_dict(results),
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is given, and at least 1 is needed")
    return number


def _steps(text: str) -> int:
    number = _positive(text)
    if number < STRETCH:
        raise argparse.ArgumentTypeError(f"{number} is given, and at least {STRETCH} are needed, one stretch")
    return number


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<20}", end="" if text else "\r", file=sys.stderr, flush=True)
