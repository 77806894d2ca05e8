"""Fresh processes, one subject after the other, round after round."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .subject import Subject

CHILD = Path(__file__).with_name("child.py")

QUANTITIES = ("milliseconds", "modules", "megabytes")


def measure(
    subjects: Sequence[Subject], rounds: int, report: Callable[[str], None]
) -> dict[str, dict[str, list[float]]]:
    """Import each subject in `rounds` processes of its own.

    Returns:
        By subject, then by quantity, a value for each round.
    """
    for subject in subjects:
        _import(subject)  # writes the compiled files
    values: dict[str, dict[str, list[float]]] = {
        subject.name: {quantity: [] for quantity in QUANTITIES} for subject in subjects
    }
    for index in range(rounds):
        report(f"round {index + 1} of {rounds}")
        for subject in subjects:
            for quantity, value in _import(subject).items():
                values[subject.name][quantity].append(value)
    return values


def _import(subject: Subject) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", str(CHILD), *subject.modules]
    # Where nothing is compiled beforehand, one would measure Python's compiler.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment).stdout
    measured: dict[str, float] = json.loads(output.splitlines()[-1])
    return measured
