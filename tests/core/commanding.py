"""The command line in this process, and in one of its own."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from hookloop.cli.main import main
from hookloop.discovery import DISABLE_VARIABLE


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands in this process, and takes what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Said:
        self._capsys.readouterr()
        code = main([str(one) for one in arguments])
        printed = self._capsys.readouterr()
        return Said(code, printed.out, printed.err)


def in_a_process(*arguments: str | Path, path: Path | None = None, **environment: str) -> Said:
    """`python -m hookloop` in a fresh process; `path` is a folder on its path."""
    paths = [*([str(path)] if path else []), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {key: value for key, value in os.environ.items() if key != DISABLE_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hookloop", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
    )
    return Said(done.returncode, done.stdout, done.stderr)
