"""How a batch gets from the loader to the step: before, transfer and after, of the module or of the datamodule."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from hookloop import Callback, LightningDataModule, LightningModule, Trainer
from hookloop.accelerators import CPUAccelerator
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .recording import make_trainer

CPU, META = torch.device("cpu"), torch.device("meta")
BEFORE, MOVE, AFTER = "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"
HOOKS = (BEFORE, MOVE, AFTER)

# What each hook of these tests makes of a number; no two orders of them give the same.
ARITHMETIC: dict[str, Callable[[float], float]] = {
    BEFORE: lambda number: number + 1,
    MOVE: lambda number: number * 10,
    AFTER: lambda number: number - 3,
}


def loader_of(*batches: Any) -> DataLoader[Any]:
    """A loader that gives these very objects."""
    samples: Any = batches
    return DataLoader(samples, batch_size=None, collate_fn=lambda batch: batch)


def numbers(*values: float) -> DataLoader[Any]:
    """A batch with one number for each value."""
    return loader_of(*(torch.tensor([float(value)]) for value in values))


class Sees(LightningModule):
    """Writes down the batches that its steps get."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[Any] = []

    def see(self, batch: Any) -> None:
        self.seen.append(batch.item() if isinstance(batch, torch.Tensor) and batch.device == CPU else batch)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.see(batch)
        loss: torch.Tensor = self.layer.weight.sum()
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.see(batch)

    test_step = predict_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Calls(list[tuple[Any, ...]]):
    """Calls of transfer hooks: who, which hook, the number in the batch, and what else came with it."""


def with_hooks(base: type[Any], hooks: tuple[str, ...], calls: Calls, who: str = "") -> Any:
    """An object of a subclass of `base` whose hooks do their arithmetic and write down that they were called."""

    def hook(name: str) -> Callable[..., Any]:
        if name == MOVE:

            def move(self: Any, batch: torch.Tensor, device: torch.device, dataloader_idx: int) -> torch.Tensor:
                calls.append((who, name, batch.item(), device, dataloader_idx))
                return batch * 10

            return move

        def change(self: Any, batch: torch.Tensor, dataloader_idx: int) -> torch.Tensor:
            calls.append((who, name, batch.item(), dataloader_idx))
            return batch + 1 if name == BEFORE else batch - 3

        return change

    return type(f"With{who}", (base,), {name: hook(name) for name in hooks})()


SUBSETS = [subset for size in range(4) for subset in itertools.combinations(HOOKS, size)]


@pytest.mark.parametrize("hooks", SUBSETS, ids=lambda hooks: "+".join(hooks) or "none")
@pytest.mark.parametrize("owner", ["module", "datamodule"])
def test_the_hooks_run_in_their_order_whichever_are_overridden(
    hooks: tuple[str, ...], owner: str, tmp_path: Path
) -> None:
    calls = Calls()
    module = with_hooks(Sees, hooks if owner == "module" else (), calls)
    data = with_hooks(LightningDataModule, hooks if owner == "datamodule" else (), calls)
    data.train_dataloader = lambda: numbers(5, 7)
    make_trainer(tmp_path, [], max_epochs=1).fit(module, datamodule=data)

    expected_calls, expected_batches = [], []
    for number in (5.0, 7.0):
        for hook in HOOKS:
            if hook in hooks:
                expected_calls.append(("", hook, number, *([CPU] if hook == MOVE else []), 0))
                number = ARITHMETIC[hook](number)
        expected_batches.append(number)
    assert calls == expected_calls
    assert module.seen == expected_batches


@pytest.mark.parametrize("of_data", SUBSETS, ids=lambda hooks: "+".join(hooks) or "none")
def test_a_hook_of_the_datamodule_takes_the_place_of_the_modules_hook_by_hook(
    of_data: tuple[str, ...], tmp_path: Path
) -> None:
    calls = Calls()
    module = with_hooks(Sees, HOOKS, calls, "Module")
    data = with_hooks(LightningDataModule, of_data, calls, "Data")
    data.train_dataloader = lambda: numbers(5)
    make_trainer(tmp_path, [], max_epochs=1).fit(module, datamodule=data)
    assert [(who, hook) for who, hook, *_ in calls] == [
        ("Data" if hook in of_data else "Module", hook) for hook in HOOKS
    ]
    assert module.seen == [(5 + 1) * 10 - 3]


