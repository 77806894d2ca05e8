"""LBFGS, which evaluates its loss several times a step, gives the weights of a plain loop, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import LBFGS
from torch.optim.lr_scheduler import ExponentialLR
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

from .recording import Batch, make_trainer

EPOCHS, BATCHES = 2, 4


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))


def data(dtype: torch.dtype = torch.float32) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(8 * BATCHES, 3, generator=generator)
    return DataLoader(TensorDataset(x.to(dtype), x.pow(2).sum(dim=1, keepdim=True).to(dtype)), batch_size=8)


def loss_of(net: nn.Module, batch: Any) -> Tensor:
    x, y = batch
    return functional.mse_loss(net(x), y)


Make = Callable[[nn.Module], LBFGS]


def steps(net: nn.Module) -> LBFGS:
    return LBFGS(net.parameters(), lr=0.2, max_iter=4)


def searches(net: nn.Module) -> LBFGS:
    return LBFGS(net.parameters(), max_iter=5, history_size=3, line_search_fn="strong_wolfe")


class Automatic(LightningModule):
    """Returns its loss, and writes down each evaluation of it."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.net, self.make = network(), make
        self.losses: list[float] = []

    def loss(self, batch: Batch) -> Tensor:
        loss = loss_of(self.net, batch)
        self.losses.append(loss.item())
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return self.make(self.net)


class ByHand(Automatic):
    """Passes its own closure to the optimizer, whose answer is the first evaluation's loss."""

    def __init__(self, make: Make) -> None:
        super().__init__(make)
        self.automatic_optimization = False
        self.answers: list[float] = []

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        optimizer = self.optimizers()

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = self.loss(batch)
            self.manual_backward(loss)
            return loss

        evaluations = len(self.losses)
        self.answers.append(optimizer.step(closure).item())
        assert self.answers[-1] == self.losses[evaluations]


class Overriding(Automatic):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer.step(closure=optimizer_closure)


KINDS: list[type[Automatic]] = [Automatic, Overriding, ByHand]


def trained_plainly(
    make: Make, net: nn.Module, batches: Any, autocast: bool = False, epoch_ended: Callable[[Any], None] | None = None
) -> list[float]:
    """Trains the network in place; returns the loss of each evaluation."""
    optimizer = make(net)
    losses: list[float] = []
    for _ in range(EPOCHS):
        for batch in batches:

            def closure(batch: Any = batch) -> float:
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=autocast, cache_enabled=False):
                    loss = loss_of(net, batch)
                loss.backward()
                losses.append(loss.item())
                return loss.item()

            optimizer.step(closure)
        if epoch_ended is not None:
            epoch_ended(optimizer)
    assert len(losses) > 2 * EPOCHS * BATCHES, "it must evaluate the loss several times"
    return losses


def assert_same(module: Automatic, net: nn.Module, losses: list[float]) -> None:
    assert module.losses == losses
    for name, weight in net.state_dict().items():
        assert torch.equal(module.net.state_dict()[name], weight), name


@pytest.mark.parametrize("make", [steps, searches])
@pytest.mark.parametrize("kind", KINDS)
def test_every_evaluation_and_every_weight_is_that_of_a_plain_loop(
    kind: type[Automatic], make: Make, tmp_path: Path
) -> None:
    net = network()
    losses = trained_plainly(make, net, data())
    module = kind(make)
    trainer = make_trainer(tmp_path, [], max_epochs=EPOCHS)
    trainer.fit(module, data())
    assert_same(module, net, losses)
    assert trainer.global_step == EPOCHS * BATCHES


@pytest.mark.parametrize("kind", KINDS)
def test_in_double_precision_too(kind: type[Automatic], tmp_path: Path) -> None:
    net = network().double()
    losses = trained_plainly(searches, net, data(torch.float64))
    module = kind(searches)
    make_trainer(tmp_path, [], max_epochs=EPOCHS, precision="64-true").fit(module, data())
    assert_same(module, net, losses)


@pytest.mark.parametrize("kind", KINDS)
def test_with_bfloat16_autocast_too(kind: type[Automatic], tmp_path: Path) -> None:
    net = network()
    losses = trained_plainly(steps, net, data(), autocast=True)
    module = kind(steps)
    make_trainer(tmp_path, [], max_epochs=EPOCHS, precision="bf16-mixed").fit(module, data())
    assert_same(module, net, losses)


