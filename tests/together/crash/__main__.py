"""The command line: `python -m crash`, and what `python dev.py bench crash` runs."""

import argparse
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

# Before torch is imported: libraries that start threads would make it unsound to fork.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

# What a fit imports on its first way through, so that the processes that are forked have it.
import torch._dynamo  # noqa: E402, F401

import hookloop.entry_points  # noqa: E402
import hookloop.trainer.resuming  # noqa: E402, F401

from .campaign import BrokenPromiseError, interrupted, uninterrupted  # noqa: E402
from .comparing import differences  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="how often the job is ended (default 200)")
    parser.add_argument("--seed", type=int, help="of the moments; a random one by default, which is printed")
    parser.add_argument("--signal", choices=["SIGKILL", "SIGTERM"], default="SIGKILL", help="what ends it")
    parser.add_argument("--folder", type=Path, help="for the runs' files, which are kept there; else they are deleted")
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write every start of the job to this file")
    parser.add_argument("--quick", action="store_true", help="10 kills: a look, not a result")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    kills = 10 if options.quick else options.kills
    print(f"{kills} times {options.signal}; to repeat it: --kills {kills} --signal {options.signal} --seed {seed}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        return _run(folder, kills, seed, signal.Signals[options.signal], options.json)


def _run(folder: Path, kills: int, seed: int, signum: signal.Signals, report: Path | None) -> int:
    began = time.monotonic()
    course = uninterrupted(folder)
    try:
        result = interrupted(folder, course, kills, seed, signum, lambda end: print(end, flush=True))
    except (BrokenPromiseError, TimeoutError) as error:
        print(f"FAILED: {error}\nWhat the job printed: {(folder / 'log.txt').read_text()[-2000:]}")
        return 1
    wrong = 0
    for name in result.folders:
        found = differences(Path(name, "final.ckpt"), course.folder / "final.ckpt")
        wrong += bool(found)
        print(*(f"FAILED: {name}: {one}" for one in found[:5]), sep="\n", end="\n" * bool(found))
    if report is not None:
        report.write_text(json.dumps({**result.as_dict(), "never_killed": str(course.folder)}, indent=2) + "\n")
    torn, equal = sum(end.left_behind for end in result.ends), len(result.folders) - wrong
    print(
        f"{len(result.folders)} runs, ended {len(result.killed)} times, {len(result.killed_in_saves)} of them in a "
        f"save, which left an unfinished file {torn} times; {equal} runs equal the one that was never ended, byte for "
        f"byte. {time.monotonic() - began:.0f} s."
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