def run(trainer: Trainer, module: LightningModule, stage: str, loaders: Any) -> None:
    """The entry point that runs validation, test or prediction."""
    if stage == "predict":
        trainer.predict(module, loaders)
    else:
        getattr(trainer, stage)(module, loaders, verbose=False)


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_evaluation_tells_the_hooks_which_loader_a_batch_is_from(stage: str, tmp_path: Path) -> None:
    calls = Calls()
    module = with_hooks(Sees, HOOKS, calls)
    run(make_trainer(tmp_path, []), module, stage, [numbers(1, 2), numbers(3)])
    assert [(hook, index) for _, hook, _, *rest in calls for index in rest[-1:]] == [
        *((hook, 0) for _ in (1, 2) for hook in HOOKS),
        *((hook, 1) for hook in HOOKS),
    ]
    assert module.seen == [(number + 1) * 10 - 3 for number in (1, 2, 3)]


def test_one_loader_is_loader_0_in_every_stage_of_a_fit(tmp_path: Path) -> None:
    calls = Calls()
    module = with_hooks(Sees, HOOKS, calls)
    make_trainer(tmp_path, [], max_epochs=1, num_sanity_val_steps=1).fit(module, numbers(1), numbers(2, 3))
    # The sanity check, a training batch, and validation.
    assert [(hook, number) for _, hook, number, *_ in calls if hook == BEFORE] == [
        *((BEFORE, number) for number in (2, 1, 2, 3)),
    ]
    assert {rest[-1] for _, _, _, *rest in calls} == {0}
    assert module.seen == [27, 17, 27, 37]


