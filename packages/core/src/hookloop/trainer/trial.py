"""`trial`: a few batches of a run, apart from it, after which everything is as it was."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any, cast

from hookloop.callback import Callback
from hookloop.callback_list import CallbackList, as_callbacks
from hookloop.errors import MisconfigurationError
from hookloop.hooks import CompiledHooks
from hookloop.limits import Limits, plain_number
from hookloop.loaders import Loaders
from hookloop.loaders.place import own_generators
from hookloop.loaders.position import load_states, stateful_samplers, states_of
from hookloop.metrics import Recorder
from hookloop.optimizers import Optimization
from hookloop.progress import Progress
from hookloop.random_state import isolated_random_state
from hookloop.run import Run
from hookloop.run.unchanged import unchanged
from hookloop.run.window_start import WindowStart
from hookloop.stage import RunningStage, TrainerFn, TrainerStatus
from hookloop.trainer.attributes import TrainerAttributes
from hookloop.view import TrainerView

_NEVER = 10**9


def run_trial(
    trainer: TrainerAttributes, callbacks: Sequence[Callback], max_steps: int, limit_val_batches: int
) -> None:
    """See `Trainer.trial`."""
    run = trainer._run
    if run is None or trainer.state.status is not TrainerStatus.RUNNING:
        raise MisconfigurationError(
            "trainer.trial() runs batches of the entry point that is under way, and none is. Call it in on_fit_start, "
            "on_validation_start, on_test_start or on_predict_start."
        )
    for name, value, least in (("max_steps", max_steps, 1), ("limit_val_batches", limit_val_batches, 0)):
        if isinstance(value, bool) or not isinstance(plain_number(value), int) or value < least:
            raise MisconfigurationError(f"trainer.trial({name}={value!r}) must be a whole number of at least {least}.")
    state = run.state
    before = state.stage, state.should_stop, state.validation_follows
    with isolated_random_state(), unchanged(run.module, run.datamodule), _apart(trainer, run, max_steps) as apart:
        try:
            state.should_stop = False
            _compile(apart, trainer, callbacks)
            with _loaders_kept(apart, limit_val_batches):
                _run(apart, limit_val_batches)
        finally:
            state.stage, state.should_stop, state.validation_follows = before


@contextmanager
def _apart(trainer: TrainerAttributes, run: Run, max_steps: int) -> Iterator[Run]:
    """A run of the same module that has everything else for itself; meanwhile it is the trainer's."""
    kept = {name: getattr(trainer, name) for name in _PARTS}
    options, precision = trainer._options, run.strategy.precision
    scaling = deepcopy(precision.state_dict())
    limits = _limits_of(trainer._limits, run.state.fn, max_steps)
    recorder = Recorder([], run.strategy.collectives)
    hooks = CompiledHooks(cast(TrainerView, trainer), run.module, run.datamodule, recorder)
    apart = replace(
        run,
        hooks=hooks,
        recorder=recorder,
        training_recorder=recorder,
        loggers=[],
        progress=Progress(),
        limits=limits,
        loaders=Loaders(run.loaders.sources, limits, in_fit=run.state.fn is TrainerFn.FITTING),
        optimization=Optimization(options.gradient_clip_val, options.gradient_clip_algorithm),
        profiler=None,
        held={},
        window_start=WindowStart(),
    )
    for name, part in zip(_PARTS, (apart, apart.progress, limits, apart.optimization, recorder), strict=False):
        setattr(trainer, name, part)
    if trainer._loggers:
        from hookloop.loggers.dummy import DummyLogger  # for code that uses self.logger.experiment

        trainer._loggers = [DummyLogger()]
    hooks.attach()
    try:
        yield apart
    finally:
        try:
            apart.loaders.release()
        finally:
            hooks.detach()
            precision.load_state_dict(scaling)
            for name, part in kept.items():
                setattr(trainer, name, part)


_PARTS = ("_run", "_progress", "_limits", "_optimization", "_fit_recorder", "_loggers", "_callbacks")
"""What of a trainer belongs to the run that it runs."""


def _limits_of(limits: Limits, fn: TrainerFn | None, max_steps: int) -> Limits:
    if fn is TrainerFn.FITTING:
        return replace(
            limits,
            max_steps=max_steps,
            max_epochs=max_steps,  # an epoch has at least one step, unless the module ends it before
            min_steps=0,
            min_epochs=0,
            val_check_interval=1.0,
            check_val_every_n_epoch=_NEVER,
            reload_dataloaders_every_n_epochs=0,
            log_every_n_steps=0,
        )
    assert fn is not None
    return replace(limits, **{f"limit_{fn.dataloader_prefix}_batches": max_steps}, log_every_n_steps=0)


def _compile(apart: Run, trainer: TrainerAttributes, callbacks: Sequence[Callback]) -> None:
    given = as_callbacks(callbacks)
    trainer._callbacks = CallbackList(given, lambda callback: None)
    apart.hooks.compile(trainer._callbacks)


@contextmanager
def _loaders_kept(apart: Run, limit_val_batches: int) -> Iterator[None]:
    """The loaders are asked for; afterwards they draw and give what they would have."""
    loaders, fn = apart.loaders, apart.state.fn
    assert fn is not None
    stages = [fn.dataloader_prefix]
    if fn is TrainerFn.FITTING:
        loaders.training()
        if limit_val_batches and loaders.validates:
            loaders.evaluation("val")
            stages.append("val")
    else:
        loaders.evaluation(fn.dataloader_prefix)
    kept: list[tuple[Any, Any]] = []
    generators: list[tuple[Any, Any]] = []
    samplers: list[tuple[Any, Any]] = []
    for part in (part for stage in stages for part in loaders.parts[stage]):
        if isinstance(part, Iterator):
            raise MisconfigurationError(
                f"trainer.trial() reads batches, and the {type(part).__name__} that gives them can be gone through "
                "once: they would be missing afterwards. Pass an iterable that begins anew, such as a DataLoader."
            )
        generators += [(one, one.get_state()) for one in own_generators(part)]
        if hasattr(part, "state_dict") and hasattr(part, "load_state_dict"):
            kept.append((part, deepcopy(part.state_dict())))
        elif hasattr(part, "sampler"):
            own = stateful_samplers(part)
            samplers.append((own, states_of(own)))
    try:
        yield
    finally:
        for part, state in kept:
            part.load_state_dict(state)
        for own, states in samplers:
            load_states(own, states)
        for generator, drawn in generators:
            generator.set_state(drawn)


def _run(apart: Run, limit_val_batches: int) -> None:
    from hookloop.loops import configure_optimization, evaluate, predict, train, validates

    state, fn = apart.state, apart.state.fn
    if fn is TrainerFn.PREDICTING:
        predict(apart, return_predictions=False)
    elif fn is not TrainerFn.FITTING:
        assert state.stage is not None
        evaluate(apart, state.stage)
    else:
        configure_optimization(apart)
        if apart.module.automatic_optimization:
            apart.optimization.schedulers.clear()  # they may wait for a metric that a few batches do not log
        state.stage = RunningStage.TRAINING
        train(apart)
        if limit_val_batches and validates(apart):
            counts = apart.loaders.batches["val"]
            counts[:] = [min(count, limit_val_batches) for count in counts]
            state.stage = RunningStage.VALIDATING
            evaluate(apart, RunningStage.VALIDATING)
