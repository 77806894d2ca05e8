"""The step hooks of torch's optimizers (register_step_pre_hook and its kin) in a fit: when they run, what they see."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from hookloop import Callback, LightningModule

from .recording import Batch, loader, make_trainer

Seen = list[tuple[Any, ...]]


class Automatic(LightningModule):
    """One weight of 4 whose loss is its square: the gradient is 8."""

    def __init__(self, make: Callable[[Any], Optimizer] | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(4.0))
        self.make = make or (lambda parameters: SGD(parameters, lr=0.25))

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return self.weight.pow(2)

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters())


class ByHand(Automatic):
    def __init__(self, make: Callable[[Any], Optimizer] | None = None) -> None:
        super().__init__(make)
        self.automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(self.weight.pow(2))
        optimizer.step()


class WithAClosure(ByHand):
    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        optimizer = self.optimizers()

        def closure() -> Any:
            optimizer.zero_grad()
            loss = self.weight.pow(2)
            self.manual_backward(loss)
            return loss

        optimizer.step(closure)


class WithAStepOfItsOwn(Automatic):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


def look(name: str, seen: Seen) -> Callable[..., None]:
    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        weight = optimizer.param_groups[0]["params"][0]
        seen.append((name, weight.item(), None if weight.grad is None else weight.grad.item()))

    return hook


class Registers(Callback):
    """Registers hooks with the optimizer, and writes down its own around the step."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def on_train_start(self, trainer: Any, pl_module: LightningModule) -> None:
        trainer.optimizers[0].register_step_pre_hook(look("pre", self.seen))
        trainer.optimizers[0].register_step_post_hook(look("post", self.seen))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        self.seen.append(("before", pl_module.weight.item(), pl_module.weight.grad.item()))

    def on_after_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Optimizer) -> None:
        self.seen.append(("after", pl_module.weight.item(), pl_module.weight.grad.item()))


def fit(folder: Path, module: LightningModule, *callbacks: Callback, **arguments: Any) -> None:
    make_trainer(folder, list(callbacks), max_epochs=1, **arguments).fit(module, loader(1))


KINDS: list[type[Automatic]] = [Automatic, WithAStepOfItsOwn, ByHand, WithAClosure]


@pytest.mark.parametrize("kind", KINDS)
def test_they_run_right_around_the_update_with_the_gradients_there(kind: type[Automatic], tmp_path: Path) -> None:
    """As in a plain loop that calls backward and then step: a pre-hook may read and change gradients."""
    registers = Registers()
    fit(tmp_path, kind(), registers)
    assert registers.seen == [("before", 4.0, 8.0), ("pre", 4.0, 8.0), ("post", 2.0, 8.0), ("after", 2.0, 8.0)]


def test_a_pre_hook_sees_clipped_gradients_of_a_whole_window(tmp_path: Path) -> None:
    registers = Registers()
    trainer = make_trainer(
        tmp_path,
        [registers],
        max_epochs=1,
        accumulate_grad_batches=2,
        gradient_clip_val=2.0,
        gradient_clip_algorithm="value",
    )
    trainer.fit(Automatic(), loader(2))
    assert registers.seen == [("before", 4.0, 8.0), ("pre", 4.0, 2.0), ("post", 3.5, 2.0), ("after", 3.5, 2.0)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_pre_hook_may_change_the_gradients_that_the_step_uses(kind: type[Automatic], tmp_path: Path) -> None:
    def halve(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        optimizer.param_groups[0]["params"][0].grad.div_(2)

    def make(parameters: Any) -> Optimizer:
        optimizer = SGD(parameters, lr=0.25)
        optimizer.register_step_pre_hook(halve)
        return optimizer

    module = kind(make)
    fit(tmp_path, module)
    assert module.weight.item() == 3.0


@pytest.fixture
def of_all_optimizers() -> Iterator[Seen]:
    seen: Seen = []
    handles = [
        register_optimizer_step_pre_hook(look("pre", seen)),
        register_optimizer_step_post_hook(look("post", seen)),
    ]
    yield seen
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_all_optimizers_run_once_a_step(
    kind: type[Automatic], of_all_optimizers: Seen, tmp_path: Path
) -> None:
    fit(tmp_path, kind())
    assert of_all_optimizers == [("pre", 4.0, 8.0), ("post", 2.0, 8.0)]


class NotTorchs(SGD):
    """An optimizer of another library: it gets the closure, and runs it inside of its step."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        with torch.enable_grad():
            loss = closure()
        for parameter in self.param_groups[0]["params"]:
            parameter -= 0.25 * parameter.grad
        return loss


@pytest.mark.parametrize("kind", [Automatic, WithAStepOfItsOwn, WithAClosure])
def test_around_an_optimizer_that_runs_its_closure_itself_they_run_around_the_closure(
    kind: type[Automatic], tmp_path: Path
) -> None:
    """As in a plain loop that passes a closure to step."""
    registers = Registers()
    fit(tmp_path, kind(lambda parameters: NotTorchs(parameters, lr=0.25)), registers)
    assert registers.seen == [("pre", 4.0, None), ("before", 4.0, 8.0), ("post", 2.0, 8.0), ("after", 2.0, 8.0)]
