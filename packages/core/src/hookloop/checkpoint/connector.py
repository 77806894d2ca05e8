"""From a run to a checkpoint and back: named parts, each through its own state_dict()."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from hookloop.callback import Callback
from hookloop.checkpoint.callback_states import callback_packages, callback_states, load_callback_states
from hookloop.checkpoint_file import FORMAT
from hookloop.checkpoint_file.loadable import check_loadable
from hookloop.datamodule import LightningDataModule
from hookloop.errors import CheckpointError
from hookloop.hook_checks import overrides
from hookloop.limits import UNLIMITED, Limits
from hookloop.metrics.saving import load_metric_states, metric_objects
from hookloop.module import LightningModule
from hookloop.module.saving import load_weights
from hookloop.random_state import set_random_state
from hookloop.run import GoOn, Run
from hookloop.run.moment import OF_A_MOMENT, as_it_was, gradients_of, moment
from hookloop.stage import TrainerFn
from hookloop.warning_categories import PossibleUserWarning


def dump(run: Run, weights_only: bool = False) -> dict[str, Any]:
    """Everything that a checkpoint holds.

        format, hookloop_version, torch_version
        epoch, global_step                  # for people; `progress` is what a run resumes from
        state_dict                          # the module
        weights                             # further weights of it by name, if a callback has some
        callbacks, callback_classes         # states by state_key, and who made them
        callback_packages                   # versions of all distributions that callbacks of the run come from
        progress, optimizer_states, lr_schedulers, precision, datamodule
        gradients                           # inside an accumulation window, and in manual optimization
        optimizer_classes, lr_scheduler_classes
        limits                              # those that a resumed run has to have too
        hyper_parameters, hparams_name      # see hyperparameters/entries.py; the same of the datamodule
        window_start                        # see run/moment.py, as are
        callback_metrics, logged, random_state, loaders, asked_to_stop
        on_save_checkpoint of callbacks and module, who may add to it

    Args:
        run: the run.
        weights_only: the module alone: callbacks are asked for weights, not for states, and training cannot be resumed
            from it.

    A run that is no fit, and whose module was not fitted before, has no training state: its file holds the rest.

    Raises:
        CheckpointError: a part of it could not be loaded with weights_only=True; the message names it.
    """
    checkpoint: dict[str, Any] = {
        "format": FORMAT,
        "hookloop_version": _own_version(),
        "torch_version": str(torch.__version__),
        "epoch": run.progress.epoch,
        "global_step": run.progress.global_step,
        "state_dict": run.strategy.module_state_dict(run.module),
    }
    if any(overrides(callback, Callback, "named_weights") for callback in run.hooks.callbacks):
        from hookloop.checkpoint.named_weights import add_named_weights  # not by every save

        add_named_weights(run, checkpoint)
    for owner in (run.module, run.datamodule):
        if owner is not None and owner.hparams:
            from hookloop.hyperparameters.entries import checkpoint_entries  # not by every run

            checkpoint |= checkpoint_entries(owner)
    if weights_only:
        run.hooks.own.on_save_checkpoint(checkpoint)
        check_loadable(checkpoint)
        return checkpoint
    checkpoint["callbacks"], checkpoint["callback_classes"] = callback_states(run.hooks.callbacks)
    checkpoint["callback_packages"] = callback_packages(run.hooks.callbacks)
    optimizers = run.optimization.optimizers
    schedulers = [config.scheduler for config in run.optimization.schedulers]
    if run.state.fn is TrainerFn.FITTING or run.optimization.configured:
        checkpoint["progress"] = run.progress.state_dict()
        if gradients := _gradients_to_keep(run):
            checkpoint["gradients"] = gradients
    checkpoint["optimizer_states"] = [optimizer.state_dict() for optimizer in optimizers]
    checkpoint["optimizer_classes"] = [type(optimizer).__name__ for optimizer in optimizers]
    checkpoint["lr_schedulers"] = [scheduler.state_dict() for scheduler in schedulers]
    checkpoint["lr_scheduler_classes"] = [type(scheduler).__name__ for scheduler in schedulers]
    checkpoint |= moment(run)
    checkpoint["precision"] = run.strategy.precision.state_dict()
    if run.datamodule is not None and overrides(run.datamodule, LightningDataModule, "state_dict"):
        checkpoint["datamodule"] = run.datamodule.state_dict()
    checkpoint["limits"] = {name: str(getattr(run.limits, name)) for name in _SAME_IN_A_RESUMED_RUN}
    as_it_was(run, checkpoint)
    run.hooks.on_save_checkpoint(checkpoint)
    check_loadable(checkpoint)  # before anything is copied or sent away: here the user's code is still on the stack
    return checkpoint


def _gradients_to_keep(run: Run) -> dict[str, Tensor]:
    """The gradients by the names of their parameters, where the next batch may add to them.

    Between two windows they are done with, but manual optimization decides by itself when to clear them, and so does a
    module with an optimizer_zero_grad of its own. In the middle of a batch the window is repeated from its beginning.
    """
    module, progress = run.module, run.progress
    by_itself = not module.automatic_optimization or overrides(module, LightningModule, "optimizer_zero_grad")
    if not progress.batch_counted or not (progress.window_filled or by_itself):
        return {}
    return gradients_of(module)


def _restore_gradients(module: LightningModule, gradients: Mapping[str, Tensor]) -> None:
    parameters = dict(module.named_parameters())
    for name, gradient in gradients.items():
        if name in parameters:
            parameters[name].grad = gradient.to(parameters[name].device, copy=True)


def _own_version() -> str:
    try:
        return version("hookloop")
    except PackageNotFoundError:
        return "unknown"  # run from a source tree that is not installed


def understood(run: Run, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint in hookloop's terms, whoever wrote it: what is restored, and what hooks get to see.

    Raises:
        CheckpointError: it was written by a version of Lightning whose checkpoints are other ones.
    """
    if not _is_lightnings(checkpoint):
        return checkpoint
    from hookloop.checkpoint.lightning import translated  # for those who move over

    datamodule = None if run.datamodule is None else type(run.datamodule).__qualname__
    return translated(checkpoint, run.hooks.callbacks, datamodule, run.limits.accumulate_grad_batches)


