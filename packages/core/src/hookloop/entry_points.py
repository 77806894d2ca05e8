"""The bodies of the Trainer's entry points: setting up, restoring, running the loops, in this order.

Functions over a Run; the loops know nothing of checkpoints, and the checkpoint connector nothing of loops.
"""

from collections.abc import Iterator
from typing import Any

from hookloop.checkpoint import restore_module_and_callbacks, restore_training, understood
from hookloop.datamodule import LightningDataModule
from hookloop.loops import (
    configure_optimization,
    evaluate,
    part,
    predict,
    predictions,
    sanity_check,
    strategy_part,
    train,
    validates,
)
from hookloop.module import LightningModule
from hookloop.run import Run
from hookloop.stage import RunningStage


def run_fit(run: Run, anew: bool, checkpoints: list[dict[str, Any]], *, restarted: bool = False) -> None:
    """Fit; progress begins anew, or goes on after the last epoch that was finished.

    Args:
        run: the run.
        anew: whether progress begins anew, if no checkpoint is restored.
        checkpoints: what to restore, alone in a list, or nothing. It is taken out, so that nobody up the stack keeps
            its tensors for as long as training goes on.
        restarted: whether this is a job that goes on by itself: then it is no mistake if its training has ended.

    In this order:

        prepare_data, setup of everybody, configure_model
        restore: module, datamodule, callbacks
        the module to its device; configure_optimizers
        on_fit_start
        the hyperparameters to the loggers, which draw the module
        restore: progress, optimizers, schedulers, precision
        sanity check, unless restored
        train
        on_fit_end
    """
    checkpoint = _taken(run, checkpoints)
    # Until a resumed run has taken over where it is, that is what a save writes.
    run.held.update(checkpoint or {})
    _settings(run)  # if two of them contradict each other, it is said now
    _warn_of_settings_that_no_file_holds(run)
    if anew:
        run.progress.restart()
    elif run.progress.epoch_started and not run.progress.epoch_ended:
        run.progress.restart_epoch()  # it was interrupted; its loader begins anew, and so does the epoch
    part(run, _set_up_and_restore, "setup")(run, checkpoint)
    strategy_part(run, run.strategy.place, "place")(run.module)
    configure_optimization(run)
    run.hooks.on_fit_start()
    run.recorder.send_hyperparameters(_settings(run))
    for logger in run.loggers:
        logger.log_graph(run.module)
    go_on = None
    if checkpoint is not None:
        go_on = part(run, restore_training, "restore_checkpoint")(run, checkpoint)
        del checkpoint  # its tensors are copied; a long run need not keep them
    elif run.limits.num_sanity_val_steps and validates(run):
        part(run, sanity_check, "run_sanity_check")(run)
    train(run, go_on, restarted=restarted)
    run.hooks.on_fit_end()


def run_evaluation(run: Run, stage: RunningStage, checkpoints: list[dict[str, Any]]) -> list[dict[str, float]]:
    """Validate or test: set up, restore the module and the callbacks if asked, run the loaders."""
    part(run, _set_up_and_restore, "setup")(run, _taken(run, checkpoints))
    strategy_part(run, run.strategy.place, "place")(run.module)
    name = "run_test" if stage is RunningStage.TESTING else "run_validation"
    return part(run, evaluate, name)(run, stage)


def run_prediction(run: Run, return_predictions: bool, checkpoints: list[dict[str, Any]]) -> list[Any] | None:
    """Predict: set up, restore the module and the callbacks if asked, run the loaders."""
    part(run, _set_up_and_restore, "setup")(run, _taken(run, checkpoints))
    strategy_part(run, run.strategy.place, "place")(run.module)
    return part(run, predict, "run_prediction")(run, return_predictions)


def prediction_steps(run: Run, checkpoints: list[dict[str, Any]]) -> Iterator[Any]:
    """The same, batch by batch."""
    part(run, _set_up_and_restore, "setup")(run, _taken(run, checkpoints))
    strategy_part(run, run.strategy.place, "place")(run.module)
    yield from predictions(run)


def _taken(run: Run, checkpoints: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The checkpoint to begin with, whoever wrote it.

    It is taken out of the list, so that nobody up the stack keeps its tensors for as long as training goes on.
    """
    return understood(run, checkpoints.pop()) if checkpoints else None


def _prepare_data(run: Run) -> None:
    if run.datamodule is not None and _prepares(run, run.datamodule):
        run.datamodule.prepare_data()
    if _prepares(run, run.module):
        run.hooks.own.prepare_data()
    run.strategy.barrier("prepare_data")


def _set_up_and_restore(run: Run, checkpoint: dict[str, Any] | None) -> None:
    assert run.state.fn is not None
    part(run, _prepare_data, "prepare_data")(run)
    run.hooks.set_up(run.state.fn.value)
    run.hooks.own.configure_model()
    if checkpoint is not None:
        # Before the weights come: float64 ones would be rounded on their way into a module that is float32 still.
        run.strategy.precision.convert_module(run.module)
        part(run, restore_module_and_callbacks, "restore_checkpoint")(run, checkpoint)


def _prepares(run: Run, owner: LightningModule | LightningDataModule) -> bool:
    """Whether this process is the one that downloads and preprocesses, of its machine or of the run."""
    ranks = run.strategy.collectives
    return (ranks.local_rank if owner.prepare_data_per_node else ranks.global_rank) == 0


def _settings(run: Run) -> dict[str, Any]:
    """The hyperparameters of the run that loggers get."""
    owners = [owner for owner in (run.module, run.datamodule) if owner is not None]
    if not run.recorder.loggers or not any(owner._log_hyperparams for owner in owners):
        return {}
    from hookloop.hyperparameters.merged import hyperparameters_to_log  # not by every run

    return hyperparameters_to_log(run.module, run.datamodule)


def _warn_of_settings_that_no_file_holds(run: Run) -> None:
    """Before the first epoch, and not when the first file is written. A run that writes none hears nothing."""
    if not any(callback.family == "checkpoint" for callback in run.hooks.callbacks):
        return
    for owner in (run.module, run.datamodule):
        if owner is not None and owner.hparams:
            from hookloop.hyperparameters.entries import warn_of_what_is_left_out  # not by every run

            warn_of_what_is_left_out(owner)
