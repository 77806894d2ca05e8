"""The command line."""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from _machine import Machine
from _table import table

from . import __doc__ as purpose
from .measure import Measured, measure
from .work import BATCH_SIZE, SIZES, WIDTH, Size

DISTRIBUTIONS = ("torch", "hookloop", "lightning")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="checkpoint_saves", description=purpose)
    parser.add_argument("--quick", action="store_true", help="25M parameters, one round: a look, not a result")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES), help="of the model (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each subject (default 3)")
    parser.add_argument("--saves", type=int, default=5, help="saves that are timed in each process (default 5)")
    parser.add_argument("--folder", type=Path, help="where files are written: choose the disk (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write everything to this file")
    options = parser.parse_args(arguments)
    sizes, rounds = (["25M"], 1) if options.quick else (options.sizes, max(options.rounds, 1))

    machine = Machine.here(*DISTRIBUTIONS)
    results: dict[str, Measured] = {}
    print(f"{machine}, {torch.get_num_threads()} thread{'s' * (torch.get_num_threads() != 1)}")
    print(f"Linear({WIDTH}, {WIDTH}) layers, batch size {BATCH_SIZE}, Adam; {rounds} interleaved rounds of", end=" ")
    print(f"{options.saves} saves; milliseconds on the wall: median, ± half the distance between the quartiles")
    for name in sizes:
        results[name] = measure(name, options.folder, rounds, options.saves, _show_progress)
        _show_progress("")
        print("\n" + tables(SIZES[name], results[name]))
    if options.json is not None:
        document = {"machine": machine.as_dict(), "rounds": rounds, "saves": options.saves, "results": results}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def tables(size: Size, measured: Measured) -> str:
    """What one size of model gave: how long saves hold training up, and loads."""
    plain = measured["torch foreground"]
    copy, synced = statistics.median(plain["copy"]), statistics.median(plain["torch.save + fsync"])
    rows = [[f"{size.parameters / 1e6:.1f}M parameters, {size.megabytes:.0f} MB", "blocks", "the first", "later steps"]]
    for name, quantity in (
        ("copy into memory that is there (the floor)", "copy"),
        ("copy into new memory", "clone"),
        ("torch.save", "torch.save"),
        ("torch.save + fsync", "torch.save + fsync"),
    ):
        rows.append([name, _spread(plain[quantity]), "", ""])
    for name, found in measured.items():
        if "blocks" in found:
            later = f"{_spread(found['extra'], sign=True)} ({_spread(found['slower'], sign=True)} %)"
            rows.append([name, _spread(found["blocks"]), _spread(found["first"]), later if found["extra"] else "none"])
    rows.append(["hookloop's target, foreground", f"{1.15 * synced:.0f}", "", ""])
    rows.append(["hookloop's target, background", f"{1.5 * copy:.0f}", "", "5 %"])
    loads = [["load", "takes"], ["torch.load", _spread(plain["torch.load"])]]
    if "read_checkpoint" in plain:
        loads.append(["hookloop, every byte verified", _spread(plain["read_checkpoint"])])
    return f"{table(rows)}\n\n{table(loads)}"


def _spread(values: Sequence[float], sign: bool = False) -> str:
    if not values:
        return ""
    median = statistics.median(values)
    lower, _, upper = statistics.quantiles(values, n=4) if len(values) > 1 else (median, median, median)
    return f"{median:+.0f} ±{(upper - lower) / 2:.0f}" if sign else f"{median:.0f} ±{(upper - lower) / 2:.0f}"


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:<60}", end="" if text else "\r", file=sys.stderr, flush=True)