def _is_lightnings(checkpoint: Mapping[str, Any]) -> bool:
    return "pytorch-lightning_version" in checkpoint and "hookloop_version" not in checkpoint


def restore_module_and_callbacks(run: Run, checkpoint: dict[str, Any]) -> None:
    """Give the module, the datamodule and the callbacks what a checkpoint holds of them.

    The module's on_load_checkpoint runs before its weights are loaded, the callbacks' after that and before their own
    states. A weights-only checkpoint concerns the module alone.

    Raises:
        CheckpointError: the weights do not fit the module, or a callback's state does not fit its class.
    """
    run.hooks.own.on_load_checkpoint(checkpoint)
    load_weights(
        run.module,
        checkpoint["state_dict"],
        run.module.strict_loading,
        lambda state, strict: run.strategy.load_module_state_dict(run.module, state, strict),
    )
    if run.datamodule is not None and "datamodule" in checkpoint:
        run.datamodule.load_state_dict(checkpoint["datamodule"])
    if "callbacks" not in checkpoint:
        return
    run.hooks.on_load_checkpoint(checkpoint)
    load_callback_states(run.hooks.callbacks, checkpoint["callbacks"], checkpoint.get("callback_classes", {}))


def restore_training(run: Run, checkpoint: dict[str, Any]) -> GoOn:
    """Give progress, optimizers, schedulers and precision what a checkpoint holds of them.

    Returns:
        What gives the running epoch's logged values and the random state back. To be called when training begins, so
        that nothing which happens before has a part in them: with whether there is anything to do, else it is the
        random state alone, and with whether there is an epoch to do.

    Raises:
        CheckpointError: it was saved with weights_only=True, or by a run with other optimizers or schedulers.
    """
    if "progress" not in checkpoint:
        raise CheckpointError(
            "The checkpoint holds no training state, so training cannot be resumed from it: it was saved with "
            "weights_only=True, or by a trainer that had not fitted the module. Choose another one, or load the "
            "weights with model.load_state_dict and start anew."
        )
    run.progress.load_state_dict(checkpoint["progress"])
    _tell_other_limits(run.limits, checkpoint.get("limits", {}))
    done = run.progress.epoch + run.progress.epoch_ended
    if run.limits.max_epochs != -1 and done > run.limits.max_epochs:
        raise CheckpointError(
            f"The checkpoint was saved after {done} epochs, and "
            f"max_epochs={run.limits.max_epochs} ends training before. "
            "Raise max_epochs, or choose an earlier checkpoint."
        )
    logged = checkpoint.get("logged", {})
    run.training_recorder.load_state_dict({**logged, "callback_metrics": checkpoint.get("callback_metrics", {})})
    optimization = run.optimization
    schedulers = [config.scheduler for config in optimization.schedulers]
    if _is_lightnings(checkpoint):
        from hookloop.checkpoint import lightning

        lightning.check_schedulers(schedulers, checkpoint["lr_schedulers"])
    if checkpoint["optimizer_states"] or run.progress.begun:  # else it was saved before there were any
        _load_states("optimizer", optimization.optimizers, checkpoint, "optimizer_states", "optimizer_classes")
        _load_states("scheduler", schedulers, checkpoint, "lr_schedulers", "lr_scheduler_classes")
    run.strategy.precision.load_state_dict(checkpoint["precision"])
    _restore_gradients(run.module, checkpoint.get("gradients", {}))
    run.state.should_stop = _was_asked_to_stop(run.limits, checkpoint.get("asked_to_stop"))
    state, loaders = checkpoint.get("random_state"), checkpoint.get("loaders")
    begin_inside: Callable[[], None] | None = None
    if _is_lightnings(checkpoint):
        from hookloop.checkpoint import lightning

        lightning.check_optimizers(optimization.optimizers)
        lightning.warn_of_what_is_missing(checkpoint)
        begin_inside = partial(lightning.go_on_inside, run.loaders, checkpoint, run.progress.epoch, run.progress.batch)
    run.window_start.restore(checkpoint.get("window_start", {}))
    # What is given back last is what a save has to write until then.
    run.held.clear()
    run.held.update({name: checkpoint[name] for name in OF_A_MOMENT if name in checkpoint})

    def go_on(trains: bool, in_an_epoch: bool) -> None:
        if state is not None:
            set_random_state(state)
        if not trains:
            return
        run.held.clear()
        run.recorder.load_epoch(logged, metric_objects(run.module), run.strategy.root_device)
        load_metric_states(run.module, logged.get("metrics", {}), run.strategy.root_device)
        if loaders is not None:
            run.loaders.load_state_dict(loaders, run.progress.epoch if in_an_epoch else None)
        if begin_inside is not None:
            begin_inside()
        if state is not None:
            set_random_state(state)

    return go_on


