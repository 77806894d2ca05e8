"""The loops: functions over a Run. None of them sees the Trainer."""

from hookloop.loops.evaluate import evaluate, sanity_check
from hookloop.loops.guard import Closing, guarded, guarded_steps
from hookloop.loops.optimize import configure_optimization
from hookloop.loops.parts import part, strategy_part
from hookloop.loops.predict import predict, predictions
from hookloop.loops.train import estimated_stepping_batches, train
from hookloop.loops.validation_plan import validates

__all__ = [
    "Closing",
    "configure_optimization",
    "estimated_stepping_batches",
    "evaluate",
    "guarded",
    "guarded_steps",
    "part",
    "predict",
    "predictions",
    "sanity_check",
    "strategy_part",
    "train",
    "validates",
]
