"""16-mixed by hand: each optimizer's gradients are divided by the scale that their own loss was multiplied by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError

from .recording import Batch
from .test_loss_scaling import SCALE, data, factor_of, scaled_trainer

Act = Callable[["Pair", Any, Any], Any]


class Pair(LightningModule):
    """Two weights of 4, each with an optimizer whose step is a quarter of the gradient."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.one, self.other = nn.Parameter(torch.tensor(4.0)), nn.Parameter(torch.tensor(4.0))
        self.act, self.batch = act, 0

    @property
    def weights(self) -> tuple[float, float]:
        return self.one.item(), self.other.item()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        self.batch = batch_idx
        one, other = self.optimizers()
        self.act(self, one, other)

    def configure_optimizers(self) -> Any:
        return SGD([self.one], lr=0.25), SGD([self.other], lr=0.25)


def gradient(parameter: nn.Parameter) -> float:
    assert parameter.grad is not None
    return parameter.grad.item()


def in_turn(module: Pair, one: Any, other: Any) -> None:
    for optimizer, weight in ((one, module.one), (other, module.other)):
        optimizer.zero_grad()
        module.manual_backward(weight.pow(2))
        optimizer.step()


def both_first(module: Pair, one: Any, other: Any) -> None:
    one.zero_grad()
    other.zero_grad()
    module.manual_backward(module.one.pow(2))
    module.manual_backward(module.other.pow(2))
    one.step()
    other.step()


def with_closures(module: Pair, one: Any, other: Any) -> None:
    """They return nothing, as closures by hand often do."""
    for optimizer, weight in ((one, module.one), (other, module.other)):

        def closure(optimizer: Any = optimizer, weight: Any = weight) -> None:
            optimizer.zero_grad()
            module.manual_backward(weight.pow(2))

        optimizer.step(closure)


@pytest.mark.parametrize("act", [in_turn, both_first, with_closures])
def test_both_weights_go_the_way_that_they_go_without_scaling(act: Act, tmp_path: Path) -> None:
    module = Pair(act)
    trainer = scaled_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data(2))
    # From 4 with a gradient of 8 to 2, and with one of 4 to 1; every number here is exact.
    assert module.weights == (1.0, 1.0)
    assert trainer.global_step == 4


def test_backward_sees_the_scaled_loss_and_the_hook_before_the_step_the_true_gradient(tmp_path: Path) -> None:
    class Looks(Callback):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def on_before_backward(self, trainer: Any, pl_module: Any, loss: torch.Tensor) -> None:
            self.seen.append(loss.item())

        def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
            self.seen.append(gradient(pl_module.one))

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            self.seen.append(gradient(pl_module.one))

    def act(module: Pair, one: Any, other: Any) -> None:
        module.manual_backward(module.one.pow(2))
        one.step()

    looks = Looks()
    scaled_trainer(tmp_path, [looks], max_epochs=1).fit(Pair(act), data(1))
    assert looks.seen == [16.0 * SCALE, 8.0 * SCALE, 8.0]


@pytest.mark.parametrize("act", [both_first, in_turn])
def test_infinite_gradients_of_one_leave_its_step_out_and_the_others_gradients_true(act: Act, tmp_path: Path) -> None:
    def infinite_once(module: Pair, one: Any, other: Any) -> None:
        with torch.no_grad():
            if module.batch == 0:
                module.one.fill_(float("inf"))
            elif module.batch == 1:
                module.one.fill_(4.0)
        act(module, one, other)

    module = Pair(infinite_once)
    trainer = scaled_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data(2))
    # The scale is halved after the first batch. Had it been halved between the two steps of that batch, the other's
    # gradient would have come out as 16.
    assert module.weights == (2.0, 1.0)
    assert factor_of(trainer) == SCALE / 2
    assert trainer.global_step == 4


def test_gradients_that_add_up_over_batches_are_unscaled_once(tmp_path: Path) -> None:
    def act(module: Pair, one: Any, other: Any) -> None:
        module.manual_backward(module.one.pow(2) / 2)
        if module.batch % 2 == 1:
            one.step()
            one.zero_grad()

    module = Pair(act)
    trainer = scaled_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data(4))
    assert module.weights == (1.0, 4.0)
    assert trainer.global_step == 2


