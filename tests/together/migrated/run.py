"""Runs one of the scripts in this folder: `python tests/together/migrated/run.py classifier hookloop`.

The scripts are written for Lightning. Before one runs, the root of its imports is changed to the given one, and nothing
else is: what a user does who moves over. The last line that it prints is its result, as JSON.
"""

import os
import re
import sys
from pathlib import Path

SAME_EVERYWHERE = {
    # On one thread, with instructions that every x86-64 processor has: the same sums in the same order.
    "OMP_NUM_THREADS": "1",
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
}
"""Set before torch is imported, so that its results depend on the processor as little as possible."""

_ROOT = re.compile(r"\b(?:lightning\.pytorch|pytorch_lightning)\b|(?<=^import )lightning(?= as )", re.MULTILINE)


def moved(source: str, root: str) -> str:
    """A script's text with the root of its imports changed."""
    return _ROOT.sub(root, source)


def main() -> None:
    name, root, *arguments = sys.argv[1:]
    os.environ.update(SAME_EVERYWHERE)
    path = Path(__file__).with_name(f"{name}.py")
    sys.argv = [str(path), *arguments]
    # Its classes are those of __main__, as if Python had been started with the script itself.
    source = moved(path.read_text(encoding="utf-8"), root)
    exec(compile(source, str(path), "exec"), sys.modules["__main__"].__dict__)


if __name__ == "__main__":
    main()
