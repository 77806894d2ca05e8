"""Training: epochs of batches, with validation where it is due."""

import math
import warnings
from contextlib import AbstractContextManager, nullcontext

import torch

from hookloop.errors import MisconfigurationError
from hookloop.loops.attention import attend
from hookloop.loops.evaluate import evaluate
from hookloop.loops.optimize import step_schedulers
from hookloop.loops.parts import batches_of, part, timed_optimizers
from hookloop.loops.signals import preemptible
from hookloop.loops.step import Next, Stepper, finish_window, settle, train_batch
from hookloop.loops.stopping import limit_reached, may_stop
from hookloop.loops.validation_plan import ValidationClock, ValidationPlan, is_epoch_of_validation, validates
from hookloop.progress import NOTHING, PLATEAU_OF_EPOCH
from hookloop.run import GoOn, Run
from hookloop.run.moment import saves_inside_a_batch
from hookloop.stage import RunningStage
from hookloop.warning_categories import PossibleUserWarning


def train(run: Run, go_on: GoOn | None = None, *, restarted: bool = False) -> None:
    """Train until a limit is reached or somebody asks to stop.

        on_train_start
        go_on
        until max_epochs, max_steps, or should_stop (once min_epochs and min_steps are done):
            on_train_epoch_start
            for each batch:
                train_batch                     # see hookloop.loops.step: every hook of a step
                if SIGTERM has come: on_preemption, and the run ends
                if validation is due: evaluate  # see hookloop.loops.evaluate: every hook of validation
            epoch metrics are complete
            on_train_epoch_end                  # callbacks of FIRST and NORMAL, the module, MONITOR
            plateau schedulers per epoch step; the loggers get the epoch's row
            on_train_epoch_end                  # callbacks of Order LAST
        on_train_end

    A run that was restored inside an epoch goes on there: its on_train_epoch_start is not repeated.

    Args:
        run: the run.
        go_on: called when training begins: gives a resumed run what must not be touched by anything before; with False
            if there is nothing left to train.
        restarted: whether this is a job that goes on by itself: then it is no mistake if its training has ended.
    """
    progress, limits = run.progress, run.limits
    if progress.epoch_ended:
        if progress.owes == PLATEAU_OF_EPOCH and go_on is not None:
            step_schedulers(run, "epoch", plateau=True)
        progress.begin_next_epoch()
    if limits.limit_train_batches == 0 or limits.max_epochs == 0 or limits.max_steps == 0:
        return
    # A run that was saved in the step which reached its limit still has the end of that epoch to go through, and one
    # that was saved at the end of its last epoch the end of training.
    asked_to_stop = False
    if not _is_inside_an_epoch(run) and (limit_reached(run) or may_stop(run)):
        # Where training begins, on_train_start may take back what the saved run was asked for.
        asked_to_stop = not limit_reached(run) and go_on is not None and not progress.ended
        if not asked_to_stop:
            _say_why_nothing_is_trained(run, restarted)
        if go_on is None or progress.ended:
            if go_on is not None:
                go_on(False, False)
            return
    progress.ended = False
    run.loaders.training()
    if run.loaders.training_batches == 0:
        return
    # A run that goes on asks anew where it would have asked: for its validation.
    waits = go_on is not None and progress.total_batches > 0 and run.loaders.is_due("val", progress.epoch)
    if validates(run) and not waits and (is_epoch_of_validation(run) or not limits.reload_dataloaders_every_n_epochs):
        run.loaders.renew("val", progress.epoch)
        run.loaders.evaluation("val")
    run.loaders.count_epochs_from(progress.epoch)
    stepper, clock = Stepper.of(run), ValidationClock.of(progress)
    train_epoch = part(run, _train_epoch, "run_training_epoch")
    with torch.enable_grad(), _watching(run), timed_optimizers(run), preemptible(run):
        run.recorder.begin(training=True)
        run.hooks.on_train_start()
        if go_on is not None:
            go_on(True, _is_inside_an_epoch(run) or not (limit_reached(run) or may_stop(run)))
        if asked_to_stop and may_stop(run):
            _say_why_nothing_is_trained(run, restarted)
        while _is_inside_an_epoch(run) or not (limit_reached(run) or may_stop(run)):
            if run.state.attention:
                attend(run)
            if run.loaders.renew("train", progress.epoch):
                stepper = Stepper.of(run)
            train_epoch(run, stepper, clock)
        progress.ended = True
        run.hooks.on_train_end()
        run.recorder.end()


def _say_why_nothing_is_trained(run: Run, restarted: bool) -> None:
    progress, reason = run.progress, limit_reached(run)
    where = f"(epoch {progress.epoch}, step {progress.global_step})"
    if reason is not None:
        text = f"{reason}={getattr(run.limits, reason)} is reached {where}. Raise it to go on: trainer.{reason} = ...."
    else:
        # Who was at the end of training goes through on_train_start no more.
        other = "" if progress.ended else ", or set trainer.should_stop = False in on_train_start"
        text = (
            f"the run was asked to stop before it was saved {where}. To go on all the same, raise max_epochs or "
            f"max_steps above what they were{other}."
        )
    if restarted:
        from hookloop.rank_zero import rank_zero_info  # rarely said

        rank_zero_info(f"Training had ended before, and is not repeated: {text}")
    else:
        warnings.warn(f"There is nothing to train: {text}", category=PossibleUserWarning, stacklevel=3)


