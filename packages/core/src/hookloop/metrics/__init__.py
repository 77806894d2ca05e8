"""What `self.log` records: accumulators on the device, the rules of each hook, results, and their way to loggers."""

from hookloop.metrics.accumulators import Loggable, Metric
from hookloop.metrics.recorder import NullRecorder, Recorder, log_without_a_run

__all__ = ["Loggable", "Metric", "NullRecorder", "Recorder", "log_without_a_run"]
