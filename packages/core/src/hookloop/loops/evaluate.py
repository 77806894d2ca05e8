"""Validation and test: batches without gradients, inside a fit or on their own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from hookloop.hook_checks import check_dataloader_idx, fetches_batches, fit_step, overrides
from hookloop.loops.attention import attend
from hookloop.loops.optimize import step_schedulers
from hookloop.loops.parts import batches_of, strategy_part
from hookloop.loops.signals import preemptible
from hookloop.loops.transfer import transfer_function
from hookloop.loops.validation_plan import is_epoch_of_validation
from hookloop.module import LightningModule
from hookloop.random_state import isolated_random_state
from hookloop.run import Run
from hookloop.run.moment import hold
from hookloop.stage import RunningStage, TrainerFn


def evaluate(run: Run, stage: RunningStage) -> list[dict[str, float]]:
    """Run all batches of the stage's loaders.

        inside a fit, not inside an accumulation window: on_validation_model_zero_grad
        on_validation_model_eval
        on_validation_start, on_validation_epoch_start
        for each loader, for each batch:
            batch to the device
            on_validation_batch_start, validation_step, on_validation_batch_end
            if SIGTERM has come: on_preemption, and the run ends
        epoch metrics are complete
        on_validation_epoch_end
        the loggers get their row; trainer.callback_metrics has the values
        on_validation_end                   # callbacks of FIRST and NORMAL, the module, MONITOR
        inside a fit: plateau schedulers per step
        on_validation_end                   # callbacks of Order LAST
        on_validation_model_train, or every submodule's mode as it was

    (with "test" for "validation" in a test). Without a single batch nothing of this happens: no hook is called.

    Returns:
        The epoch metrics by loader, as floats; inside a fit nothing, because reading them would wait for the device.
    """
    standalone = run.state.fn is not TrainerFn.FITTING
    sanity = stage is RunningStage.SANITY_CHECKING
    kind = "test" if stage is RunningStage.TESTING else "validation"
    hooks, recorder, progress = run.hooks, run.recorder, run.progress
    if not standalone:
        # What a sanity check asks for does not count in an epoch that does not validate.
        run.loaders.renew("val", progress.epoch, counts=not sanity or is_epoch_of_validation(run))
    loaders = run.loaders.evaluation(stage.dataloader_prefix)
    run.loaders.tell_epoch(stage.dataloader_prefix, progress.epoch)
    batches = run.loaders.sanity_batches() if sanity else run.loaders.batches[stage.dataloader_prefix]
    if not any(batches):
        return [{} for _ in range(max(len(loaders), 1))] if standalone else []
    step = evaluation_step(run, f"{kind}_step", len(loaders))
    if not standalone and not sanity:
        hold(run)
    if not standalone and not sanity and progress.window_filled == 0:
        hooks.own.on_validation_model_zero_grad()
    outer = recorder.begin(training=False)
    metrics: list[dict[str, float]] = []
    try:
        with eval_mode(run, kind), no_gradients(run.inference_mode and standalone), preemptible(run):
            getattr(hooks, f"on_{kind}_start")()
            getattr(hooks, f"on_{kind}_epoch_start")()
            loaders = run.loaders.evaluation(stage.dataloader_prefix)  # a hook may have had them forgotten
            batches = run.loaders.sanity_batches() if sanity else run.loaders.batches[stage.dataloader_prefix]
            streams = list(zip(loaders, batches, strict=True))
            if fetches_batches(run.module, f"{kind}_step"):
                from hookloop.loops.fetching import evaluate_fetching  # a rare kind of step

                evaluate_fetching(run, kind, step, streams, predictions=[])
            else:
                _evaluate_batches(run, kind, step, streams)
            recorder.end_epoch()
            getattr(hooks, f"on_{kind}_epoch_end")()
            if not sanity:
                # Inside a fit the weights are those of the last step; on its own, of all steps so far.
                axis = progress.logged_step if standalone else max(progress.logged_step - 1, 0)
                recorder.send_epoch(axis, progress.epoch)
            if standalone:
                metrics = recorder.evaluation_metrics(len(loaders))
            recorder.end()
            save = hooks.last.on_validation_end
            getattr(hooks, f"on_{kind}_end")()
            if not standalone and not sanity:
                progress.validated_at, progress.unvalidated_ms = progress.batch, 0
                run.held.clear()
                if run.optimization.schedulers and progress.window_filled == 0:
                    step_schedulers(run, "step", plateau=True)
            if save is not None and kind == "validation":
                save()
    finally:
        recorder.resume(outer)
    return metrics


def _evaluate_batches(run: Run, kind: str, step: Callable[..., Any], loaders: list[tuple[Any, float]]) -> None:
    hooks, recorder, state, log_every = run.hooks, run.recorder, run.state, run.limits.log_every_n_steps
    transfer = transfer_function(run)
    batch_start, step_name, batch_end = f"on_{kind}_batch_start", f"{kind}_step", f"on_{kind}_batch_end"
    waiting = f"[_EvaluationLoop].{'test' if kind == 'test' else 'val'}_next"
    several = len(loaders) > 1
    sends_steps = run.state.stage is not RunningStage.SANITY_CHECKING and log_every > 0
    for dataloader_idx, (loader, count) in enumerate(loaders):
        # The index is passed on only where there is something to tell apart.
        which = (dataloader_idx,) if several else ()
        recorder.begin_loader(dataloader_idx if several else None)
        for batch_idx, batch, _ in batches_of(run, waiting, loader, count):
            if transfer is not None:
                batch = transfer(batch, dataloader_idx)
            recorder.batch = batch
            recorder.batch_size = None
            getattr(hooks, batch_start)(batch, batch_idx, *which)
            recorder.hook = step_name
            outputs = step(batch, batch_idx, *which)
            recorder.hook = None
            getattr(hooks, batch_end)(outputs, batch, batch_idx, *which)
            if sends_steps:
                recorder.keep_step(run.progress.epoch)
                if recorder.kept_steps >= log_every:
                    recorder.send_kept_steps()
            if state.attention:
                attend(run)
    recorder.send_kept_steps()


def evaluation_step(run: Run, name: str, loaders: int) -> Callable[..., Any]:
    """A step of the module as the strategy runs it, checked against the number of loaders.

    Raises:
        HookError: the step or a batch hook takes no dataloader_idx, and there are several loaders.
    """
    arguments = ("batch", "batch_idx", "dataloader_idx") if loaders > 1 else ("batch", "batch_idx")
    step = fit_step(run.module, name, arguments)
    kind = name.removesuffix("_step")
    hooks = (f"on_{kind}_batch_start", f"on_{kind}_batch_end")
    check_dataloader_idx((*run.hooks.callbacks, run.module), hooks, several=loaders > 1)
    return strategy_part(run, run.strategy.step_function(step), name)


def sanity_check(run: Run) -> None:
    """Run a few validation batches before training, so that an error there does not cost an epoch.

    Random numbers are drawn as if it had not happened, and what it logs is forgotten.
    """
    run.state.stage = RunningStage.SANITY_CHECKING
    hold(run)
    with isolated_random_state():
        run.hooks.on_sanity_check_start()
        evaluate(run, RunningStage.SANITY_CHECKING)
        run.hooks.on_sanity_check_end()
    run.state.stage = RunningStage.TRAINING
    run.recorder.forget()
    run.held.clear()


def no_gradients(inference_mode: bool) -> torch.inference_mode | torch.no_grad:
    """torch.inference_mode where nothing of it can reach training, else torch.no_grad."""
    return torch.inference_mode() if inference_mode else torch.no_grad()


@contextmanager
def eval_mode(run: Run, kind: str) -> Iterator[None]:
    """The module in eval mode, through its own hooks; afterwards every submodule has the mode that it had.

    A module that overrides on_*_model_train decides itself, but after an error the modes are put back in any case.

    Args:
        run: the run.
        kind: "validation", "test" or "predict".
    """
    modes = [(part, part.training) for part in run.module.modules()]
    back_to_train = f"on_{kind}_model_train"
    decided = False
    try:
        getattr(run.hooks.own, f"on_{kind}_model_eval")()
        yield
        if overrides(run.module, LightningModule, back_to_train):
            getattr(run.hooks.own, back_to_train)()
            decided = True
    finally:
        if not decided:
            for part, training in modes:
                part.training = training