def _watching(run: Run) -> AbstractContextManager[None]:
    if not run.detect_anomaly:
        return nullcontext()
    from hookloop.loops.anomalies import naming_the_batch  # only for those who look for one

    return naming_the_batch(run)


def _train_epoch(run: Run, stepper: Stepper, clock: ValidationClock) -> None:
    hooks, recorder, progress, state = run.hooks, run.recorder, run.progress, run.state
    loader = run.loaders.training()
    run.loaders.tell_epoch("train", progress.epoch)
    if not progress.epoch_started:
        progress.epoch_started = True
        hooks.on_train_epoch_start()
    max_steps = run.limits.max_steps
    plan = ValidationPlan.of(run, clock)
    validated = progress.validated_at == progress.batch
    settle(stepper, plan)
    stopping = state.should_stop and may_stop(run)
    if progress.batch and not validated and plan.due(progress.batch, progress.last_batch, stopping):
        _validate(run, clock)  # owed: the checkpoint was taken between the batch and its validation
    stops = 0 <= max_steps <= progress.global_step or (state.should_stop and may_stop(run))
    go_on = Next.GO_ON
    cut, following = not progress.last_batch and stops, go_on
    run_batch = part(run, train_batch, "run_training_batch")
    waiting = "[_TrainingEpochLoop].train_dataloader_next"
    windows = None
    if not cut and saves_inside_a_batch(run):
        from hookloop.run.windows import Windows  # few runs

        windows = Windows(run)
        windows.begin()
    batches = iter(()) if cut else batches_of(run, waiting, loader, stepper.training_batches, skip=progress.batch)
    if windows is not None:
        batches = windows.around(batches)
    if stepper.feed is not None:
        from hookloop.loops.fetching import fed  # a rare kind of step

        batches = fed(run, stepper.feed, batches, stepper.training_batches, progress.batch)
    try:
        for batch_idx, batch, is_last in batches:
            following = run_batch(stepper, plan, batch, batch_idx, is_last)
            if state.attention:
                attend(run)  # a validation that is due is owed by whoever resumes
            if following is not go_on:
                if following is Next.END_EPOCH:
                    break
                _validate(run, clock)
            cut = not is_last and (0 <= max_steps <= progress.global_step or (state.should_stop and may_stop(run)))
            if cut:
                break
    except StopIteration:
        if stepper.feed is None or not stepper.feed.done:
            raise
        from hookloop.loops.fetching import drop_step

        drop_step(run)  # it asked for one batch more than there were
    del batches  # ends the workers of an epoch that was left early
    if progress.batch == 0 and following is not Next.END_EPOCH and not cut:
        raise MisconfigurationError(
            f"The training dataloader gave no batch in epoch {progress.epoch}. An iterator or a generator can be gone "
            "through once: pass an iterable that begins anew each time, such as a DataLoader, or set max_epochs=1."
        )
    if not cut and following is not Next.END_EPOCH:
        _end_of_data(stepper, plan, clock)
    if not cut and not progress.epoch_schedulers_stepped:
        step_schedulers(run, "epoch", plateau=False)  # no batch was known to be the epoch's last
    progress.epoch_ended = True
    recorder.end_epoch()
    save = hooks.last.on_train_epoch_end
    progress.owes = PLATEAU_OF_EPOCH
    hooks.on_train_epoch_end()
    step_schedulers(run, "epoch", plateau=True)
    progress.owes = NOTHING
    recorder.send_epoch(max(progress.logged_step - 1, 0), progress.epoch)
    if save is not None:
        save()
    recorder.end()
    recorder.begin(training=True)
    progress.begin_next_epoch()


def _end_of_data(stepper: Stepper, plan: ValidationPlan, clock: ValidationClock) -> None:
    """Catch up on what waits for the epoch's last batch, if no batch was known to be it."""
    run, progress = stepper.run, stepper.run.progress
    if progress.last_batch and not progress.window_filled:
        return
    owed = not progress.last_batch and plan.interval == math.inf
    finish_window(stepper, validates=owed)
    progress.last_batch = True
    if owed:
        _validate(run, clock)


def _is_inside_an_epoch(run: Run) -> bool:
    """Whether a checkpoint from inside an epoch was restored, and that epoch is to be finished."""
    max_epochs = run.limits.max_epochs
    return run.progress.epoch_started and (max_epochs == -1 or run.progress.epoch < max_epochs)


def _validate(run: Run, clock: ValidationClock) -> None:
    """Validate inside a fit, and go on as before."""
    run.state.stage = RunningStage.VALIDATING
    part(run, evaluate, "run_validation")(run, RunningStage.VALIDATING)
    clock.restart()
    run.state.stage = RunningStage.TRAINING


def estimated_stepping_batches(run: Run) -> float:
    """Optimizer steps of the whole fit, `math.inf` if it cannot be known; asks for the training loader."""
    limits = run.limits
    run.loaders.training()
    batches = run.loaders.training_batches
    if batches == math.inf or limits.max_epochs == -1:
        return math.inf if limits.max_steps == -1 else limits.max_steps
    steps = math.ceil(batches / limits.accumulate_grad_batches) * limits.max_epochs
    return steps if limits.max_steps == -1 else min(steps, limits.max_steps)
