"""The bodies of the Trainer's entry points: setting up, restoring, running the loops, in this order.

Functions over a Run; the loops know nothing of checkpoints, and the checkpoint connector nothing of loops.
"""

from pathlib import Path
from typing import Any

from hookloop.checkpoint import restore_module_and_callbacks, restore_training
from hookloop.loops import configure_optimization, evaluate, predict, sanity_check, train, validates
from hookloop.run import Run
from hookloop.stage import RunningStage


def run_fit(run: Run, anew: bool, checkpoints: list[dict[str, Any]]) -> None:
    """Fit; progress begins anew, or goes on after the last epoch that was finished.

    In this order:

        prepare_data, setup of everybody, configure_model
        restore: module, datamodule, callbacks
        the module to its device; configure_optimizers
        on_fit_start; loggers draw the module
        restore: progress, optimizers, schedulers, precision
        sanity check, unless restored
        train
        on_fit_end
    """
    # Taken out of the list, so that nobody up the stack keeps its tensors for as long as training goes on.
    checkpoint = checkpoints.pop() if checkpoints else None
    if anew:
        run.progress.restart()
    elif run.progress.epoch_started and not run.progress.epoch_ended:
        run.progress.restart_epoch()  # it was interrupted; its loader begins anew, and so does the epoch
    _set_up_and_restore(run, checkpoint)
    run.strategy.place(run.module)
    configure_optimization(run)
    run.hooks.on_fit_start()
    for logger in run.loggers:
        logger.log_graph(run.module)
    if checkpoint is not None:
        restore_training(run, checkpoint)
        del checkpoint  # its tensors are copied; a long run need not keep them
    elif run.limits.num_sanity_val_steps and validates(run):
        sanity_check(run)
    train(run)
    run.hooks.on_fit_end()


def run_evaluation(
    run: Run, stage: RunningStage, ckpt_path: str | Path | None, weights_only: bool
) -> list[dict[str, float]]:
    """Validate or test: set up, restore the module and the callbacks if asked, run the loaders."""
    _set_up_and_restore(run, None if ckpt_path is None else run.strategy.load_checkpoint(ckpt_path, weights_only))
    run.strategy.place(run.module)
    return evaluate(run, stage)


def run_prediction(
    run: Run, return_predictions: bool, ckpt_path: str | Path | None, weights_only: bool
) -> list[Any] | None:
    """Predict: set up, restore the module and the callbacks if asked, run the loaders."""
    _set_up_and_restore(run, None if ckpt_path is None else run.strategy.load_checkpoint(ckpt_path, weights_only))
    run.strategy.place(run.module)
    return predict(run, return_predictions)


def _set_up_and_restore(run: Run, checkpoint: dict[str, Any] | None) -> None:
    assert run.state.fn is not None
    if run.datamodule is not None:
        run.datamodule.prepare_data()
    run.hooks.own.prepare_data()
    run.strategy.barrier("prepare_data")
    run.hooks.set_up(run.state.fn.value)
    run.hooks.own.configure_model()
    if checkpoint is not None:
        # Before the weights come: float64 ones would be rounded on their way into a module that is float32 still.
        run.strategy.precision.convert_module(run.module)
        restore_module_and_callbacks(run, checkpoint)
