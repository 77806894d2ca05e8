"""Fresh processes, one subject after the other, round after round."""

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")

Measured = dict[str, dict[str, list[float]]]
"""By subject, then by quantity, a value for each save."""


def subjects() -> list[tuple[str, str]]:
    """What is installed here: the library, and whether it saves in the foreground or the background."""
    wanted = [
        ("torch", "foreground"),
        ("hookloop", "foreground"),
        ("hookloop", "background"),
        ("Lightning", "foreground"),
        ("Lightning", "background"),
    ]
    return [each for each in wanted if importlib.util.find_spec(each[0].lower()) is not None]


def measure(
    size: str,
    folder: Path | None,
    rounds: int,
    saves: int,
    report: Callable[[str], None],
    wanted: Sequence[tuple[str, str]] | None = None,
) -> Measured:
    """Let each subject save so many times in each round.

    Args:
        size: a key of SIZES.
        folder: on which disk files are written; None is where temporary files go.
        rounds: processes of each subject, in turns, beginning with another one each time.
        saves: that are counted in a process.
        report: is told how far it is.
        wanted: which subjects; None is all that are installed.
    """
    found = list(subjects() if wanted is None else wanted)
    measured: Measured = {f"{name} {how}": {} for name, how in found}
    for index in range(rounds):
        for turn in range(len(found)):
            name, how = found[(index + turn) % len(found)]
            report(f"{size}: round {index + 1} of {rounds}, {name} {how}")
            for quantity, values in _run(name, how, size, folder, saves).items():
                measured[f"{name} {how}"].setdefault(quantity, []).extend(values)
    return measured


def _run(name: str, how: str, size: str, folder: Path | None, saves: int) -> dict[str, list[float]]:
    with tempfile.TemporaryDirectory(dir=folder) as own:
        command = [sys.executable, "-W", "ignore", str(CHILD), name, size, own, str(saves), how]
        output = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
    result: dict[str, list[float]] = json.loads(output.stdout.splitlines()[-1])
    return result
