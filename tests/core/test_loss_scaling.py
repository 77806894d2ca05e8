"""16-mixed scales the loss, where torch's GradScaler does it for the device; here it does so on the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.accelerators import CPUAccelerator
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .recording import Batch

SCALE = 1024.0


class ScaledOnTheCPU(Precision):
    """What a CUDA device gets, with torch's scaler for the CPU: these tests need no such device."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu")
        self._scaler = torch.amp.GradScaler("cpu", init_scale=SCALE)

    @property
    def factor(self) -> float:
        assert self._scaler is not None
        return self._scaler.get_scale()


def scaled_trainer(folder: Path, callbacks: list[Callback] | None = None, **arguments: Any) -> Trainer:
    return Trainer(
        strategy=SingleDeviceStrategy(torch.device("cpu"), CPUAccelerator(), precision_plugin=ScaledOnTheCPU()),
        callbacks=callbacks or [],
        default_root_dir=folder,
        logger=False,
        registered_callbacks=False,
        **arguments,
    )


def data(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(2 * batches, 1)), batch_size=2)


class One(LightningModule):
    """One weight, 4 at first, whose loss is its square: the gradient is 8."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(4.0))
        self.factors = [1.0, 1.0, 1.0, 1.0]

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
        return self.weight.pow(2) * self.factors[batch_idx]

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.25)


class Looks(Callback):
    """Writes down losses, gradients and weights as its hooks see them."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.after_backward: list[float] = []
        self.before_step: list[float] = []
        self.weights: list[float] = []

    def on_before_backward(self, trainer: TrainerView, pl_module: LightningModule, loss: torch.Tensor) -> None:
        self.losses.append(loss.item())

    def on_after_backward(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.after_backward.append(gradient_of(pl_module))

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.before_step.append(gradient_of(pl_module))

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        assert isinstance(pl_module, One)
        self.weights.append(pl_module.weight.item())


def gradient_of(module: LightningModule) -> float:
    assert isinstance(module, One)
    assert module.weight.grad is not None
    return module.weight.grad.item()


def factor_of(trainer: Trainer) -> float:
    precision = trainer.strategy.precision
    assert isinstance(precision, ScaledOnTheCPU)
    return precision.factor


def test_the_loss_is_scaled_for_backward_and_gradients_are_unscaled_before_the_step(tmp_path: Path) -> None:
    looks = Looks()
    trainer = scaled_trainer(tmp_path, [looks], max_epochs=1)
    trainer.fit(One(), data(2))
    # From 4 with a gradient of 8 to 2, and with a gradient of 4 to 1; every number here is exact.
    assert looks.losses == [16.0 * SCALE, 4.0 * SCALE]
    assert looks.after_backward == [8.0 * SCALE, 4.0 * SCALE]
    assert looks.before_step == [8.0, 4.0]
    assert looks.weights == [2.0, 1.0]
    assert trainer.global_step == 2


def test_what_callbacks_and_loggers_get_is_the_loss_itself(tmp_path: Path) -> None:
    outputs: list[float] = []

    class Takes(Callback):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, got: Any, *args: Any) -> None:
            outputs.append(got["loss"].item())

    class Logs(One):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
            loss = super().training_step(batch, batch_idx)
            assert loss is not None
            self.log("loss", loss)
            return loss

    trainer = scaled_trainer(tmp_path, [Takes()], max_epochs=1)
    trainer.fit(Logs(), data(2))
    assert outputs == [16.0, 4.0]
    assert trainer.callback_metrics["loss"] == 4.0


@pytest.mark.parametrize(("algorithm", "weight"), [("norm", 3.0), ("value", 3.0)])
def test_gradients_are_clipped_at_their_own_size(algorithm: str, weight: float, tmp_path: Path) -> None:
    module = One()
    trainer = scaled_trainer(tmp_path, max_epochs=1, gradient_clip_val=4.0, gradient_clip_algorithm=algorithm)
    trainer.fit(module, data(1))
    assert module.weight.item() == pytest.approx(weight, abs=1e-5)


