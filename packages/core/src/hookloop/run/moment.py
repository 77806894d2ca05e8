"""A moment of a run: everything that goes on from batch to batch beside weights, optimizers and callbacks.

A save writes the moment in which it is made. But what is under way can only be done anew by a resumed run: a
validation, a batch, a window of batches. So a save in the middle of one writes the moment in which that began, which
the loops keep for it (`Run.held`, `Run.window_start`; see `hookloop.run.windows`).
"""

import warnings
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hookloop.callback import Hooks, Order, order_of
from hookloop.hook_checks import overrides
from hookloop.metrics.saving import metric_objects, metric_states
from hookloop.module import LightningModule
from hookloop.random_state import random_state
from hookloop.run.run import Run
from hookloop.warning_categories import PossibleUserWarning

IN_A_BATCH = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks between a batch and its optimizer step: what is saved there goes on at the beginning of the batch's window."""


OF_A_MOMENT = ("callback_metrics", "logged", "random_state", "loaders", "asked_to_stop")
"""The entries of a checkpoint that `moment` gives."""


def moment(run: Run) -> dict[str, Any]:
    """These entries of a checkpoint, as they are now.

        callback_metrics                    # the latest values, for monitors of the resumed run
        logged                              # what the running epoch's means and metric objects have taken in
        random_state, loaders               # of every global generator; where training is in its loaders
        asked_to_stop                       # if somebody did, the limits of now; else None

    Later on they stay as they are, whatever the run does.
    """
    limits, stopping = run.limits, run.state.should_stop
    metrics = metric_objects(run.module)
    return entries_of(
        run.training_recorder.state_dict(metrics),
        metric_states(run.recorder.metrics_to_keep(metrics)),
        random_state(),
        run.loaders.state_dict(),
        {"max_epochs": limits.max_epochs, "max_steps": limits.max_steps} if stopping else None,
    )


def entries_of(
    recorded: dict[str, Any],
    metrics: dict[str, dict[str, Any]],
    random: dict[str, Any],
    loaders: dict[str, Any],
    asked_to_stop: dict[str, int] | None,
) -> dict[str, Any]:
    """The entries that `moment` gives, of what each part said."""
    logged = dict(recorded)
    return {
        "callback_metrics": logged.pop("callback_metrics"),
        "logged": {**logged, "metrics": metrics},
        "random_state": random,
        "loaders": loaders,
        "asked_to_stop": asked_to_stop,
    }


def gradients_of(module: LightningModule) -> dict[str, Tensor]:
    """The gradients that are there, by the names of their parameters."""
    return {name: one.grad for name, one in module.named_parameters() if one.grad is not None}


def hold(run: Run) -> None:
    """What begins now is done anew by a run that is resumed from a save in it, until `run.held` is cleared.

    After an exception it stays: who saves because of it means this moment too.
    """
    run.held.update(moment(run))


def saves_inside_a_batch(run: Run) -> bool:
    """Whether somebody who saves (Order LAST) has a hook in which a batch is under way."""
    return any(
        order_of(callback) is Order.LAST and any(overrides(callback, Hooks, name) for name in IN_A_BATCH)
        for callback in run.hooks.callbacks
    )


def as_it_was(run: Run, checkpoint: dict[str, Any]) -> None:
    """Put the moment that belongs to the run's counters into a checkpoint, in place of the one that is now."""
    progress = run.progress
    earlier: Mapping[str, Any] = run.held
    if not earlier and not progress.batch_counted:
        if progress.global_step == progress.steps_before:
            earlier = run.window_start.entries()
        elif not run.module.automatic_optimization:
            warnings.warn(
                "A checkpoint is saved in the middle of a training_step that has stepped an optimizer by hand. A run "
                "that is resumed from it goes on with the next batch, without the rest of this step. Save in "
                "on_train_batch_end to lose nothing.",
                category=PossibleUserWarning,
                stacklevel=4,
            )
    if progress.batch_counted and progress.window_filled and (entries := run.window_start.entries()):
        checkpoint["window_start"] = dict(entries)  # for a save in the rest of this window
    checkpoint.update({name: value for name, value in earlier.items() if name != BUFFERS})
    if buffers := earlier.get(BUFFERS):
        weights = checkpoint["state_dict"]
        checkpoint["state_dict"] = {name: buffers.get(name, weight) for name, weight in weights.items()}


BUFFERS = "buffers"
"""What a module takes note of in its forward pass, such as the means of a batch norm, by name."""
