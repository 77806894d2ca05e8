"""Lightning's users import `Logger`, `DummyLogger`, `rank_zero_experiment` and `merge_dicts` from here."""

from hookloop.loggers.base import Logger, check_logger, log_dir_of
from hookloop.loggers.dummy import DummyExperiment, DummyLogger, rank_zero_experiment
from hookloop.loggers.merge import merge_dicts

__all__ = [
    "DummyExperiment",
    "DummyLogger",
    "Logger",
    "check_logger",
    "log_dir_of",
    "merge_dicts",
    "rank_zero_experiment",
]
