"""Runs the scripts, compares their results, and knows what Lightning's were."""

import json
import math
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RECORDED = FOLDER / "recorded.json"

SCRIPTS = ("classifier", "gan", "language_model", "autoencoder", "several_loaders")
# An epoch's last accumulation window with half of its batches; made up for in the loss, and not.
UNEVEN = "language_model --batches 10"
UNEVEN_SCALED = f"{UNEVEN} --scale-last-window"


def result_of(script: str, root: str, folder: Path, python: str = sys.executable) -> dict[str, Any]:
    """Run a script, with its arguments, in a process and a folder of its own."""
    name, *arguments = script.split()
    command = [python, str(FOLDER / "run.py"), name, root, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{script} on {root} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def where() -> dict[str, str]:
    """What decides about the last bits of a result, apart from the script."""
    return {"torch": version("torch"), "machine": platform.machine(), "libc": " ".join(platform.libc_ver())}


def differences(given: Any, expected: Any, tolerance: float = 0.0, place: str = "result") -> Iterator[str]:
    """Where two results differ, in words.

    Args:
        given: nested dicts and lists.
        expected: the same.
        tolerance: how far, relatively, two numbers may be apart that scripts wrote in hexadecimal. Those in decimal
            are means over an epoch, which Lightning adds up in float32 and hookloop in float64: 1e-6 at least.
        place: what both are, for the words.
    """
    if isinstance(given, Mapping) and isinstance(expected, Mapping):
        if given.keys() != expected.keys():
            yield f"{place} has {sorted(given)}, and not {sorted(expected)}"
        for key in given.keys() & expected.keys():
            yield from differences(given[key], expected[key], tolerance, f"{place}[{key!r}]")
    elif isinstance(given, list) and isinstance(expected, list):
        if len(given) != len(expected):
            yield f"{place} has {len(given)} elements, and not {len(expected)}"
        for index, pair in enumerate(zip(given, expected, strict=False)):
            yield from differences(*pair, tolerance, f"{place}[{index}]")
    elif isinstance(given, float) and isinstance(expected, float):
        if not math.isclose(given, expected, rel_tol=max(tolerance, 1e-6)):
            yield f"{place} is {given!r}, and not {expected!r}"
    elif given != expected:
        numbers = _number(given), _number(expected)
        if not _close(*numbers, tolerance):
            yield f"{place} is {given!r}, and not {expected!r}, in decimal {numbers[0]} and {numbers[1]}"


def _close(given: float | None, expected: float | None, tolerance: float) -> bool:
    if given is None or expected is None:
        return False
    return math.isclose(given, expected, rel_tol=tolerance, abs_tol=tolerance * 1e-3)


def _number(value: object) -> float | None:
    if isinstance(value, str) and value.removeprefix("-").startswith("0x"):
        return float.fromhex(value)
    return None
