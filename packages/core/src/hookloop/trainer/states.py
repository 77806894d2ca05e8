"""The states of a trainer, where Lightning's users look for them."""

from hookloop.stage import RunningStage, TrainerFn, TrainerState, TrainerStatus

__all__ = ["RunningStage", "TrainerFn", "TrainerState", "TrainerStatus"]
