"""Mistakes that users make, each answered at once and in words that help."""

import copy
import dataclasses
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Order, Trainer
from hookloop.errors import HookError, HookloopError, MisconfigurationError


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight * 1.0

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def loader(batches: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(batches)))


def make_trainer(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    settings = {"max_epochs": 1, "logger": False, "registered_callbacks": False, "num_sanity_val_steps": 0}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **(settings | arguments))


# ---------------------------------------------------------------------------------------------------------- order


@pytest.mark.parametrize("order", ["last", 7, None])
def test_an_order_that_is_none_is_refused_with_those_there_are(order: Any, tmp_path: Path) -> None:
    kind = type("Mistaken", (Callback,), {"order": order})

    with pytest.raises(MisconfigurationError, match=r"Mistaken\.order is .*Order\.FIRST, Order\.NORMAL"):
        make_trainer(tmp_path, kind())


def test_an_order_that_raises_later_keeps_nothing_of_the_unwinding(tmp_path: Path) -> None:
    torn_down: list[str] = []

    class Breaks(Callback):
        broken = False

        @property
        def order(self) -> Order:  # type: ignore[override]
            if self.broken:
                raise RuntimeError("order")
            return Order.NORMAL

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.broken = True
            raise ValueError("the first")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="the first"):
        make_trainer(tmp_path, Breaks(), LambdaCallback(teardown=lambda *_: torn_down.append("other"))).fit(
            Model(), loader()
        )

    assert torn_down == ["other"]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_mock_of_a_callback_runs_as_one_of_order_normal(tmp_path: Path) -> None:
    mock = Mock(spec=Callback)
    mock.state_dict.return_value = {}

    make_trainer(tmp_path, mock).fit(Model(), loader())

    assert mock.on_train_batch_end.call_count == 2
    assert mock.teardown.call_count == 1


# ----------------------------------------------------------------------------------------------- callbacks of all kinds


@dataclasses.dataclass(frozen=True)
class Frozen(Callback):
    seen: list[int] = dataclasses.field(default_factory=list)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch_idx)
        self.log("frozen", 1.0)


def test_a_frozen_dataclass_is_a_callback(tmp_path: Path) -> None:
    callback = Frozen()
    trainer = make_trainer(tmp_path, callback)

    trainer.fit(Model(), loader())

    assert callback.seen == [0, 1]
    assert trainer.callback_metrics["frozen"].item() == 1.0


def test_a_state_key_that_needs_setup_is_refused_with_whose_it_is(tmp_path: Path) -> None:
    class Late(Callback):
        @property
        def state_key(self) -> str:
            return self.name  # type: ignore[attr-defined, no-any-return]

        def state_dict(self) -> dict[str, Any]:
            return {"n": 1}

    with pytest.raises(MisconfigurationError, match=r"Late .*state_key that raised AttributeError.*what setup does"):
        make_trainer(tmp_path, Late())


# ---------------------------------------------------------------------------------------- signatures and misspelt names


def test_with_one_loader_a_hook_that_insists_on_an_index_is_refused_before_it_is_called(tmp_path: Path) -> None:
    class Insists(Callback):
        def on_validation_batch_start(  # type: ignore[override]
            self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int
        ) -> None:
            raise AssertionError

    with pytest.raises(HookError, match=r"Insists\.on_validation_batch_start .*there is one loader.*dataloader_idx=0"):
        make_trainer(tmp_path, Insists()).validate(Model(), loader())


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("configure_gradient_clipping", lambda self, optimizer: None, "gradient_clip_val"),
        ("optimizer_step", lambda self, a, b, c, d, e, f, g, h: None, "optimizer_closure"),
        ("lr_scheduler_step", lambda self: None, "metric"),
        ("validation_step", lambda self: None, "batch, batch_idx"),
    ],
)
def test_a_method_of_the_module_with_a_wrong_signature_is_found_before_anything_runs(
    name: str, method: Any, message: str, tmp_path: Path
) -> None:
    module = type("Wrong", (Model,), {name: method})()

    with pytest.raises(HookError, match=rf"Wrong\.{name} takes .*{message}"):
        make_trainer(tmp_path).fit(module, loader(), loader())

    assert module.weight.item() == 0.0