def test_accumulated_gradients_are_unscaled_once(tmp_path: Path) -> None:
    looks = Looks()
    trainer = scaled_trainer(tmp_path, [looks], max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(One(), data(3))
    # Two halves of 8 at 4, then at 2 a window of one batch with its whole gradient of 4.
    assert looks.after_backward == [4.0 * SCALE, 8.0 * SCALE, 4.0 * SCALE]
    assert looks.before_step == [8.0, 4.0]
    assert looks.weights == [4.0, 2.0, 1.0]
    assert trainer.global_step == 2


def test_a_step_with_infinite_gradients_is_left_out_and_halves_the_scale(tmp_path: Path) -> None:
    looks, module = Looks(), One()
    module.factors[1] = float("inf")
    trainer = scaled_trainer(tmp_path, [looks], max_epochs=1)
    trainer.fit(module, data(3))
    assert looks.weights == [2.0, 2.0, 1.0]
    assert factor_of(trainer) == SCALE / 2
    assert looks.losses[2] == 4.0 * SCALE / 2


def test_a_batch_without_a_loss_is_passed_over(tmp_path: Path) -> None:
    class Skips(One):
        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor | None:
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    looks = Looks()
    trainer = scaled_trainer(tmp_path, [looks], max_epochs=1)
    looks.on_before_optimizer_step = lambda *args: None  # type: ignore[method-assign]
    with pytest.warns(UserWarning, match=r"Skips\.training_step returned None"):
        trainer.fit(Skips(), data(3))
    assert looks.weights == [2.0, 2.0, 1.0]
    assert factor_of(trainer) == SCALE


def test_the_scale_is_saved_and_restored(tmp_path: Path) -> None:
    module = One()
    module.factors[0] = float("inf")
    first = scaled_trainer(tmp_path, max_epochs=1)
    first.fit(module, data(2))
    assert factor_of(first) == SCALE / 2
    first.save_checkpoint(tmp_path / "a.ckpt")

    second = scaled_trainer(tmp_path, max_epochs=2)
    assert factor_of(second) == SCALE
    looks = Looks()
    second.callbacks.append(looks)
    second.fit(One(), data(1), ckpt_path=tmp_path / "a.ckpt")
    # The weight came from 4 to 2 in the first run, so that its loss is 4 here.
    assert looks.losses == [4.0 * SCALE / 2]
    assert second.strategy.precision.state_dict()["_growth_tracker"] == 2


def test_a_checkpoint_of_an_unscaled_run_leaves_the_scale_alone(tmp_path: Path) -> None:
    plain = Trainer(
        accelerator="cpu", max_epochs=1, default_root_dir=tmp_path, logger=False, registered_callbacks=False
    )
    plain.fit(One(), data(1))
    plain.save_checkpoint(tmp_path / "a.ckpt")
    trainer = scaled_trainer(tmp_path, max_epochs=2)
    trainer.fit(One(), data(1), ckpt_path=tmp_path / "a.ckpt")
    assert factor_of(trainer) == SCALE


def test_an_optimizer_that_evaluates_its_loss_often_is_refused_with_what_to_use(tmp_path: Path) -> None:
    class Evaluates(One):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters())

    with pytest.raises(MisconfigurationError, match=r'precision="16-mixed" .*LBFGS.*Use precision="bf16-mixed"'):
        scaled_trainer(tmp_path, max_epochs=1).fit(Evaluates(), data(1))


class ByHand(One):
    """Optimizes by itself; `scales` says whether it thinks of the scale."""

    def __init__(self, scales: bool) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.scales = scales

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer, loss = self.optimizers(), self.weight.pow(2)
        optimizer.zero_grad()
        if self.scales:
            loss = self.trainer.strategy.precision.scale(loss)
        loss.backward()
        optimizer.step()


def test_a_module_that_optimizes_by_itself_may_scale_by_itself(tmp_path: Path) -> None:
    looks, module = Looks(), ByHand(scales=True)
    scaled_trainer(tmp_path, [looks], max_epochs=1).fit(module, data(2))
    assert looks.before_step == [8.0, 4.0]
    assert module.weight.item() == 1.0


def test_a_module_that_forgets_to_scale_is_told_so(tmp_path: Path) -> None:
    """Its gradients would be divided by a scale that they were never multiplied by."""
    with pytest.raises(MisconfigurationError, match=r"16-mixed.*scale"):
        scaled_trainer(tmp_path, max_epochs=1).fit(ByHand(scales=False), data(1))
