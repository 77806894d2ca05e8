"""For whoever writes callbacks: a contract that tries them in real short runs, and parts for tests of one's own."""

from hookloop.testing.check import Report, Result, check_callback
from hookloop.testing.contract import CallbackContract
from hookloop.testing.counting import calls_between, calls_of, calls_per_step
from hookloop.testing.ranks import Ranks, ReplicaStrategy, run_on_ranks
from hookloop.testing.recorder import HookCall, HookRecorder
from hookloop.testing.tiny import TinyDataModule, TinyModule

__all__ = [
    "CallbackContract",
    "HookCall",
    "HookRecorder",
    "Ranks",
    "ReplicaStrategy",
    "Report",
    "Result",
    "TinyDataModule",
    "TinyModule",
    "calls_between",
    "calls_of",
    "calls_per_step",
    "check_callback",
    "run_on_ranks",
]
