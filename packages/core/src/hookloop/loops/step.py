"""One training batch, from the loader to the last hook. The hot path: every line here is paid for by every step."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.optim import Optimizer

from hookloop.batches import map_batch
from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import fetches_batches, fit_step, overrides
from hookloop.hooks import StepCalls
from hookloop.limits import Limits
from hookloop.loops.backward import explain_failed_backward
from hookloop.loops.optimize import (
    before_step,
    gradients_are_there,
    optimizer_step_of_module,
    step_optimizer,
    step_schedulers,
)
from hookloop.loops.parts import strategy_part
from hookloop.loops.stopping import may_stop
from hookloop.loops.transfer import transfer_function
from hookloop.loops.validation_plan import ValidationPlan
from hookloop.metrics import Recorder
from hookloop.module import LightningModule
from hookloop.optimizers import LRSchedulerConfig
from hookloop.progress import NOTHING, PLATEAU_AND_ROW, SCHEDULERS_AND_ROW, Progress
from hookloop.run import Run
from hookloop.stage import TrainerState
from hookloop.warning_categories import PossibleUserWarning

if TYPE_CHECKING:
    from hookloop.loaders.feed import DataLoaderIter


class Next(Enum):
    """What comes after a batch."""

    GO_ON = "the next batch"
    VALIDATE = "validation, then the next batch"
    END_EPOCH = "the end of the epoch, because the module's on_train_batch_start returned -1"


_GO_ON, _VALIDATE = Next.GO_ON, Next.VALIDATE  # an Enum's members are looked up slowly


@dataclass(frozen=True, slots=True)
class Stepper:
    """What all training batches of a fit have in common, looked up once.

    Attributes:
        run: the run.
        training_step: the module's, as the strategy runs it.
        transfer: puts a batch on the device; None if it is there already.
        optimizer: the one that automatic optimization steps; None without one, and in manual optimization.
        steps_directly: whether there is nothing around the optimizer's step but hooks and clipping, and nothing in
            place of zero_grad and backward: most of the steps there are.
        clips: whether the gradients are clipped before a step.
        custom_optimizer_step: whether the module overrides optimizer_step.
        custom_zero_grad: whether it overrides optimizer_zero_grad.
        backward: computes the gradients of a loss; None where that is the tensor's own method and nothing else.
        scale: scales the loss; None where there is nothing to do.
        training_batches: batches of an epoch, `math.inf` if unknown.
        feed: for a training_step(dataloader_iter), which fetches its batches from it; else None.
        hooks: the run's. These and the following are here once more because a step reads them.
        recorder: the run's.
        progress: the run's.
        state: the run's.
        limits: the run's.
        schedulers: the run's.
    """

    run: Run
    training_step: Callable[..., Any]
    transfer: Callable[[Any, int], Any] | None
    optimizer: Optimizer | None
    steps_directly: bool
    clips: bool
    custom_optimizer_step: bool
    custom_zero_grad: bool
    backward: Callable[[Tensor], Any] | None
    scale: Callable[[Tensor], Tensor] | None
    training_batches: float
    feed: "DataLoaderIter | None"
    hooks: StepCalls
    recorder: Recorder
    progress: Progress
    state: TrainerState
    limits: Limits
    schedulers: list[LRSchedulerConfig]

    @classmethod
    def of(cls, run: Run) -> "Stepper":
        """Put together what the steps of this run need."""
        step = fit_step(run.module, "training_step", ("batch", "batch_idx"))
        optimizers = run.optimization.optimizers
        optimizer = optimizers[0] if optimizers and run.module.automatic_optimization else None
        custom_step, custom_zero_grad, custom_backward = (
            overrides(run.module, LightningModule, name)
            for name in ("optimizer_step", "optimizer_zero_grad", "backward")
        )
        backward = run.hooks.own.backward if custom_backward else _backward
        precision = run.strategy.precision
        manual = not run.module.automatic_optimization
        step = strategy_part(run, run.strategy.step_function(step, updates_weights=manual), "training_step")
        transfer, feed = transfer_function(run), None
        if run.detect_anomaly:
            from hookloop.loops.anomalies import watched  # only for those who look for one

            step = watched(run, step)
        if fetches_batches(run.module, "training_step"):
            from hookloop.loaders.feed import DataLoaderIter  # a rare kind of step
            from hookloop.loops.fetching import fetched_by

            feed, transfer = DataLoaderIter(), None
            step = fetched_by(step, feed)
        calls_backward = (
            strategy_part(run, backward, "backward") if custom_backward or run.profiler is not None else None
        )
        scale = precision.scale if precision.scales_loss else None
        directly = optimizer is not None and not custom_step and run.strategy.steps_directly(optimizer)
        return cls(
            run,
            step,
            transfer,
            optimizer,
            directly and not custom_zero_grad and calls_backward is None and scale is None and feed is None,
            run.optimization.clips,
            custom_step,
            custom_zero_grad,
            calls_backward,
            scale,
            run.loaders.training_batches,
            feed,
            run.hooks.of_a_step,
            run.recorder,
            run.progress,
            run.state,
            run.limits,
            run.optimization.schedulers,
        )


def train_batch(stepper: Stepper, plan: ValidationPlan, batch: Any, batch_idx: int, is_last: bool) -> Next:
    """Train on one batch.

        batch to the device
        hooks.on_train_batch_start          # the module's may return -1: the epoch ends here
        the last batch of an accumulation window: module.optimizer_step around the next three lines
            training_step
            first batch of a window: hooks.on_before_zero_grad, module.optimizer_zero_grad
            hooks.on_before_backward, module.backward, hooks.on_after_backward
        (inside optimizer_step) hooks.on_before_optimizer_step, clipping, step, hooks.on_after_optimizer_step
        schedulers
        hooks.on_train_batch_end            # up to Order MONITOR
        plateau schedulers per step         # unless validation follows: then they wait for its metrics
        a row for the loggers every log_every_n_steps
        hooks.last.on_train_batch_end       # Order LAST

    Args:
        stepper: what all batches have in common.
        plan: when the epoch validates.
        batch: as the loader gave it.
        batch_idx: its index in the epoch, 0-based.
        is_last: whether it is the epoch's last.

    Returns:
        What comes next.
    """
    hooks, recorder, progress = stepper.hooks, stepper.recorder, stepper.progress
    if stepper.transfer is not None:
        batch = stepper.transfer(batch, 0)
    recorder.batch = batch
    recorder.batch_size = None
    steps_before = progress.steps_before = progress.global_step
    if progress.window_filled == 0:
        accumulate = stepper.limits.accumulate_grad_batches
        progress.window_size = 1 if accumulate == 1 else int(min(accumulate, stepper.training_batches - batch_idx))
    progress.window_filled += 1
    steps = is_last or progress.window_filled >= progress.window_size
    progress.last_batch = is_last
    progress.accumulating = not steps
    progress.batch_counted = False
    # Here and below, a hook is looked up and then called, in two statements: Python 3.11 makes a method's call of
    # `hooks.name(...)`, which looks through the class first, at every step anew.
    hook = hooks.on_train_batch_start
    if hook is not None and hook(batch, batch_idx) == -1:
        progress.batch_counted = True
        progress.window_filled -= 1
        return Next.END_EPOCH
    if stepper.steps_directly:
        # What _optimize and step_optimizer do, without the calls on the way; and _gradients too, but for what it asks.
        optimizer = stepper.optimizer
        assert optimizer is not None
        if progress.window_size == 1:
            training_step = stepper.training_step
            recorder.hook = "training_step"
            output = training_step(batch, batch_idx)
            recorder.hook = None
            loss = output if isinstance(output, Tensor) else _loss_of(stepper.run.module, output)
            if (hook := hooks.on_before_zero_grad) is not None:
                hook(optimizer)
            optimizer.zero_grad()
            if loss is not None:
                if (hook := hooks.on_before_backward) is not None:
                    hook(loss)
                try:
                    loss.backward()
                except RuntimeError as error:
                    _explain(stepper, error, loss)
                    raise
                if (hook := hooks.on_after_backward) is not None:
                    hook()
        else:
            loss, output = _gradients(stepper, batch, batch_idx)
        if steps:
            if stepper.clips or progress.window_filled < progress.window_size:
                before_step(stepper.run, optimizer)
            elif (hook := hooks.on_before_optimizer_step) is not None:
                hook(optimizer)  # before_step has nothing else to do
            optimizer.step()
            progress.global_step += 1
            if (hook := hooks.on_after_optimizer_step) is not None:
                hook(optimizer)
    else:
        loss, output = _optimize(stepper, batch, batch_idx, steps)
        if stepper.feed is not None and stepper.feed.last is not None:
            batch, batch_idx, _, is_last = stepper.feed.last  # the step may have taken more than one
            progress.last_batch = is_last

    if steps:
        progress.window_filled = 0
        progress.logged_step += 1
    progress.batch = batch_idx + 1
    progress.batch_counted = True
    progress.total_batches += 1
    if stepper.schedulers:
        if progress.global_step > steps_before:  # not where the module's optimizer_step left the step out
            step_schedulers(stepper.run, "step", plateau=False)
        if is_last:
            step_schedulers(stepper.run, "epoch", plateau=False)
            progress.epoch_schedulers_stepped = True
    if steps:
        progress.owes = PLATEAU_AND_ROW
    hook, save = hooks.on_train_batch_end, hooks.save  # who joins in this hook hears of the next one on
    outputs: Any = None
    if hook is not None or save is not None:
        outputs = {"loss": loss.data} if loss is output and loss is not None else _outputs(loss, output)
    if hook is not None:
        hook(outputs, batch, batch_idx)
    state = stepper.state
    validate = plan.interval is not None and plan.due(
        progress.batch, is_last, state.should_stop and may_stop(stepper.run)
    )
    if steps:
        if stepper.schedulers and not validate and progress.global_step > steps_before:
            step_schedulers(stepper.run, "step", plateau=True)
        every = stepper.limits.log_every_n_steps
        if every and (progress.logged_step % every == 0 or state.should_stop):
            recorder.send_step(progress.logged_step - 1, progress.epoch)
        progress.owes = NOTHING
    if save is not None:
        state.validation_follows = validate
        save(outputs, batch, batch_idx)
    return _VALIDATE if validate else _GO_ON


def settle(stepper: Stepper, plan: ValidationPlan) -> None:
    """Do what the last batch owes: it was saved after its optimizer step, and before all that follows was done.

    Args:
        stepper: what all batches have in common.
        plan: when the epoch validates.
    """
    run, progress, state = stepper.run, stepper.run.progress, stepper.run.state
    owed, progress.owes = progress.owes, NOTHING
    if owed == NOTHING:
        return
    if owed == SCHEDULERS_AND_ROW:
        step_schedulers(run, "step", plateau=False)
        if progress.last_batch:
            step_schedulers(run, "epoch", plateau=False)
            progress.epoch_schedulers_stepped = True
    if not plan.due(progress.batch, progress.last_batch, state.should_stop and may_stop(run)):
        step_schedulers(run, "step", plateau=True)
    every = run.limits.log_every_n_steps
    if every and (progress.logged_step % every == 0 or state.should_stop):
        run.recorder.send_step(progress.logged_step - 1, progress.epoch)


def finish_window(stepper: Stepper, validates: bool) -> None:
    """Step the optimizer for the epoch's last window, whose end was not known when its last batch was trained on.

    The loader promised more batches than came, or a step with dataloader_iter took several at once.

    Args:
        stepper: what all batches have in common.
        validates: whether validation follows: then plateau schedulers per step wait for its metrics.
    """
    run, optimizer = stepper.run, stepper.optimizer
    progress = run.progress
    if optimizer is None or progress.window_filled == 0:
        return
    progress.accumulating = False
    if stepper.custom_optimizer_step:
        optimizer_step_of_module(run, progress.batch - 1, gradients_are_there)
    else:
        step_optimizer(run, optimizer)
    progress.window_filled = 0
    progress.logged_step += 1
    step_schedulers(run, "step", plateau=False)
    if not validates:
        step_schedulers(run, "step", plateau=True)
    every = run.limits.log_every_n_steps
    if every and progress.logged_step % every == 0:
        run.recorder.send_step(progress.logged_step - 1, progress.epoch)


def _optimize(stepper: Stepper, batch: Any, batch_idx: int, steps: bool) -> tuple[Tensor | None, Any]:
    """Run training_step and, where the window is complete, the optimizer; returns what `_outputs` needs."""
    run, optimizer = stepper.run, stepper.optimizer
    if optimizer is None and not run.module.automatic_optimization:
        run.recorder.hook = "training_step"
        output = stepper.training_step(batch, batch_idx)
        if not isinstance(output, Tensor | Mapping | None):
            _loss_of(run.module, output)
        run.recorder.hook = None
        return (output if isinstance(output, Tensor) else None), output
    if optimizer is None or not steps:
        return _gradients(stepper, batch, batch_idx)

    loss_and_output: tuple[Tensor | None, Any] | None = None

    def closure() -> Tensor | None:
        nonlocal loss_and_output
        loss_and_output = _gradients(stepper, batch, batch_idx)
        return loss_and_output[0]

    if stepper.custom_optimizer_step:
        optimizer_step_of_module(run, batch_idx, closure)
        if loss_and_output is None:
            raise MisconfigurationError(
                f"{type(run.module).__name__}.optimizer_step did not run its closure, so this "
                "batch was not trained on. "
                "Call optimizer.step(closure=optimizer_closure), or optimizer_closure() where it should not step."
            )
    else:
        step_optimizer(run, optimizer, closure)
    return loss_and_output or (None, None)  # an optimizer of somebody's own may do without its closure


def _gradients(stepper: Stepper, batch: Any, batch_idx: int) -> tuple[Tensor | None, Any]:
    """Run training_step and backward; returns the loss, None if the batch was skipped, and what the step returned."""
    hooks, recorder, progress, optimizer = stepper.hooks, stepper.recorder, stepper.progress, stepper.optimizer
    outer = recorder.hook  # the module's own optimizer_step, which may log too
    recorder.hook = "training_step"
    training_step = stepper.training_step
    output = training_step(batch, batch_idx)
    recorder.hook = outer
    loss = output if isinstance(output, Tensor) else _loss_of(stepper.run.module, output)
    if loss is not None and progress.window_size > 1:
        loss = loss / progress.window_size
    if progress.window_filled == 1 and optimizer is not None:
        if (hook := hooks.on_before_zero_grad) is not None:
            hook(optimizer)
        if stepper.custom_zero_grad:
            stepper.run.hooks.own.optimizer_zero_grad(progress.epoch, batch_idx, optimizer)
        else:
            optimizer.zero_grad()
    if loss is None:
        return None, output
    scaled = loss if stepper.scale is None else stepper.scale(loss)
    if (hook := hooks.on_before_backward) is not None:
        hook(scaled)
    try:
        if stepper.backward is None:
            scaled.backward()
        else:
            stepper.backward(scaled)
    except RuntimeError as error:
        _explain(stepper, error, loss)
        raise
    if (hook := hooks.on_after_backward) is not None:
        hook()
    return loss, output


def _outputs(loss: Tensor | None, output: Any) -> Any:
    """What hooks get at the end of a batch: what training_step returned as a dict, without the graph."""
    # .data is cheaper than detach(), and the graph has been used.
    outputs = {} if loss is None else {"loss": loss.data}
    if output is None or isinstance(output, Tensor):
        return outputs
    return map_batch(Tensor.detach, {**output, **outputs})


def _explain(stepper: Stepper, error: RuntimeError, loss: Tensor) -> None:
    explain_failed_backward(error, f"{type(stepper.run.module).__name__}.training_step returned", loss)


def _backward(loss: Tensor) -> None:
    loss.backward()


def _loss_of(module: LightningModule, output: Any) -> Tensor | None:
    if output is None:
        warnings.warn(
            f"{type(module).__name__}.training_step returned None: nothing is learned from this batch. If that is on "
            "purpose, ignore this.",
            category=PossibleUserWarning,
            stacklevel=2,
        )
        return None
    if isinstance(output, Mapping):
        loss = output.get("loss")
        if isinstance(loss, Tensor) or (loss is None and "loss" in output):
            return loss
        keys = ", ".join(map(repr, output)) or "no key"
        raise MisconfigurationError(
            f"{type(module).__name__}.training_step returned a dict with {keys}, and the loss "
            'tensor is needed under "loss".'
        )
    raise MisconfigurationError(
        f"{type(module).__name__}.training_step returned {output!r} ({type(output).__name__}). Return the loss as a "
        'tensor, a dict that has it under "loss", or None to skip this batch.'
    )
