"""`GradientAccumulationScheduler`: windows of the size that the schedule says, and never another one inside of one."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_tuning import GradientAccumulationScheduler

BATCHES = 7


class Line(LightningModule):
    """Learns a line; `sizes` has the number of batches of each window."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(2)
            self.layer = nn.Linear(2, 1)
        self.sizes: list[int] = []
        self.filled = 0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.filled += 1
        x, y = batch
        return nn.functional.mse_loss(self.layer(x), y)

    def on_after_optimizer_step(self, optimizer: Any) -> None:
        self.sizes.append(self.filled)
        self.filled = 0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def data() -> DataLoader[Any]:
    x = torch.randn(2 * BATCHES, 2, generator=torch.Generator().manual_seed(1))
    return DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), batch_size=2)


def plainly(sizes: list[int]) -> Line:
    """Train with windows of these sizes, epoch by epoch, by a plain loop."""
    model = Line()
    optimizer = model.configure_optimizers()
    batches = [batch for _ in range(99) for batch in data()]
    at = 0
    for size in sizes:
        optimizer.zero_grad()
        for batch in batches[at : at + size]:
            (model.training_step(batch, 0) / size).backward()
        optimizer.step()
        at += size
    return model


def trainer_in(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 4, "logger": False, "registered_callbacks": False, "accelerator": "cpu"}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**given, **arguments})


BY_EPOCHS = ({1: 3, 2: 2}, "epochs", [1] * 7 + [3, 3, 1] + [2, 2, 2, 1] * 2)
BY_STEPS = ({0: 2, 3: 3, 5: 1, 8: 4}, "steps", [2, 2, 2, 1] + [3, 1, 1, 1, 1] + [4, 3] * 2)
SCHEDULES = pytest.mark.parametrize(("schedule", "unit", "sizes"), [BY_EPOCHS, BY_STEPS], ids=["epochs", "steps"])


@SCHEDULES
def test_windows_have_the_sizes_of_the_schedule_and_weights_are_those_of_a_plain_loop(
    schedule: Any, unit: Any, sizes: list[int], tmp_path: Path
) -> None:
    model = Line()
    trainer_in(tmp_path, GradientAccumulationScheduler(schedule, unit)).fit(model, data())

    assert model.sizes == sizes
    for one, other in zip(model.parameters(), plainly(sizes).parameters(), strict=True):
        assert torch.equal(one, other)


class StopsError(Exception):
    pass


class Stops(Callback):
    """Saves after a batch, and ends the run."""

    order = Order.LAST

    def __init__(self, epoch: int, batch: int, path: Path) -> None:
        self.at, self.path = (epoch, batch), path

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        if (trainer.current_epoch, trainer.batch_idx - 1) == self.at:
            trainer.save_checkpoint(self.path)
            raise StopsError


@SCHEDULES
@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("batch", [0, 2, 3, 6])
def test_a_run_that_is_resumed_anywhere_goes_on_with_the_window_that_it_was_in(
    schedule: Any, unit: Any, sizes: list[int], epoch: int, batch: int, tmp_path: Path
) -> None:
    path = tmp_path / "stopped.ckpt"
    callbacks = [GradientAccumulationScheduler(schedule, unit), Stops(epoch, batch, path)]
    with pytest.raises(StopsError):
        trainer_in(tmp_path, *callbacks).fit(Line(), data())
    model = Line()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # that the saved run accumulated otherwise
        trainer_in(tmp_path, GradientAccumulationScheduler(schedule, unit)).fit(model, data(), ckpt_path=path)

    for one, other in zip(model.parameters(), plainly(sizes).parameters(), strict=True):
        assert torch.equal(one, other)
    whole = model.sizes[1:]  # the first one may have begun before
    assert whole == sizes[len(sizes) - len(whole) :]


def test_the_trainer_is_as_before_when_the_fit_is_over_even_after_an_exception(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, GradientAccumulationScheduler({0: 3}), max_epochs=1)
    trainer.fit(Line(), data())
    assert trainer.accumulate_grad_batches == 1
    trainer.fit(Line(), data())
    trainer.callbacks.append(Stops(0, 1, tmp_path / "x.ckpt"))
    with pytest.raises(StopsError):
        trainer.fit(Line(), data())
    assert trainer.accumulate_grad_batches == 1


def test_the_schedule_that_was_passed_is_not_changed_and_says_what_holds_when() -> None:
    given = {4: 2, 2: 3}
    before = copy.copy(given)
    callback = GradientAccumulationScheduler(given)

    assert given == before
    assert list(callback.scheduling.items()) == [(0, 1), (2, 3), (4, 2)]
    assert [callback.get_accumulate_grad_batches(epoch) for epoch in range(6)] == [1, 1, 3, 3, 2, 2]
    assert callback.going_to_accumulate_grad_batches()
    assert not GradientAccumulationScheduler({0: 1}).going_to_accumulate_grad_batches()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({},), r"scheduling=\{\}\) must be a dict with at least one factor"),
        (([1, 2],), r"scheduling=\[1, 2\]\) must be a dict"),
        (({-1: 2},), "the keys must be whole numbers of at least 0"),
        (({1.5: 2},), "the keys must be whole numbers of at least 0"),
        (({True: 2},), "the keys must be whole numbers of at least 0"),
        (({0: 0},), "the factors must be whole numbers of at least 1"),
        (({0: 2.0},), "the factors must be whole numbers of at least 1"),
        (({0: 2}, "batches"), r"""unit='batches'\) must be "epochs" or "steps"."""),
    ],
)
def test_a_schedule_that_is_none_is_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        GradientAccumulationScheduler(*arguments)


class Manual(Line):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


class SecondOrder(Line):
    def configure_optimizers(self) -> Any:
        return torch.optim.LBFGS(self.parameters())


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (Line, {"accumulate_grad_batches": 2}, r"The Trainer has accumulate_grad_batches=2, .* schedule it: \{0: 2, "),
        (Manual, {}, r"Manual steps its optimizers itself .* Leave it out, and count batches in training_step"),
        (SecondOrder, {}, "does not work with LBFGS, which evaluates the loss several times"),
    ],
)
def test_what_it_cannot_work_with_is_an_error(model: Any, arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, GradientAccumulationScheduler({0: 2}), **arguments).fit(model(), data())


def test_a_run_has_one(tmp_path: Path) -> None:
    both = [GradientAccumulationScheduler({0: 2}), GradientAccumulationScheduler({0: 3})]
    with pytest.raises(MisconfigurationError, match="GradientAccumulationScheduler"):
        trainer_in(tmp_path, *both)
