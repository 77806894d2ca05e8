"""What importing a module costs, and whether it can be imported at all: asked in a fresh process."""

import json
import subprocess
import sys
from dataclasses import dataclass

_MARK = "hookloop-probe:"
_SECONDS = 120.0
_PROGRAM = f"""
import importlib, json, sys, time
sys.path[:] = json.loads(sys.argv[1])
from hookloop import *  # what every script has paid for
from hookloop.discovery import registered_callbacks
before, started = len(sys.modules), time.perf_counter()
try:
    importlib.import_module(sys.argv[2])
    failed = False
except (Exception, SystemExit):
    failed = True
print()
print({_MARK!r} + json.dumps([time.perf_counter() - started, len(sys.modules) - before, failed]), flush=True)
"""


@dataclass(frozen=True)
class Cost:
    """Of importing one module, beyond torch and hookloop.

    Attributes:
        module: its dotted name.
        seconds: of wall-clock time; None if it ended the process, or went on for too long.
        modules: how many modules came with it; None likewise.
        problem: why it must not be imported in a process that somebody needs; "" if nothing is known.
    """

    module: str
    seconds: float | None
    modules: int | None
    problem: str = ""


def probe(module: str, seconds: float = _SECONDS) -> Cost:
    """Import a module in a fresh process with this one's path.

    An import that raises has a cost too; what it raised is for others to tell.

    Args:
        module: its dotted name.
        seconds: after so long it is given up.
    """
    command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), module]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=seconds
        )
    except subprocess.TimeoutExpired:
        return Cost(module, None, None, f"importing {module} does not end: it was stopped after {seconds:.0f} s")
    said = [line for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if not said:
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return Cost(module, None, None, f"importing {module} ends the process ({how})")
    took, modules, _ = json.loads(said[-1].removeprefix(_MARK))
    return Cost(module, took, modules)