@pytest.mark.parametrize(
    ("base", "name", "meant"),
    [
        (Model, "validation_steps", "validation_step"),
        (Model, "configure_optimizer", "configure_optimizers"),
        (Model, "train_dataloaders", "train_dataloader"),
        (LightningDataModule, "train_dataloadr", "train_dataloader"),
        (Callback, "set_up", "setup"),
        (Callback, "tear_down", "teardown"),
    ],
)
def test_a_method_that_is_almost_one_of_ours_is_told_its_name(
    base: type, name: str, meant: str, tmp_path: Path
) -> None:
    mistaken: Any = type("Mistaken", (base,), {name: lambda self: None})()
    module = mistaken if isinstance(mistaken, LightningModule) else Model()
    callbacks = [mistaken] if isinstance(mistaken, Callback) else []
    data = mistaken if isinstance(mistaken, LightningDataModule) else None

    with pytest.raises(HookError, match=rf"Mistaken\.{name} is no hook.*Rename it to {meant},"):
        make_trainer(tmp_path, *callbacks).fit(module, None if data else loader(), datamodule=data)


def test_a_datamodule_whose_setup_takes_no_stage_is_refused(tmp_path: Path) -> None:
    data: Any = type("Data", (LightningDataModule,), {"setup": lambda self: None, "train_dataloader": loader})()

    with pytest.raises(HookError, match=r"Data\.setup takes \(\), and it is called with \(stage\)"):
        make_trainer(tmp_path).fit(Model(), datamodule=data)


def test_a_hook_that_is_a_coroutine_is_refused(tmp_path: Path) -> None:
    class Waits(Callback):
        async def on_train_start(self, trainer: Any, pl_module: Any) -> None:  # type: ignore[override]
            pass

    with pytest.raises(HookError, match=r"Waits\.on_train_start is a coroutine"):
        make_trainer(tmp_path, Waits()).fit(Model(), loader())


# -------------------------------------------------------------------------------------------------------- training


def test_an_optimizer_step_that_forgets_its_closure_is_an_error(tmp_path: Path) -> None:
    class Forgets(Model):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            optimizer.step()

    with pytest.raises(MisconfigurationError, match=r"Forgets\.optimizer_step did not run its closure"):
        make_trainer(tmp_path).fit(Forgets(), loader())


def test_lbfgs_with_accumulation_is_refused_with_the_reason(tmp_path: Path) -> None:
    class Searches(Model):
        def configure_optimizers(self) -> Any:
            return torch.optim.LBFGS(self.parameters())

    with pytest.raises(MisconfigurationError, match=r"accumulate_grad_batches=2 does not work with LBFGS"):
        make_trainer(tmp_path, accumulate_grad_batches=2).fit(Searches(), loader())


def test_validation_loaders_without_a_validation_step_are_a_warning(tmp_path: Path) -> None:
    class Untested(LightningModule):
        training_step = Model.training_step
        configure_optimizers = Model.configure_optimizers

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

    with pytest.warns(UserWarning, match=r"Untested does not define validation_step\(\)"):
        make_trainer(tmp_path).fit(Untested(), loader(), loader())


@pytest.mark.parametrize("size", ["3", 0, -1, 1.5, True])
def test_a_batch_size_that_is_none_is_refused(size: Any, tmp_path: Path) -> None:
    class Logs(Model):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", 1.0, batch_size=size)
            return self.weight * 1.0

    with pytest.raises(HookloopError, match=r'self\.log\("loss", \.\.\., batch_size=.*whole number of at least 1'):
        make_trainer(tmp_path).fit(Logs(), loader())


def test_a_copy_of_a_callback_made_in_a_hook_belongs_to_no_run(tmp_path: Path) -> None:
    copies: list[Callback] = []

    class Copies(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            copies.append(copy.deepcopy(self))

    make_trainer(tmp_path, Copies()).fit(Model(), loader())

    with pytest.warns(UserWarning, match="no trainer is running"):
        copies[0].log("value", 1.0)