def test_its_scheduler_moves_once_a_step(tmp_path: Path) -> None:
    def configure(net: nn.Module) -> Any:
        optimizer = steps(net)
        return {"optimizer": optimizer, "lr_scheduler": ExponentialLR(optimizer, 0.5)}

    def decay(optimizer: LBFGS) -> None:
        optimizer.param_groups[0]["lr"] *= 0.5

    net = network()
    losses = trained_plainly(steps, net, data(), epoch_ended=decay)
    module = Automatic(configure)
    make_trainer(tmp_path, [], max_epochs=EPOCHS).fit(module, data())
    assert_same(module, net, losses)


@pytest.mark.parametrize("kind", KINDS)
def test_hooks_of_the_gradients_run_for_every_evaluation_and_the_one_of_the_step_once(
    kind: type[Automatic], tmp_path: Path
) -> None:
    class Counts(Callback):
        def __init__(self) -> None:
            self.backward, self.before, self.after = 0, 0, list[int]()

        def on_after_backward(self, *args: Any) -> None:
            self.backward += 1

        def on_before_optimizer_step(self, *args: Any) -> None:
            self.before += 1

        def on_after_optimizer_step(self, trainer: TrainerView, *args: Any) -> None:
            self.after.append(trainer.global_step)

    counts, module = Counts(), kind(steps)
    make_trainer(tmp_path, [counts], max_epochs=1).fit(module, data())
    assert len(module.losses) > 2 * BATCHES
    assert counts.backward == counts.before == len(module.losses)
    assert counts.after == [1, 2, 3, 4]


def test_beside_another_optimizer_each_trains_its_own_parameters(tmp_path: Path) -> None:
    def both(net: Any) -> tuple[LBFGS, torch.optim.Adam]:
        return LBFGS(net[0].parameters(), lr=0.2, max_iter=3), torch.optim.Adam(net[2].parameters(), lr=0.1)

    def turns(net: nn.Module, batch: Any, first: Any, second: Any, backward: Callable[[Tensor], Any]) -> None:
        def closure() -> Tensor:
            first.zero_grad()
            loss = loss_of(net, batch)
            backward(loss)
            return loss

        first.step(closure)
        second.zero_grad()
        backward(loss_of(net, batch))
        second.step()

    net = network()
    first, second = both(net)
    for _ in range(EPOCHS):
        for batch in data():
            turns(net, batch, first, second, Tensor.backward)

    class Both(ByHand):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            first, second = self.optimizers()
            turns(self.net, batch, first, second, self.manual_backward)

        def configure_optimizers(self) -> Any:
            return both(self.net)

    module = Both(steps)
    trainer = make_trainer(tmp_path, [], max_epochs=EPOCHS)
    trainer.fit(module, data())
    assert_same(module, net, [])
    assert trainer.global_step == 2 * EPOCHS * BATCHES


def test_without_a_closure_it_is_refused_with_what_to_pass(tmp_path: Path) -> None:
    class Forgets(ByHand):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            self.manual_backward(self.loss(batch))
            self.optimizers().step()

    with pytest.raises(MisconfigurationError, match=r"LBFGS\.step\(\) needs a closure.*optimizer\.step\(closure\)"):
        make_trainer(tmp_path, [], max_epochs=1).fit(Forgets(steps), data())


def test_a_closure_that_returns_no_loss_is_refused(tmp_path: Path) -> None:
    class Forgets(ByHand):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            self.optimizers().step(lambda: self.manual_backward(self.loss(batch)))

    with pytest.raises(
        MisconfigurationError, match=r"LBFGS .* got None instead of one.*the closure that optimizer\.step"
    ):
        make_trainer(tmp_path, [], max_epochs=1).fit(Forgets(steps), data())


def test_a_batch_without_a_loss_is_refused_as_it_needs_one(tmp_path: Path) -> None:
    class Skips(Automatic):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return None

    with (
        pytest.warns(UserWarning, match="training_step returned None"),
        pytest.raises(
            MisconfigurationError, match=r"LBFGS .* got None instead of one\. Return the loss from training_step"
        ),
    ):
        make_trainer(tmp_path, [], max_epochs=1).fit(Skips(steps), data())


def test_an_optimizer_that_leaves_its_closure_out_steps_and_hooks_get_no_outputs(tmp_path: Path) -> None:
    class Halves(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.no_grad():
                for parameter in self.param_groups[0]["params"]:
                    parameter.mul_(0.5)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.seen: list[Any] = []

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            raise AssertionError("the optimizer runs no closure")

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(outputs)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return Halves(self.parameters(), lr=1.0)

    module = Module()
    Trainer(max_epochs=1, logger=False, registered_callbacks=False, default_root_dir=tmp_path).fit(
        module,
        DataLoader(torch.ones(2, 1)),  # type: ignore[arg-type]
    )

    assert module.seen == [{}, {}]
    assert torch.equal(module.weight.detach(), torch.tensor([0.25]))
