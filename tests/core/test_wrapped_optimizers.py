"""The optimizer that users step, where torch wants an optimizer: its class, its schedulers, its state, its copies."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, OneCycleLR, ReduceLROnPlateau, SequentialLR, StepLR

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.optimizers import LightningOptimizer
from hookloop.view import TrainerView

from .recording import Batch, loader, make_trainer


class One(LightningModule):
    """One weight of 4, and a training step by hand that each test brings along."""

    def __init__(self, act: Callable[["One", Any], Any], make: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = nn.Parameter(torch.tensor(4.0))
        self.act, self.make = act, make or (lambda parameters: SGD(parameters, lr=0.25))

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.act(self, self.optimizers())

    def square(self) -> torch.Tensor:
        loss = self.weight.pow(2)
        self.manual_backward(loss)
        return loss

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


def fit(folder: Path, module: LightningModule, batches: int = 1, **arguments: Any) -> int:
    """Fits, and says how many steps were counted."""
    trainer = make_trainer(folder, [], max_epochs=1, **arguments)
    trainer.fit(module, loader(batches))
    return trainer.global_step


def wrapper_of(optimizer: Optimizer) -> LightningOptimizer:
    return LightningOptimizer(optimizer, lambda stepped, closure: stepped.step(closure))


def weight() -> nn.Parameter:
    return nn.Parameter(torch.tensor(4.0))


# Its class


@pytest.mark.parametrize("kind", [SGD, Adam, torch.optim.AdamW, torch.optim.RMSprop])
def test_it_is_of_the_class_of_what_it_wraps(kind: Any) -> None:
    wrapped = wrapper_of(kind([weight()], lr=0.1))
    assert isinstance(wrapped, Optimizer)
    assert isinstance(wrapped, kind)
    assert isinstance(wrapped, LightningOptimizer)
    assert not isinstance(wrapped, torch.optim.Rprop)
    assert wrapped.__class__.__name__ == kind.__name__


def test_dir_lists_what_it_has_and_what_the_optimizer_has() -> None:
    assert {"step", "toggle_model", "optimizer", "param_groups", "zero_grad"} <= set(dir(wrapper_of(SGD([weight()]))))


# What is read from it and written to it


def test_what_is_set_on_it_is_set_on_the_optimizer() -> None:
    optimizer = SGD([weight()], lr=0.1)
    wrapped = wrapper_of(optimizer)
    wrapped.param_groups = [*optimizer.param_groups, {"params": [], "lr": 0.5}]
    wrapped.note = "of mine"
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.5]
    assert optimizer.note == "of mine"  # type: ignore[attr-defined]
    del wrapped.note
    assert not hasattr(optimizer, "note")


def test_a_state_that_is_loaded_into_it_is_the_optimizers() -> None:
    trained = Adam([weight()], lr=0.1)
    trained.param_groups[0]["params"][0].grad = torch.tensor(2.0)
    trained.step()
    fresh = Adam([weight()], lr=0.5)
    wrapper_of(fresh).load_state_dict(wrapper_of(trained).state_dict())
    assert fresh.state_dict()["param_groups"] == trained.state_dict()["param_groups"]
    assert fresh.state_dict()["state"][0]["exp_avg"] == trained.state_dict()["state"][0]["exp_avg"]


def test_a_group_that_is_added_during_a_fit_is_trained(tmp_path: Path) -> None:
    class Grows(One):
        def on_train_start(self) -> None:
            self.late = nn.Parameter(torch.tensor(1.0))
            self.optimizers().add_param_group({"params": [self.late], "lr": 0.5})

    def act(module: Any, optimizer: Any) -> None:
        module.manual_backward(module.weight.pow(2) + module.late)
        optimizer.step()

    module = Grows(act)
    fit(tmp_path, module)
    assert (module.weight.item(), module.late.item()) == (2.0, 0.5)


# Schedulers that are built on it


def schedulers() -> list[Any]:
    def in_sequence(optimizer: Any) -> Any:
        return SequentialLR(optimizer, [StepLR(optimizer, 1), StepLR(optimizer, 2)], milestones=[3])

    return [
        pytest.param(lambda optimizer: StepLR(optimizer, 1), (), id="StepLR"),
        pytest.param(lambda optimizer: LambdaLR(optimizer, lambda step: 0.5**step), (), id="LambdaLR"),
        pytest.param(lambda optimizer: OneCycleLR(optimizer, 1.0, total_steps=9), (), id="OneCycleLR"),
        pytest.param(lambda optimizer: ReduceLROnPlateau(optimizer, patience=0), (1.0,), id="ReduceLROnPlateau"),
        pytest.param(in_sequence, (), id="SequentialLR"),
    ]


@pytest.mark.parametrize(("make", "metric"), schedulers())
def test_a_scheduler_can_be_built_on_it_and_moves_like_one_of_torchs_optimizer(
    make: Callable[[Any], Any], metric: tuple[float, ...], tmp_path: Path
) -> None:
    plain = SGD([weight()], lr=0.25, momentum=0.5)
    scheduler, expected = make(plain), []
    for _ in range(6):
        plain.param_groups[0]["params"][0].grad = torch.tensor(1.0)
        plain.step()
        scheduler.step(*metric)
        expected.append(plain.param_groups[0]["lr"])

    class Schedules(One):
        def on_train_start(self) -> None:
            self.scheduler = make(self.optimizers())

    def act(module: Any, optimizer: Any) -> None:
        module.square()
        optimizer.step()
        module.scheduler.step(*metric)
        rates.append(optimizer.optimizer.param_groups[0]["lr"])

    rates: list[float] = []
    module = Schedules(act, lambda parameters: SGD(parameters, lr=0.25, momentum=0.5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns where it thinks that no step went before
        assert fit(tmp_path, module, batches=6) == 6
    assert rates == expected
    assert len(set(expected)) > 2


def test_a_scheduler_built_on_it_hears_of_the_steps_that_the_trainer_takes_itself(tmp_path: Path) -> None:
    class Automatic(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = weight()

        def on_train_start(self) -> None:
            self.scheduler = StepLR(self.optimizers(), 1, gamma=0.5)

        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return self.weight.pow(2)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.scheduler.step()

        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.25)

    module = Automatic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(tmp_path, module, batches=2)
    assert module.optimizers().param_groups[0]["lr"] == 0.0625
    # 4 - 8 / 4, then an eighth of its slope of 4.
    assert module.weight.item() == 1.5


def test_a_scheduler_that_moves_before_the_first_step_is_still_warned_of(tmp_path: Path) -> None:
    class TooEarly(One):
        def on_train_start(self) -> None:
            StepLR(self.optimizers(), 1).step()

    with pytest.warns(UserWarning, match=r"lr_scheduler\.step\(\)` before `optimizer\.step"):
        fit(tmp_path, TooEarly(lambda module, optimizer: None))


def test_a_wrapped_optimizer_of_an_earlier_fit_may_be_returned_with_a_scheduler_on_it(tmp_path: Path) -> None:
    class Keeps(One):
        kept: Any = None

        def configure_optimizers(self) -> Any:
            if self.kept is None:
                return SGD(self.parameters(), lr=0.25, momentum=0.5)
            return [self.kept], [StepLR(self.kept, 1)]

    def act(module: Any, optimizer: Any) -> None:
        module.kept = optimizer
        optimizer.zero_grad()
        module.square()
        optimizer.step()

    module = Keeps(act)
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module, loader(1))
    first = trainer.optimizers[0]
    trainer.max_epochs = 2
    trainer.fit(module, loader(1))
    assert type(trainer.optimizers[0]) is SGD
    assert trainer.optimizers[0] is first
    # 4, then 2; the second step has a slope of 4 and half of the momentum of the first one's 8.
    assert module.weight.item() == 2.0 - 0.25 * (4.0 + 0.5 * 8.0)
    assert trainer.global_step == 2


# Its step


def test_what_else_step_is_given_reaches_the_optimizer(tmp_path: Path) -> None:
    class Scales(SGD):
        def step(self, closure: Any = None, *, times: int = 1) -> Any:
            loss = None if closure is None else closure()
            for _ in range(times):
                super().step()
            return loss

    def act(module: One, optimizer: Any) -> None:
        module.square()
        optimizer.step(times=2)
        weights.append(module.weight.item())
        optimizer.zero_grad()
        assert optimizer.step(module.square, times=3) == 0.0

    weights: list[float] = []
    assert fit(tmp_path, One(act, lambda parameters: Scales(parameters, lr=0.25))) == 2
    assert weights == [0.0]


def test_a_step_without_a_closure_gives_an_optimizer_of_another_library_none(tmp_path: Path) -> None:
    class Looks(SGD):
        def step(self, closure: Any = None) -> Any:
            seen.append(closure)
            return super().step()

    def act(module: One, optimizer: Any) -> None:
        module.square()
        optimizer.step()

    seen: list[Any] = []
    module = One(act, lambda parameters: Looks(parameters, lr=0.25))
    assert fit(tmp_path, module) == 1
    assert (seen, module.weight.item()) == ([None], 2.0)


def test_every_step_that_is_asked_for_counts_once(tmp_path: Path) -> None:
    class Counts(Callback):
        def __init__(self) -> None:
            self.counts: list[int] = []

        def on_after_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
            self.counts.append(trainer.global_step)

    def act(module: One, optimizer: Any) -> None:
        module.square()
        optimizer.step()
        optimizer.step()

    counts, module = Counts(), One(act)
    trainer = make_trainer(tmp_path, [counts], max_epochs=1)
    trainer.fit(module, loader(2))
    assert counts.counts == [1, 2, 3, 4]
    assert trainer.global_step == 4


def test_torchs_own_gradient_scaler_works_with_it(tmp_path: Path) -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=64.0)

    def act(module: One, optimizer: Any) -> None:
        scaler.scale(module.weight.pow(2)).backward()
        gradients.append(module.weight.grad.item())  # type: ignore[union-attr]
        scaler.step(optimizer)
        scaler.update()

    gradients: list[float] = []
    module = One(act)
    assert fit(tmp_path, module) == 1
    assert (gradients, module.weight.item()) == ([8.0 * 64.0], 2.0)


# Copies


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy, lambda wrapped: pickle.loads(pickle.dumps(wrapped))],
    ids=["copy", "deep", "pickle"],
)
def test_a_copy_is_wrapped_belongs_to_no_run_and_drags_none_along(make: Any, tmp_path: Path) -> None:
    copies: list[Any] = []

    def act(module: One, optimizer: Any) -> None:
        StepLR(optimizer, 1)
        copies.append(make(optimizer))
        module.square()
        optimizer.step()

    fit(tmp_path, One(act))
    (copied,) = copies
    assert type(copied) is LightningOptimizer
    assert isinstance(copied, SGD)
    assert copied.param_groups[0]["lr"] == 0.25
    assert len(pickle.dumps(copied)) < 5000
    for call in (copied.step, lambda: copied.toggle_model().__enter__()):
        with pytest.raises(MisconfigurationError, match="of a SGD is a copy and belongs to no run"):
            call()
