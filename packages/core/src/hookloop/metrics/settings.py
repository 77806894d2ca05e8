"""`Settings`: how a key is logged, with everything decided that `self.log` leaves open."""

from typing import Any, NamedTuple

from hookloop.metrics.accumulators import reduction_name
from hookloop.metrics.rules import resolve_step_and_epoch


class Settings(NamedTuple):
    """The arguments of `self.log` that must be the same in every call for a key, under their names there."""

    prog_bar: bool
    logger: bool
    on_step: bool
    on_epoch: bool
    reduce_fx: str
    enable_graph: bool
    sync_dist: bool
    rank_zero_only: bool


def resolve_settings(hook: str | None, name: str, arguments: tuple[Any, ...]) -> Settings:
    """What was passed, in the order of `Settings`, with the hook's defaults for what was left out.

    Raises:
        MisconfigurationError: the hook may not log like that, or the reduction is not known.
    """
    prog_bar, logger, on_step, on_epoch, reduce_fx, enable_graph, sync_dist, rank_zero_only = arguments
    step, epoch = resolve_step_and_epoch(hook, name, on_step, on_epoch)
    logged = True if logger is None else logger
    reduction = reduction_name(name, reduce_fx)
    return Settings(prog_bar, logged, step, epoch, reduction, enable_graph, sync_dist, rank_zero_only)
