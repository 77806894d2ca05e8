"""Scripts written for Lightning, run there and on hookloop: what `python dev.py bench migrated` runs.

It compares results, bit for bit, and no speed: the scripts and what compares them are in tests/together/migrated.
"""

import runpy
import sys
from pathlib import Path

# Python puts this folder here, which has a module of the same name: this one.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "together")

runpy.run_module("migrated", run_name="__main__")
