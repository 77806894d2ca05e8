"""The demo, as the README starts it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_demo_learns_to_read_digits(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "digits.py")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    accuracy = re.search(r"^test accuracy +([01]\.\d+)", done.stdout, re.MULTILINE)
    assert accuracy, done.stdout
    assert float(accuracy[1]) >= 0.97