@pytest.mark.parametrize("own", [False, True], ids=["wrapped", "torch's own"])
def test_gradients_are_clipped_at_their_true_size_and_unscaled_once(own: bool, tmp_path: Path) -> None:
    seen: list[float] = []

    def act(module: Pair, one: Any, other: Any) -> None:
        module.manual_backward(module.one.pow(2))
        module.clip_gradients(one.optimizer if own else one, gradient_clip_val=2.0, gradient_clip_algorithm="value")
        seen.append(gradient(module.one))
        one.step()

    module = Pair(act)
    scaled_trainer(tmp_path, max_epochs=1).fit(module, data(1))
    assert seen == [2.0]
    assert module.weights == (3.5, 4.0)


def test_a_second_step_with_the_same_gradients_takes_them_as_they_are(tmp_path: Path) -> None:
    def act(module: Pair, one: Any, other: Any) -> None:
        module.manual_backward(module.one.pow(2))
        one.step()
        one.step()

    module = Pair(act)
    scaled_trainer(tmp_path, max_epochs=1).fit(module, data(1))
    assert module.weights == (0.0, 4.0)


def test_a_step_without_gradients_changes_nothing_and_counts(tmp_path: Path) -> None:
    def act(module: Pair, one: Any, other: Any) -> None:
        one.step()
        module.manual_backward(module.other.pow(2))
        other.step()

    module = Pair(act)
    trainer = scaled_trainer(tmp_path, max_epochs=1)
    trainer.fit(module, data(1))
    assert module.weights == (4.0, 2.0)
    assert trainer.global_step == 2


def test_a_window_whose_last_batch_is_skipped_steps_with_what_it_has(tmp_path: Path) -> None:
    class Automatic(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor(4.0))

        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return self.weight.pow(2) if batch_idx == 0 else None

        def configure_optimizers(self) -> Any:
            return SGD(self.parameters(), lr=0.25)

    module = Automatic()
    with pytest.warns(UserWarning, match="training_step returned None"):
        scaled_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(module, data(2))
    # Half of the gradient of 8.
    assert module.weight.item() == 3.0


def test_a_checkpoint_holds_the_scale_that_follows_from_the_last_step(tmp_path: Path) -> None:
    class Saves(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self.state = trainer.strategy.precision.state_dict()

    def infinite(module: Pair, one: Any, other: Any) -> None:
        module.manual_backward(module.one * float("inf"))
        one.step()

    saves = Saves()
    scaled_trainer(tmp_path, [saves], max_epochs=1).fit(Pair(infinite), data(1))
    assert saves.state["scale"] == SCALE / 2


def test_a_loss_that_nobody_scaled_is_told_about_manual_backward(tmp_path: Path) -> None:
    def act(module: Pair, one: Any, other: Any) -> None:
        module.one.pow(2).backward()
        one.step()

    with pytest.raises(MisconfigurationError, match=r"16-mixed.*Call self\.manual_backward\(loss\) instead of loss\.b"):
        scaled_trainer(tmp_path, max_epochs=1).fit(Pair(act), data(1))


def test_a_fused_optimizer_is_clipped_and_steps_as_one_that_is_not(tmp_path: Path) -> None:
    """torch's scaler leaves the unscaling to fused optimizers; here it is done before the hooks and the clipping."""

    def trained(fused: bool) -> Pair:
        class Fused(Pair):
            def configure_optimizers(self) -> Any:
                return [torch.optim.Adam([weight], lr=0.25, fused=fused) for weight in (self.one, self.other)]

        def act(module: Pair, one: Any, other: Any) -> None:
            for optimizer, weight in ((one, module.one), (other, module.other)):
                optimizer.zero_grad()
                module.manual_backward(weight.pow(2))
                module.clip_gradients(optimizer, gradient_clip_val=3.0, gradient_clip_algorithm="value")
                optimizer.step()

        module = Fused(act)
        scaled_trainer(tmp_path, max_epochs=1).fit(module, data(4))
        return module

    fused, plain = trained(True), trained(False)
    # The first steps of Adam are as long as its rate.
    assert fused.weights == pytest.approx((3.0, 3.0), abs=1e-2)
    assert fused.weights == pytest.approx(plain.weights, abs=1e-5)
