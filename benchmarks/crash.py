"""Training that is killed at random moments and started again: what `python dev.py bench crash` runs.

It compares what is computed with what a job that nobody kills computes, and measures nothing. The job, and what kills
it, are in tests/together/crash, where a shorter version is a test.
"""

import runpy
import sys
from pathlib import Path

# Python puts this folder here, which has a module of the same name: this one.
sys.path[0] = str(Path(__file__).resolve().parents[1] / "tests" / "together")

runpy.run_module("crash", run_name="__main__", alter_sys=True)
