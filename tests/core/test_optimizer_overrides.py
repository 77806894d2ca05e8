"""What a module may do itself around automatic steps, against plain loops: warm-up, skipping, clearing, clipping."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ExponentialLR, LinearLR

from hookloop import LightningModule, Trainer
from hookloop.errors import MisconfigurationError

from .fitting import BATCHES, Batch, equal, loader, loss_of, network, trainer_in

EPOCHS = 3


def adam(net: nn.Module) -> Optimizer:
    return torch.optim.Adam(net.parameters(), lr=0.05)


class Regression(LightningModule):
    """Learns with Adam; subclasses override one method each."""

    def __init__(self, configure: Callable[[nn.Module], Any] = adam) -> None:
        super().__init__()
        self.net, self.configure = network(), configure

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        return loss_of(self.net, batch)

    def configure_optimizers(self) -> Any:
        return self.configure(self.net)


def fitted(folder: Path, module: Regression, **arguments: Any) -> Trainer:
    trainer = trainer_in(folder, max_epochs=EPOCHS, **arguments)
    trainer.fit(module, loader())
    return trainer


def assert_same(module: Regression, net: nn.Module) -> None:
    assert equal(module.net.state_dict(), net.state_dict())
    assert not equal(module.net.state_dict(), network().state_dict())


def test_a_warm_up_in_optimizer_step_before_a_schedule_equals_the_plain_loop(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    scheduler = ExponentialLR(optimizer, 0.9)
    steps = 0
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            if steps < 7:
                for group in optimizer.param_groups:
                    group["lr"] = min(1.0, (steps + 1) / 7) * 0.05
            optimizer.step()
            steps += 1
        scheduler.step()

    class WarmsUp(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if self.trainer.global_step < 7:
                for group in optimizer.param_groups:
                    group["lr"] = min(1.0, (self.trainer.global_step + 1) / 7) * 0.05
            optimizer.step(closure=optimizer_closure)

    def configure(net: nn.Module) -> Any:
        optimizer = adam(net)
        return [optimizer], [ExponentialLR(optimizer, 0.9)]

    module = WarmsUp(configure)
    assert fitted(tmp_path, module).global_step == EPOCHS * BATCHES
    assert_same(module, net)


def test_a_warm_up_scheduler_per_step_equals_the_plain_loop(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    scheduler = LinearLR(optimizer, start_factor=0.1, total_iters=8)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()
            scheduler.step()

    def configure(net: nn.Module) -> Any:
        optimizer = adam(net)
        scheduler = LinearLR(optimizer, start_factor=0.1, total_iters=8)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    module = Regression(configure)
    fitted(tmp_path, module)
    assert_same(module, net)


class CallsFirst(Regression):
    """Computes the gradients, and then steps without a closure."""

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        optimizer_closure()
        optimizer.step()


class StepsInNoGrad(Regression):
    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        with torch.no_grad():
            optimizer.step(optimizer_closure)


@pytest.mark.parametrize("kind", [CallsFirst, StepsInNoGrad])
def test_the_closure_may_be_called_before_the_step_or_by_it(kind: type[Regression], tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            optimizer.step()

    module = kind()
    assert fitted(tmp_path, module).global_step == EPOCHS * BATCHES
    assert_same(module, net)


def test_where_the_step_is_left_out_a_scheduler_per_step_waits_with_it(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    scheduler = ExponentialLR(optimizer, 0.9)
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            optimizer.zero_grad()
            loss_of(net, batch).backward()
            if index % 2 == 1:
                optimizer.step()
                scheduler.step()

    class EverySecond(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2 == 1:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    def configure(net: nn.Module) -> Any:
        optimizer = adam(net)
        return [optimizer], [{"scheduler": ExponentialLR(optimizer, 0.9), "interval": "step"}]

    module = EverySecond(configure)
    trainer = fitted(tmp_path, module)
    assert trainer.global_step == EPOCHS * 2
    assert trainer.lr_scheduler_configs[0].scheduler.last_epoch == EPOCHS * 2
    assert_same(module, net)


def test_steps_that_are_left_out_and_gradients_that_are_not_cleared_accumulate(tmp_path: Path) -> None:
    """Accumulation as it is written by hand: clear and step every third batch."""
    net = network()
    optimizer = adam(net)
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            if index % 3 == 0:
                optimizer.zero_grad()
            (loss_of(net, batch) / 3).backward()
            if index % 3 == 2:
                optimizer.step()

    class Accumulates(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return loss_of(self.net, batch) / 3

        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
            if batch_idx % 3 == 0:
                optimizer.zero_grad()

        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 3 == 2:
                optimizer.step(closure=optimizer_closure)
            else:
                optimizer_closure()

    module = Accumulates()
    assert fitted(tmp_path, module).global_step == EPOCHS
    assert_same(module, net)


def test_gradients_that_are_never_cleared_add_up(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    for _ in range(EPOCHS):
        for batch in loader():
            loss_of(net, batch).backward()
            optimizer.step()

    class NeverClears(Regression):
        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
            pass

    module = NeverClears()
    fitted(tmp_path, module)
    assert_same(module, net)


def test_a_step_that_is_left_out_with_its_closure_is_an_error(tmp_path: Path) -> None:
    class Forgets(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx != 2:
                optimizer.step(closure=optimizer_closure)

    with pytest.raises(MisconfigurationError, match=r"Forgets\.optimizer_step did not run its closure.*optimizer_clos"):
        fitted(tmp_path, Forgets())


def test_a_batch_is_left_out_by_returning_none(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    for _ in range(EPOCHS):
        for index, batch in enumerate(loader()):
            if index != 2:
                optimizer.zero_grad()
                loss_of(net, batch).backward()
                optimizer.step()

    class Leaves(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return None if batch_idx == 2 else loss_of(self.net, batch)

        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(closure=optimizer_closure)

    module = Leaves()
    with pytest.warns(UserWarning, match="training_step returned None"):
        fitted(tmp_path, module)
    assert_same(module, net)


@pytest.mark.parametrize("window", [1, 2])
def test_groups_may_be_clipped_each_in_its_own_way(window: int, tmp_path: Path) -> None:
    def groups(net: Any) -> Optimizer:
        return torch.optim.SGD([{"params": net[0].parameters()}, {"params": net[2].parameters()}], lr=0.05)

    net = network()
    optimizer = groups(net)
    clipped = 0
    for _ in range(EPOCHS):
        batches = list(loader())
        for start in range(0, BATCHES, window):
            members = batches[start : start + window]
            optimizer.zero_grad()
            for batch in members:
                (loss_of(net, batch) / len(members)).backward()
            clipped += int(nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5) > 0.5)
            nn.utils.clip_grad_value_(optimizer.param_groups[1]["params"], 0.25)
            optimizer.step()
    assert clipped

    class Clips(Regression):
        def configure_gradient_clipping(
            self,
            optimizer: Optimizer,
            gradient_clip_val: int | float | None = None,
            gradient_clip_algorithm: str | None = None,
        ) -> None:
            nn.utils.clip_grad_norm_(optimizer.param_groups[0]["params"], 0.5)
            nn.utils.clip_grad_value_(optimizer.param_groups[1]["params"], 0.25)

    module = Clips(groups)
    fitted(tmp_path, module, accumulate_grad_batches=window)
    assert_same(module, net)


def test_a_penalty_in_backward_equals_one_in_the_loss_of_the_plain_loop(tmp_path: Path) -> None:
    net = network()
    optimizer = adam(net)
    for _ in range(EPOCHS):
        for batch in loader():
            optimizer.zero_grad()
            loss = loss_of(net, batch)
            loss.backward()
            (0.1 * sum(weight.square().sum() for weight in net.parameters())).backward()  # type: ignore[union-attr]
            optimizer.step()

    class Penalizes(Regression):
        def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
            loss.backward()
            penalty = sum(weight.square().sum() for weight in self.net.parameters())
            (0.1 * penalty).backward()  # type: ignore[union-attr]

    module = Penalizes()
    fitted(tmp_path, module)
    assert_same(module, net)


def test_a_warm_up_after_the_step_counts_the_step_once_the_override_is_through(tmp_path: Path) -> None:
    """As in Lightning, whose documentation shows warm-ups in this form."""
    net = network()
    optimizer = adam(net)
    for steps in range(EPOCHS * BATCHES):
        optimizer.zero_grad()
        loss_of(net, list(loader())[steps % BATCHES]).backward()
        optimizer.step()
        if steps < 7:
            for group in optimizer.param_groups:
                group["lr"] = (steps + 1) / 7 * 0.05
    counted: list[tuple[str, int]] = []

    class WarmsUp(Regression):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step(closure=optimizer_closure)
            counted.append(("optimizer_step", self.trainer.global_step))
            if self.trainer.global_step < 7:
                for group in optimizer.param_groups:
                    group["lr"] = (self.trainer.global_step + 1) / 7 * 0.05

        def on_after_optimizer_step(self, optimizer: Optimizer) -> None:
            counted.append(("on_after_optimizer_step", self.trainer.global_step))

    module = WarmsUp()
    trainer = fitted(tmp_path, module)

    assert_same(module, net)
    assert trainer.global_step == EPOCHS * BATCHES
    assert counted == [
        moment
        for step in range(EPOCHS * BATCHES)
        for moment in (("optimizer_step", step), ("on_after_optimizer_step", step + 1))
    ]
