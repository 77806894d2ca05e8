"""Where a run is, and whether it has learned anything between two places."""

from typing import TypeAlias

from hookloop.view import TrainerView

Position: TypeAlias = tuple[int, int, int]
"""Epoch, batches of it that are done, optimizer steps."""


def position_of(trainer: TrainerView) -> Position:
    """Where a run is now."""
    return trainer.current_epoch, trainer.batch_idx, trainer.global_step


def same_weights(one: Position, other: Position) -> bool:
    """Whether nothing was learned between two places. Steps that nobody counts (0) tell nothing."""
    return one == other or one[2] == other[2] > 0
