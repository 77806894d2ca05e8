"""Optimizers in the loops: configuring them, stepping them, and stepping their schedulers."""

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer

from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import overrides
from hookloop.loops.backward import backward_by_hand
from hookloop.module import LightningModule
from hookloop.optimizers import LightningOptimizer, LRSchedulerConfig, resolve_optimizers
from hookloop.run import Run


def configure_optimization(run: Run) -> None:
    """Call configure_optimizers and keep what it returned in `run.optimization`.

    Raises:
        MisconfigurationError: what it returned cannot be used.
    """
    module, optimization = run.module, run.optimization
    name = type(module).__name__
    returned = run.hooks.own.configure_optimizers()
    automatic = module.automatic_optimization  # now, because it may be set there
    optimizers, schedulers = resolve_optimizers(returned, name, automatic)
    if len(optimizers) > 1 and automatic:
        raise MisconfigurationError(
            f"{name}.configure_optimizers() returned {len(optimizers)} optimizers, and automatic optimization steps "
            "one. Set self.automatic_optimization = False in the module and step them in training_step, or use one "
            "optimizer with several parameter groups."
        )
    if not automatic:
        _check_manual(run, name)
    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.LBFGS) and run.limits.accumulate_grad_batches > 1:
            raise MisconfigurationError(
                f"accumulate_grad_batches={run.limits.accumulate_grad_batches} does not work "
                "with LBFGS, which evaluates "
                "the loss several times a step and would add up the gradients of all of them. Use "
                "accumulate_grad_batches=1 and larger batches."
            )
    stepped_by_module = not automatic or overrides(module, LightningModule, "lr_scheduler_step")
    for config in schedulers:
        if (
            not stepped_by_module
            and not isinstance(config.scheduler, _TORCH_SCHEDULERS)
            and not _steps_like_torch(config)
        ):
            raise MisconfigurationError(
                f"{type(config.scheduler).__name__} is no scheduler of torch, and {name} does not define "
                "lr_scheduler_step(self, scheduler, metric). Define it to say how the scheduler steps."
            )
    optimization.clips = automatic and (
        bool(optimization.gradient_clip_val) or overrides(module, LightningModule, "configure_gradient_clipping")
    )
    module._backward_of_run = partial(backward_by_hand, run)
    optimization.configured = True
    optimization.optimizers[:] = optimizers
    optimization.schedulers[:] = schedulers
    optimization.lightning_optimizers[:] = [
        LightningOptimizer(optimizer, partial(_step_on_request, run), module.toggled_optimizer)
        for optimizer in optimizers
    ]


def _check_manual(run: Run, name: str) -> None:
    for argument, value in (
        ("gradient_clip_val", run.optimization.gradient_clip_val),
        ("accumulate_grad_batches", run.limits.accumulate_grad_batches),
    ):
        if value not in (None, 0, 1) or (argument == "gradient_clip_val" and value == 1):
            raise MisconfigurationError(
                f"{argument}={value!r} works with automatic optimization, and {name}.automatic_optimization is False. "
                "Leave it out, and do it in training_step (self.clip_gradients(optimizer, ...), or optimizer.step() "
                "every n batches)."
            )


_TORCH_SCHEDULERS = (torch.optim.lr_scheduler.LRScheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)


def _steps_like_torch(config: LRSchedulerConfig) -> bool:
    # Schedulers of other libraries follow torch's interface without inheriting from it.
    return all(hasattr(config.scheduler, name) for name in ("optimizer", "state_dict", "load_state_dict"))