def test_callbacks_see_the_batch_as_it_comes_out(tmp_path: Path) -> None:
    class Looks(Callback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_train_batch_start(
            self, trainer: TrainerView, pl_module: LightningModule, batch: Any, *args: Any
        ) -> None:
            self.seen.append(batch.item())

        def on_train_batch_end(
            self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any
        ) -> None:
            self.seen.append(batch.item())

        def on_validation_batch_start(
            self, trainer: TrainerView, pl_module: LightningModule, batch: Any, *args: Any
        ) -> None:
            self.seen.append(batch.item())

    callback = Looks()
    trainer = make_trainer(tmp_path, [callback], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(with_hooks(Sees, HOOKS, Calls()), numbers(1), numbers(2))
    assert callback.seen == [17, 17, 27]


def test_a_hook_may_call_the_one_that_it_overrides(tmp_path: Path) -> None:
    class Extends(Sees):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return super().on_before_batch_transfer(batch, dataloader_idx) + 1

        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            return super().transfer_batch_to_device(batch, device, dataloader_idx) * 10

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return super().on_after_batch_transfer(batch, dataloader_idx) - 3

    module = Extends()
    make_trainer(tmp_path, [], max_epochs=1).fit(module, numbers(1))
    assert module.seen == [17]


def test_gradients_are_on_for_training_batches_and_off_for_the_others(tmp_path: Path) -> None:
    grad: list[bool] = []

    class Learns(Sees):
        """What happens after the transfer may be a part of the model."""

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            grad.append(torch.is_grad_enabled())
            return self.layer(batch)

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = batch.sum()
            return loss

    module = Learns()
    before = module.layer.weight.item()
    trainer = make_trainer(tmp_path, [], max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(module, numbers(2), numbers(1))
    assert grad == [True, False]
    # The loss is weight · 2 + bias, so its gradient is 2.
    assert module.layer.weight.item() == pytest.approx(before - 0.1 * 2)


@pytest.mark.parametrize("hook", HOOKS)
def test_an_error_in_a_hook_reaches_the_user(hook: str, tmp_path: Path) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise RuntimeError(f"planted in {hook}")

    module = type("Fails", (Sees,), {hook: fail})()
    with pytest.raises(RuntimeError, match=f"planted in {hook}"):
        make_trainer(tmp_path, [], max_epochs=1).fit(module, numbers(1))
    assert module.seen == []


# Batches of other kinds


class Graph:
    """A batch that only knows how to move itself."""

    def __init__(self, moves: tuple[Any, ...] = ()) -> None:
        self.moves = moves

    def to(self, device: Any) -> "Graph":
        return Graph((*self.moves, device))


@pytest.mark.parametrize(
    ("hooks", "moves"),
    [((), ()), ((BEFORE,), (CPU,)), ((AFTER,), (CPU,)), ((MOVE,), ("by hand",)), (HOOKS, ("by hand",))],
    ids=["none", "before", "after", "transfer", "all"],
)
def test_a_batch_that_moves_itself_is_asked_once_where_there_is_something_to_do(
    hooks: tuple[str, ...], moves: tuple[Any, ...], tmp_path: Path
) -> None:
    """On the CPU, batches are where they are used already: without hooks a step pays nothing for this."""

    def same(self: Any, batch: Any, dataloader_idx: int) -> Any:
        return batch

    def by_hand(self: Any, batch: Graph, device: torch.device, dataloader_idx: int) -> Graph:
        return batch.to("by hand")

    methods = {BEFORE: same, MOVE: by_hand, AFTER: same}
    module = type("WithHooks", (Sees,), {hook: methods[hook] for hook in hooks})()
    make_trainer(tmp_path, [], max_epochs=1).fit(module, loader_of(Graph()))
    (batch,) = module.seen
    assert batch.moves == moves


@pytest.mark.parametrize("hooks", [(), (BEFORE,), (MOVE,), (AFTER,)], ids=["none", "before", "transfer", "after"])
def test_the_precision_converts_inputs_before_the_first_hook(hooks: tuple[str, ...], tmp_path: Path) -> None:
    dtypes: list[torch.dtype] = []

    def look(self: Any, batch: Any, *args: Any) -> Any:
        dtypes.append(batch.dtype)
        return batch

    class Looks(Sees):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            dtypes.append(batch.dtype)
            return super().training_step(batch, batch_idx)

    module = type("WithHooks", (Looks,), dict.fromkeys(hooks, look))()
    make_trainer(tmp_path, [], max_epochs=1, precision="64-true").fit(module, numbers(1))
    assert dtypes == [torch.float64] * (len(hooks) + 1)


# Another device. "meta" is on every machine: it has shapes and no numbers.


class Meta(CPUAccelerator):
    """Takes that device."""

    def setup_device(self, device: torch.device) -> None:
        pass


class OnMeta(SingleDeviceStrategy):
    """Nothing can be brought back from there."""

    def __init__(self) -> None:
        super().__init__(META, Meta())

    def release(self, module: nn.Module) -> None:
        return None


@pytest.mark.parametrize(
    "hooks", [(), (BEFORE,), (AFTER,), (BEFORE, AFTER)], ids=lambda hooks: "+".join(hooks) or "none"
)
def test_batches_are_moved_to_the_device_of_the_strategy_in_every_stage(hooks: tuple[str, ...], tmp_path: Path) -> None:
    devices: list[tuple[str, torch.device]] = []

    def look(name: str) -> Callable[..., Any]:
        def method(self: Any, batch: Any, dataloader_idx: int) -> Any:
            devices.append((name, batch["x"].device))
            return batch

        return method

    module = type("WithHooks", (Sees,), {hook: look(hook) for hook in hooks})()
    trainer = Trainer(
        strategy=OnMeta(), max_epochs=1, logger=False, default_root_dir=tmp_path, registered_callbacks=False
    )
    batches = loader_of({"x": torch.ones(2), "name": "a"})
    trainer.fit(module, batches, batches)
    run(trainer, module, "test", batches)
    run(trainer, module, "predict", [batches, batches])
    # Sanity check, training, validation, test, and two loaders of predictions.
    assert [(batch["x"].device, batch["name"]) for batch in module.seen] == [(META, "a")] * 6
    in_hooks = [(hook, CPU if hook == BEFORE else META) for hook in hooks]
    assert devices == in_hooks * 6
    assert module.layer.weight.device == META


def test_transfer_gets_the_device_of_the_strategy_and_has_the_last_word(tmp_path: Path) -> None:
    class Stays(Sees):
        def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
            assert device == META
            return batch

    module = Stays()
    trainer = Trainer(
        strategy=OnMeta(), max_epochs=1, logger=False, default_root_dir=tmp_path, registered_callbacks=False
    )
    trainer.fit(module, numbers(1, 2))
    assert module.seen == [1, 2]
