"""A trainer with witnesses around planted errors, and the promise that is checked after each of them."""

import signal
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, Order, Trainer
from hookloop.loggers import Logger

from .planting import (
    WITNESSES,
    Data,
    EarlyListener,
    Fault,
    Faults,
    Module,
    RecordingLogger,
    Saver,
    Trace,
    Witness,
    breaking,
)

EPOCHS = 2

FUNCTION_OF_ENTRY = {
    "fit": "fit",
    "sanity": "fit",
    "resume": "fit",
    "validate": "validate",
    "validate-checkpoint": "validate",
    "test": "test",
    "predict": "predict",
}


@dataclass
class World:
    """A trainer with witnesses of every order around the place where an error is planted, and all that it runs."""

    folder: Path
    trace: Trace
    module: Module
    data: Data | None
    callbacks: list[Callback]
    loggers: list[Logger]
    checkpoint: Path
    arguments: dict[str, Any]
    trainer: Trainer = field(init=False)
    modes: dict[str, bool] = field(init=False)
    handlers: dict[int, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.make_trainer()
        self.note_modes()
        self.handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note_modes(self) -> None:
        """Remember which parts of the module are in train mode."""
        self.modes = {name: part.training for name, part in self.module.named_modules()}

    def set_loader(self, stage: str, batches: Any) -> None:
        """Have the datamodule give other batches in one stage."""
        assert self.data is not None
        self.data.loaders[stage] = batches

    def make_trainer(self) -> None:
        """A trainer of these callbacks and loggers."""
        self.trainer = Trainer(
            accelerator="cpu",
            devices=1,
            callbacks=self.callbacks,
            logger=self.loggers,
            default_root_dir=self.folder,
            log_every_n_steps=1,
            gradient_clip_val=1.0,
            registered_callbacks=False,
            **self.arguments,
        )

    @property
    def witnesses(self) -> list[Witness]:
        """Callbacks in the order in which their hooks run."""
        return sorted((c for c in self.callbacks if isinstance(c, Witness)), key=lambda callback: callback.order)

    @property
    def setup_order(self) -> list[str]:
        """Names in the order of setup, and of teardown."""
        early = [witness.name for witness in self.witnesses if witness.order <= Order.NORMAL]
        late = [witness.name for witness in self.witnesses if witness.order > Order.NORMAL]
        return [*(["data"] if self.data else []), *early, "module", *late]

    @property
    def exception_order(self) -> list[str]:
        """Names in the order in which on_exception reaches them."""
        return [*(witness.name for witness in self.witnesses), *(["data"] if self.data else [])]

    def run(self, entry: str, checkpoint: Path | None = None) -> Any:
        """Call an entry point; "sanity" and "resume" are fits."""
        path = None if checkpoint is None else str(checkpoint)
        if entry in ("fit", "sanity", "resume"):
            return self.trainer.fit(self.module, datamodule=self.data, ckpt_path=path)
        if entry in ("validate", "validate-checkpoint"):
            return self.trainer.validate(self.module, datamodule=self.data, ckpt_path=path, verbose=False)
        if entry == "test":
            return self.trainer.test(self.module, datamodule=self.data, ckpt_path=path, verbose=False)
        return self.trainer.predict(self.module, datamodule=self.data, ckpt_path=path)


def world_with(
    folder: Path,
    entry: str,
    faults: Faults,
    *,
    order: Order = Order.NORMAL,
    own_data: bool = False,
    loggers: tuple[str, ...] = ("logger",),
    extra: tuple[Callback, ...] = (),
    epochs: int = EPOCHS,
    **arguments: Any,
) -> World:
    """Build a world with errors planted in it.

    `arguments` go to the Trainer. The user's list of callbacks is out of order on purpose; "planted", of the given
    order, has neighbours on each side.
    """
    trace: Trace = []
    for fault in faults.values():
        fault.trace = trace
    checkpoint = folder / "saved.ckpt"

    def witness(name: str, of: Order) -> Callback:
        callback: Callback = breaking(WITNESSES[of], name, faults)(name, trace)
        return callback

    return World(
        folder=folder,
        trace=trace,
        module=breaking(Module, "module", faults)(trace),
        data=None if own_data else breaking(Data, "data", faults)(trace),
        callbacks=[
            witness("last", Order.LAST),
            witness("monitor", Order.MONITOR),
            witness("before", Order.NORMAL),
            *extra[:1],
            witness("planted", order),
            *extra[1:],
            breaking(EarlyListener, "after", faults)("after", trace),
            witness("first", Order.FIRST),
            breaking(Saver, "saver", faults)("saver", trace, checkpoint),
        ],
        loggers=[breaking(RecordingLogger, name, faults)(trace, name) for name in loggers],
        checkpoint=checkpoint,
        arguments={"max_epochs": epochs, "num_sanity_val_steps": 1 if entry == "sanity" else 0, **arguments},
    )


def assert_idle(world: World) -> None:
    """The trainer and the process are as they were before a run."""
    assert world.trainer.state.stage is None
    assert not world.trainer.training
    assert not world.trainer.validating
    assert not world.trainer.testing
    assert not world.trainer.predicting
    assert not world.trainer.sanity_checking
    assert {name: part.training for name, part in world.module.named_modules()} == world.modes
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch.get_default_dtype() is torch.float32
    assert {number: signal.getsignal(number) for number in world.handlers} == world.handlers


def assert_failed(world: World, fault: Fault, entry: str) -> None:
    """State after an error, and who got to know it."""
    function = FUNCTION_OF_ENTRY[entry]
    assert world.trainer.state.fn == function
    assert world.trainer.state.status == "interrupted"
    assert world.trainer.interrupted
    assert_idle(world)
    for witness in world.witnesses:
        assert len(witness.exceptions) == 1, witness.name
        trainer, module, exception = witness.exceptions[0]
        assert exception is fault.error
        assert trainer is world.trainer
        assert module is world.module
        assert set(witness.stages) <= {function}
    assert set(world.module.stages) <= {function}
    if world.data is not None:
        assert [exception is fault.error for exception in world.data.exceptions] == [True]
        assert set(world.data.stages) <= {function}


def assert_clean_run(world: World, entry: str, checkpoint: Path | None = None) -> None:
    """The same objects run to the end: everyone set up and torn down once more, nobody told of an exception."""
    del world.trace[:]
    world.run(entry, checkpoint)
    counts = Counter(world.trace)
    for name in world.setup_order:
        assert counts[name, "setup"] == 1, name
        assert counts[name, "teardown"] == 1, name
    assert not [event for event in world.trace if event[1] == "on_exception"]
    assert world.trace[-len(world.setup_order) - len(world.loggers) :] == [
        *((name, "teardown") for name in world.setup_order),
        *((str(logger.name), "success") for logger in world.loggers),
    ]
    assert world.trainer.state.status == "finished"
    assert not world.trainer.interrupted
    assert_idle(world)


def assert_the_next_runs_work(world: World, entry: str, checkpoint: Path | None = None) -> None:
    """With the errors gone, the entry point that failed works, and so does a fit to the last epoch."""
    if FUNCTION_OF_ENTRY[entry] != "fit":
        assert_clean_run(world, entry, checkpoint)
        checkpoint = None
    elif checkpoint is None and world.trainer.current_epoch == EPOCHS:
        # The error came after the last epoch: without another one, there is nothing left to do.
        with pytest.warns(UserWarning, match="nothing to train"):
            assert_clean_run(world, entry)
        world.trainer.max_epochs = EPOCHS + 1
    assert_clean_run(world, "fit", checkpoint)
    assert world.trainer.current_epoch == world.trainer.max_epochs
    assert torch.isfinite(world.trainer.callback_metrics["train_loss"])


def fail(world: World, fault: Fault, entry: str, checkpoint: Path | None = None) -> None:
    """Run into the planted error and check that it, unchanged, is what reaches the caller."""
    with pytest.raises(type(fault.error)) as caught:
        world.run(entry, checkpoint)
    assert caught.value is fault.error
    assert fault.strikes == 1
    assert fault.error.__cause__ is None
    assert fault.error.__context__ is None


def check_error(
    world: World,
    fault: Fault,
    entry: str,
    *,
    torn_down: list[str] | None = None,
    checkpoint: Path | None = None,
) -> None:
    """The whole promise, for one error before teardown; `torn_down` (default: all) is whose setup had completed."""
    fail(world, fault, entry, checkpoint)
    assert world.trace[fault.struck_at :] == [
        *((name, "on_exception") for name in world.exception_order),
        *((name, "teardown") for name in (world.setup_order if torn_down is None else torn_down)),
        *((str(logger.name), "failed") for logger in world.loggers),
    ]
    assert not hasattr(fault.error, "__notes__")
    assert_failed(world, fault, entry)
    fault.armed = False
    assert_the_next_runs_work(world, entry, checkpoint)


def check_error_in_teardown(world: World, fault: Fault, owner: str, entry: str) -> None:
    """The whole promise, for a run that fails in the teardown of `owner`, which leaves no trace of its own."""
    fail(world, fault, entry)
    told = [(name, "on_exception") for name in world.exception_order]
    torn_down = [(name, "teardown") for name in world.setup_order if name != owner]
    assert [event for event in world.trace if event[1] == "on_exception"] == told
    assert [event for event in world.trace if event[1] == "teardown"] == torn_down
    assert Counter(world.trace[fault.struck_at :]) - Counter(torn_down) == Counter([*told, ("logger", "failed")])
    assert not hasattr(fault.error, "__notes__")
    assert_failed(world, fault, entry)
    fault.armed = False
    assert_the_next_runs_work(world, entry)
