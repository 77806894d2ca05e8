"""A trainer inside another trainer's hook: an error in the inner one leaves the outer one usable."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Trainer
from hookloop.errors import MisconfigurationError

from .fitting import Regression, assert_same_training, equal, loader, trainer_in
from .planted_world import assert_clean_run, assert_failed, assert_the_next_runs_work, fail, world_with
from .planting import Fault

NESTING_HOOKS = [
    "setup",
    "on_fit_start",
    "on_train_start",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_optimizer_step",
    "on_validation_batch_end",
    "on_validation_epoch_end",
    "on_train_epoch_end",
    "on_train_end",
    "teardown",
]
LOGGING_HOOKS = {"on_train_batch_end", "on_validation_batch_end", "on_validation_epoch_end", "on_train_epoch_end"}


@pytest.mark.parametrize("entry", ["fit", "validate"])
@pytest.mark.parametrize("hook", NESTING_HOOKS)
def test_an_error_in_a_trainer_inside_another_ones_hook_leaves_the_outer_one_usable(
    hook: str, entry: str, tmp_path: Path
) -> None:
    fault = Fault(ValueError("inner"))
    inner = world_with(tmp_path / "inner", entry, {("planted", "on_validation_batch_start"): fault})

    def run_inner(trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        if fault.strikes == 0:
            grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
            with pytest.raises(ValueError, match=r"^inner$") as caught:
                inner.run(entry)
            assert caught.value is fault.error
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == (grad, inference)
            assert pl_module.trainer is trainer
        if hook in LOGGING_HOOKS:
            pl_module.log("after_inner", 7.0, on_step=False, on_epoch=True)

    outer = world_with(tmp_path / "outer", "fit", {}, extra=(LambdaCallback(**{hook: run_inner}),))
    assert_clean_run(outer, "fit")
    assert outer.trainer.global_step == 4
    assert not [witness for witness in outer.witnesses if witness.exceptions]
    if hook in LOGGING_HOOKS:
        assert outer.trainer.callback_metrics["after_inner"] == 7.0
    assert fault.strikes == 1
    assert_failed(inner, fault, entry)
    fault.armed = False
    assert_the_next_runs_work(inner, entry)


@pytest.mark.parametrize("hook", NESTING_HOOKS)
def test_an_error_that_leaves_an_inner_and_an_outer_trainer_reaches_everyone_of_both_once(
    hook: str, tmp_path: Path
) -> None:
    fault = Fault(KeyboardInterrupt("inner"))
    inner = world_with(tmp_path / "inner", "fit", {("module", "training_step"): fault})

    def run_inner(*arguments: Any) -> None:
        if fault.armed:
            inner.run("fit")

    outer = world_with(tmp_path / "outer", "fit", {}, extra=(LambdaCallback(**{hook: run_inner}),))
    fail(outer, fault, "fit")
    assert not hasattr(fault.error, "__notes__")
    assert_failed(inner, fault, "fit")
    assert_failed(outer, fault, "fit")
    for world in (inner, outer):
        torn_down = [name for name, event in world.trace if event == "teardown"]
        assert torn_down == [name for name, event in world.trace if event == "setup"]
        assert world.trace[-1] == ("logger", "failed")
    fault.armed = False
    assert_the_next_runs_work(inner, "fit")
    assert_the_next_runs_work(outer, "fit")


def test_a_trainer_used_inside_its_own_hook_is_refused_and_goes_on_unharmed(tmp_path: Path) -> None:
    refused: list[str] = []

    class Again(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            for call in (trainer.fit, trainer.validate, trainer.predict):
                with pytest.raises(MisconfigurationError, match=r"while this trainer runs fit.*another Trainer"):
                    call(pl_module)
                refused.append(call.__name__)

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch[0]).sum()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = Trainer(
        max_epochs=2, callbacks=[Again()], logger=False, registered_callbacks=False, default_root_dir=tmp_path
    )
    trainer.fit(Module(), DataLoader(TensorDataset(torch.ones(2, 1))))

    assert refused == ["fit", "validate", "predict"] * 4
    assert (trainer.current_epoch, trainer.global_step) == (2, 4)


class Manual(Regression):
    """The same steps by hand, one of which begins inside the optimizer's turn."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        optimizer = self.optimizers()
        with self.toggled_optimizer(optimizer):
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()


class RunsInside(Callback):
    """In a hook of a fit, the same module and the same datamodule are run by another trainer."""

    def __init__(self, folder: Path, entry: str) -> None:
        self.folder = folder
        self.entry = entry

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 2:
            other = trainer_in(self.folder, max_epochs=1)
            getattr(other, self.entry)(pl_module, datamodule=trainer.datamodule)
            assert pl_module.trainer is trainer
            assert trainer.datamodule.trainer is trainer


class Data(LightningDataModule):
    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader()


@pytest.mark.parametrize("kind", [Regression, Manual])
def test_a_module_that_another_trainer_validates_inside_its_fit_trains_and_logs_as_without(
    kind: type[Regression], tmp_path: Path
) -> None:
    alone, nested = trainer_in(tmp_path), trainer_in(tmp_path, RunsInside(tmp_path, "validate"))
    alone.fit(kind(), datamodule=Data())
    module = kind()
    nested.fit(module, datamodule=Data())

    assert_same_training(nested, alone)
    assert equal(nested.callback_metrics, alone.callback_metrics)
    with pytest.warns(UserWarning, match="no trainer is running"):
        module.log("later", 1.0)


def test_a_module_that_another_trainer_fits_inside_its_fit_is_the_outer_ones_again(tmp_path: Path) -> None:
    module, trainer = Manual(), trainer_in(tmp_path, RunsInside(tmp_path, "fit"), max_epochs=1)
    trainer.fit(module, datamodule=Data())

    assert (trainer.global_step, trainer.current_epoch) == (5, 1)
    assert module.trainer is trainer
    assert sorted(trainer.callback_metrics) == ["loss", "loss_epoch", "loss_step", "val_loss"]
    expected = [*range(2), *range(5), *range(2, 5)]  # the inner fit's five batches come before the outer one's third
    assert [int(mark[1:]) for mark in module.marks if mark.startswith("t")] == expected
