"""The command line."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from _machine import Machine
from _table import table

from . import __doc__ as purpose
from .subjects import SIZES, Subject, subjects

DISTRIBUTIONS = ("torch", "hookloop", "hookloop-callbacks-swa", "lightning")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="averaging_update", description=purpose)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds: a look, not a result")
    parser.add_argument("--rounds", type=int, default=400, help="updates of 200 tensors by each (default 400)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything to this file")
    options = parser.parse_args(arguments)
    rounds = max(options.rounds // (10 if options.quick else 1), 10)
    torch.set_num_threads(1)

    machine, found = Machine.here(*DISTRIBUTIONS), subjects()
    print(machine)
    print("CPU time of an update in microseconds, interleaved; medians, and how many times the floor that is.\n")
    results: dict[str, dict[str, list[float]]] = {}
    for size in SIZES:
        # One of 25M parameters takes some hundred times as long.
        results[size] = _measure(found, size, rounds if size == "200 tensors" else max(rounds // 20, 10))
    print(_table(found, results))
    if options.json is not None:
        document = {"machine": machine.as_dict(), "microseconds": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(found: Sequence[Subject], size: str, rounds: int) -> dict[str, list[float]]:
    """Microseconds of each update, by subject; all of them take turns, so that what disturbs meets all."""
    updates: dict[str, Callable[[], object]] = {one.name: one.make(size) for one in found}
    values: dict[str, list[float]] = {name: [] for name in updates}
    for index in range(rounds + 3):
        for name, update in updates.items():
            update()  # the caches are its own again
            begin = time.process_time_ns()
            update()
            took = (time.process_time_ns() - begin) / 1000
            if index >= 3:
                values[name].append(took)
        if sys.stderr.isatty():
            print(f"\r{size}: round {index + 1} of {rounds + 3}  ", end="\r", file=sys.stderr, flush=True)
    return values


def _table(found: Sequence[Subject], results: dict[str, dict[str, list[float]]]) -> str:
    rows = [["", *(head for size in results for head in (size, "x floor"))]]
    for subject in found:
        row = [subject.name]
        for values in results.values():
            median = statistics.median(values[subject.name])
            row += [f"{median:.0f}", f"{median / statistics.median(values['floor']):.2f}"]
        rows.append(row)
        if subject.target is not None:
            rows.append([f"{subject.name}'s target", *(cell for _ in results for cell in ("", f"{subject.target}"))])
    return table(rows)