_SAME_IN_A_RESUMED_RUN = (
    "accumulate_grad_batches",
    "limit_train_batches",
    "limit_val_batches",
    "val_check_interval",
    "check_val_every_n_epoch",
    "overfit_batches",
    "reload_dataloaders_every_n_epochs",
)
"""What decides which batch is trained on, and what happens after it."""


def _tell_other_limits(limits: Limits, saved: Mapping[str, str]) -> None:
    now = {name: str(getattr(limits, name)) for name in saved}
    differences = [f"{name}={saved[name]} then, {now[name]} now" for name in saved if saved[name] != now[name]]
    if differences:
        warnings.warn(
            f"The checkpoint was saved with other arguments of the Trainer ({'; '.join(differences)}). The run goes "
            "on, but not as the saved run would have. Resume with the same ones to repeat it; ignore this if the "
            "change is on purpose.",
            category=PossibleUserWarning,
            stacklevel=2,
        )


def _was_asked_to_stop(limits: Limits, saved: Mapping[str, Any] | None) -> bool:
    """Whether training is to end as the saved run was asked to. Who has raised a limit since then wants to go on."""
    if saved is None:
        return False
    return not any(_exceeds(getattr(limits, name), saved[name]) for name in ("max_epochs", "max_steps"))


def _exceeds(limit: int, other: int) -> bool:
    return other != UNLIMITED and (limit == UNLIMITED or limit > other)


def _load_states(
    kind: str, parts: Sequence[Any], checkpoint: Mapping[str, Any], states_key: str, names_key: str
) -> None:
    states: list[Any] = checkpoint[states_key]
    names = [type(part).__name__ for part in parts]
    saved_names = checkpoint.get(names_key, names)
    if len(parts) != len(states) or names != saved_names:
        raise CheckpointError(
            f"The checkpoint holds {len(states)} {kind} state(s), and configure_optimizers() returned {len(parts)} "
            f"{kind}(s): {', '.join(saved_names) or 'none'} there, {', '.join(names) or 'none'} here. Return what the "
            "saved run did."
        )
    for part, state in zip(parts, states, strict=True):
        try:
            part.load_state_dict(state)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"The checkpoint's state does not fit the {type(part).__name__} that configure_optimizers() returned: "
                f"{error} Return what the saved run did."
            ) from error
