"""Errors in code of the user that no hook stands for: datasets, optimizers, metrics, loggers, profilers."""

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from hookloop import LambdaCallback, LightningModule
from hookloop.profilers import Profiler

from .planted_world import World, assert_failed, assert_the_next_runs_work, check_error, fail, world_with
from .planting import Fault, Mean, Module, Points, breaking, loader


class BrokenSampler(Sampler[int]):
    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[int]:
        self.fault.strike()
        return iter(range(4))


class BrokenStream:
    """Batches without a loader; the error comes after the first one."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[Tensor]:
        yield torch.zeros(2, 2)
        self.fault.strike()
        yield torch.ones(2, 2)


def break_in_backward(fault: Fault) -> Callable[[Tensor], Tensor]:
    """An identity that raises when gradients flow back through it."""

    class Identity(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, tensor: Tensor) -> Tensor:
            return tensor.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            fault.strike()
            return gradients[0]

    return Identity.apply


def collating(fault: Fault) -> DataLoader[Tensor]:
    def collate(points: list[Tensor]) -> Tensor:
        fault.strike()
        return torch.stack(points)

    return DataLoader(Points(), batch_size=2, collate_fn=collate)


def break_optimizer(module: Module, fault: Fault) -> None:
    module.optimizer_class = breaking(torch.optim.SGD, "optimizer", {("optimizer", "step"): fault})


def break_scheduler(module: Module, fault: Fault) -> None:
    module.scheduler_class = breaking(torch.optim.lr_scheduler.StepLR, "scheduler", {("scheduler", "step"): fault})


def break_metric(module: Module, hook: str, fault: Fault) -> None:
    module.metric = breaking(Mean, "metric", {("metric", hook): fault})()


PLACES: dict[str, tuple[str, Callable[[World, Fault], object]]] = {
    "train dataset": ("fit", lambda world, fault: world.set_loader("train", loader(fault))),
    "validation dataset in the sanity check": ("sanity", lambda world, fault: world.set_loader("val", loader(fault))),
    "validation dataset in a fit": ("fit", lambda world, fault: world.set_loader("val", loader(fault))),
    "validation dataset": ("validate", lambda world, fault: world.set_loader("val", loader(fault))),
    "test dataset": ("test", lambda world, fault: world.set_loader("test", loader(fault))),
    "predict dataset": ("predict", lambda world, fault: world.set_loader("predict", loader(fault))),
    "sampler": (
        "fit",
        lambda world, fault: world.set_loader("train", DataLoader(Points(), 2, sampler=BrokenSampler(fault))),
    ),
    "collate function": ("fit", lambda world, fault: world.set_loader("train", collating(fault))),
    "iterable of batches": ("fit", lambda world, fault: world.set_loader("train", BrokenStream(fault))),
    "backward of a layer": ("fit", lambda world, fault: setattr(world.module, "transform", break_in_backward(fault))),
    "optimizer": ("fit", lambda world, fault: break_optimizer(world.module, fault)),
    "update of a metric": ("fit", lambda world, fault: break_metric(world.module, "update", fault)),
    "compute of a metric": ("fit", lambda world, fault: break_metric(world.module, "compute", fault)),
    "reset of a metric": ("fit", lambda world, fault: break_metric(world.module, "reset", fault)),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_error_in_the_users_other_code_reaches_everyone_once(place: str, tmp_path: Path) -> None:
    entry, break_place = PLACES[place]
    fault = Fault(ValueError(place))
    world = world_with(tmp_path, entry, {})
    fault.trace = world.trace
    break_place(world, fault)
    world.note_modes()
    check_error(world, fault, entry)


def test_an_error_in_a_schedulers_step_reaches_everyone_once(tmp_path: Path) -> None:
    # torch steps a scheduler once when it is made, so the error is armed later.
    fault = Fault(ValueError("scheduler"), armed=False)

    def arm(trainer: Any, pl_module: LightningModule) -> None:
        fault.armed = fault.strikes == 0

    world = world_with(tmp_path, "fit", {}, extra=(LambdaCallback(on_train_start=arm),))
    fault.trace = world.trace
    break_scheduler(world.module, fault)
    check_error(world, fault, "fit")


class ExplodingPoints(Points):
    """Raises in whatever process it is asked."""

    def __getitem__(self, index: int) -> Tensor:
        raise ValueError(f"point {index} exploded")


def test_an_error_in_a_loaders_worker_reaches_everyone_and_leaves_no_worker(tmp_path: Path) -> None:
    world = world_with(tmp_path, "fit", {})
    world.set_loader("train", DataLoader(ExplodingPoints(), batch_size=2, num_workers=2))
    error: BaseException | None = None
    try:
        world.run("fit")
    except ValueError as raised:
        error = raised.with_traceback(None)
    assert error is not None
    assert "point 0 exploded" in str(error)
    assert [witness.exceptions[0][2] is error for witness in world.witnesses] == [True] * len(world.witnesses)
    assert multiprocessing.active_children() == []
    assert [event for event in world.trace if event[1] == "teardown"] == [
        (name, "teardown") for name in world.setup_order
    ]
    world.set_loader("train", loader())
    assert_the_next_runs_work(world, "fit")


@pytest.mark.parametrize("entry", ["fit", "validate", "test"])
@pytest.mark.parametrize("position", [0, 1])
def test_an_error_while_logging_reaches_everyone_and_every_logger_is_finalized(
    entry: str, position: int, tmp_path: Path
) -> None:
    names = ("alpha", "beta")
    fault = Fault(OSError("disk full"))
    world = world_with(tmp_path, entry, {(names[position], "log_metrics"): fault}, loggers=names)
    check_error(world, fault, entry)


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
@pytest.mark.parametrize("position", [0, 1])
def test_an_error_in_finalize_reaches_everyone_and_every_other_logger_is_finalized(
    entry: str, position: int, tmp_path: Path
) -> None:
    names = ("alpha", "beta")
    fault = Fault(OSError("disk full"))
    world = world_with(tmp_path, entry, {(names[position], "finalize"): fault}, loggers=names)
    fail(world, fault, entry)
    assert [name for name, event in world.trace if event in ("success", "failed")] == [names[1 - position]]
    assert [event for event in world.trace if event[1] == "on_exception"] == [
        (name, "on_exception") for name in world.exception_order
    ]
    assert [event for event in world.trace if event[1] == "teardown"] == [
        (name, "teardown") for name in world.setup_order
    ]
    assert_failed(world, fault, entry)
    fault.armed = False
    assert_the_next_runs_work(world, entry)


@pytest.mark.parametrize("hook", ["setup", "describe", "teardown"])
def test_an_error_in_a_profiler_reaches_everyone_once(hook: str, tmp_path: Path) -> None:
    fault = Fault(OSError("disk full"))
    closed: list[str] = []

    class Closing(Profiler):
        def teardown(self, stage: str) -> None:
            closed.append(stage)

    profiler = breaking(Closing, "profiler", {("profiler", hook): fault})()
    world = world_with(tmp_path, "fit", {}, profiler=profiler)
    fault.trace = world.trace
    fail(world, fault, "fit")
    assert_failed(world, fault, "fit")
    assert [event for event in world.trace if event[1] == "teardown"] == [
        (name, "teardown") for name in (world.setup_order if hook != "setup" else [])
    ]
    assert closed == ([] if hook == "teardown" else ["fit"])
    fault.armed = False
    assert_the_next_runs_work(world, "fit")