def step_optimizer(run: Run, optimizer: Optimizer, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
    """Take an optimizer step with everything around it.

        closure()                                  # training_step, zero_grad, backward
        hooks.on_before_optimizer_step(optimizer)  # gradients complete and unscaled
        configure_gradient_clipping
        optimizer.step(); global_step += 1         # torch's own step hooks run around it
        hooks.on_after_optimizer_step(optimizer)   # inside the module's optimizer_step these two wait for its end

    Args:
        run: the run.
        optimizer: torch's optimizer.
        closure: computes the gradients; None if they are there.
        **kwargs: what else the optimizer's `step` gets.

    Returns:
        What the optimizer's step returned.
    """
    result = run.strategy.optimizer_step(optimizer, closure, partial(before_step, run, optimizer), **kwargs)
    if run.recorder.hook == "optimizer_step":
        # As Lightning counts: a warm-up that reads global_step after the step, in the override, finds that of before.
        run.optimization.uncounted.append(optimizer)
    else:
        _count_step(run, optimizer)
    return result


def optimizer_step_of_module(run: Run, batch_idx: int, closure: Callable[[], Any]) -> None:
    """Call the module's own optimizer_step, and count the steps that it took when it is through."""
    optimization = run.optimization
    optimization.uncounted.clear()  # of one that raised
    run.hooks.own.optimizer_step(run.progress.epoch, batch_idx, optimization.lightning_optimizers[0], closure)
    for optimizer in optimization.uncounted:
        _count_step(run, optimizer)
    optimization.uncounted.clear()


def _count_step(run: Run, optimizer: Optimizer) -> None:
    run.progress.global_step += 1
    run.hooks.on_after_optimizer_step(optimizer)


def before_step(run: Run, optimizer: Optimizer) -> None:
    """What has to happen between complete, unscaled gradients and the optimizer's step."""
    progress, optimization = run.progress, run.optimization
    if progress.window_filled not in (0, progress.window_size):
        # The data ended inside a window whose losses were divided by its full size.
        _scale_gradients(optimizer, progress.window_size / progress.window_filled)
    run.hooks.on_before_optimizer_step(optimizer)
    if optimization.clips:
        run.hooks.own.configure_gradient_clipping(
            optimizer, optimization.gradient_clip_val, optimization.gradient_clip_algorithm
        )


def _step_on_request(run: Run, optimizer: Optimizer, closure: Callable[[], Any] | None, **kwargs: Any) -> Any:
    """The step of a `LightningOptimizer`: it may be asked for inside torch.no_grad, and a closure needs gradients."""
    module = run.module
    if module.automatic_optimization and run.recorder.hook == "training_step":
        raise MisconfigurationError(
            f"optimizer.step() was called in {type(module).__name__}.training_step, and with automatic optimization "
            "the trainer steps after it. Leave it out, or set self.automatic_optimization = False and call "
            "self.manual_backward(loss) too."
        )
    if closure is None:
        if isinstance(optimizer, torch.optim.LBFGS):
            raise MisconfigurationError(
                f"{type(optimizer).__name__}.step() needs a closure, because it evaluates the loss several times: a "
                "function that clears the gradients, computes the loss, calls self.manual_backward(loss) and returns "
                "the loss. Pass it: optimizer.step(closure)."
            )
        return step_optimizer(run, optimizer, None, **kwargs)
    return step_optimizer(run, optimizer, torch.enable_grad()(closure), **kwargs)


def gradients_are_there() -> torch.Tensor:
    """The closure of a step whose gradients are there already: any loss will do, None would mean there are none."""
    return torch.tensor(0.0)


def _scale_gradients(optimizer: Optimizer, factor: float) -> None:
    gradients = [
        parameter.grad
        for group in optimizer.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    for gradient in gradients:
        gradient.mul_(factor)


def step_schedulers(run: Run, interval: str, plateau: bool) -> None:
    """Step the schedulers of an interval whose turn it is.

    Args:
        run: the run.
        interval: "step" or "epoch".
        plateau: those that step on a metric, or the others.

    Raises:
        MisconfigurationError: a monitored metric was not logged; the message lists what was.
    """
    if not run.module.automatic_optimization:
        return  # the module steps them itself
    progress = run.progress
    done = progress.global_step if interval == "step" else progress.epoch + 1
    for config in due_schedulers(run.optimization.schedulers, interval, plateau, done):
        metric = None
        if plateau:
            assert config.monitor is not None
            metrics = run.recorder.callback_metrics
            if config.monitor not in metrics and not config.strict:
                warnings.warn(
                    f'The plateau scheduler\'s metric "{config.monitor}" was not logged, so it does not step.',
                    stacklevel=2,
                )
                continue
            from hookloop.monitor import Monitor  # for schedulers that look at a metric

            metric = Monitor(config.monitor).read(metrics)
        run.hooks.own.lr_scheduler_step(config.scheduler, metric)


def due_schedulers(
    schedulers: Iterable[LRSchedulerConfig], interval: str, plateau: bool, done: int
) -> list[LRSchedulerConfig]:
    """Those whose turn it is after `done` steps or epochs."""
    return [
        config
        for config in schedulers
        if config.interval == interval and config.reduce_on_plateau is plateau and done % config.frequency == 0
    ]
