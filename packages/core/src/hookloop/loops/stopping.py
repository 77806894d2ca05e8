"""When training ends."""

from hookloop.run import Run


def limit_reached(run: Run) -> str | None:
    """The name of the limit that ends training, if one does."""
    limits, progress = run.limits, run.progress
    if limits.max_steps != -1 and progress.global_step >= limits.max_steps:
        return "max_steps"
    if limits.max_epochs != -1 and progress.epoch >= limits.max_epochs:
        return "max_epochs"
    return None


def may_stop(run: Run) -> bool:
    """Whether somebody asked to stop, and training has gone on for as long as it must."""
    limits, progress = run.limits, run.progress
    return run.state.should_stop and progress.epoch >= limits.min_epochs and progress.global_step >= limits.min_steps
