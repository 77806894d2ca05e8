"""Which tensors have an average: tied, frozen and lazy ones, and those that come to the module during the run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from averaging import BATCHES, Net, data, same, weights
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop_callbacks_swa import EMAWeightAveraging

Make = Callable[..., Trainer]


class Steps(Callback):
    """Averages one tensor by itself: from its value at the beginning of an epoch on, after each step."""

    order = Order.LAST

    def __init__(self, tensor: Callable[[Any], Tensor], epoch: int) -> None:
        self.tensor, self.epoch = tensor, epoch
        self.average: Tensor | None = None

    def on_train_epoch_start(self, trainer: Any, pl_module: LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            self.average = self.tensor(pl_module).detach().clone()

    def on_train_batch_end(self, trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        if self.average is not None:
            self.average = torch.lerp(self.average, self.tensor(pl_module).detach(), 0.25)


class Small(LightningModule):
    """A layer with four inputs, and one output at the end."""

    first: nn.Module
    last: nn.Linear

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.last(torch.tanh(self.first(x))), y)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([one for one in self.parameters() if one.requires_grad], lr=0.1)


class Tied(Small):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1)
        self.second.weight = self.first.weight

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.mse_loss(self.last(self.second(torch.tanh(self.first(x)))), y)


def test_a_tied_weight_is_averaged_once_and_stays_tied(trainer: Make, tmp_path: Path) -> None:
    module = Tied()
    steps = Steps(lambda one: one.first.weight, 0)
    callback = EMAWeightAveraging(decay=0.75, update_starting_at_step=0)
    begins: list[Tensor] = []

    class Begins(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            if trainer.global_step == 1:
                begins.append(pl_module.first.weight.detach().clone())
                steps.average = begins[0]  # the first update copies

    run = trainer(callback, Begins(), steps, max_epochs=1)
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "tied.ckpt")

    assert module.second.weight is module.first.weight
    assert steps.average is not None
    assert torch.equal(module.second.weight, steps.average)
    saved = torch.load(tmp_path / "tied.ckpt")
    for weights_ in (saved["state_dict"], saved["weights"]["averaged"]):
        assert torch.equal(weights_["first.weight"], weights_["second.weight"])
    assert not torch.equal(saved["state_dict"]["first.weight"], saved["weights"]["averaged"]["first.weight"])
    fresh = Tied()
    fresh.load_state_dict(saved["weights"]["averaged"])
    assert same(weights(fresh), weights(module))


def test_a_frozen_weight_is_in_the_average_and_stays_what_it_is(trainer: Make, tmp_path: Path) -> None:
    module = Net()
    module.net[0].requires_grad_(False)
    before = module.first_weight.detach().clone()

    run = trainer(EMAWeightAveraging(decay=0.9), max_epochs=2)
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "frozen.ckpt")

    averaged = torch.load(tmp_path / "frozen.ckpt")["weights"]["averaged"]
    assert list(averaged) == list(module.state_dict())
    assert torch.equal(averaged["net.0.weight"], before)
    assert torch.equal(module.first_weight, before)
    assert not module.first_weight.requires_grad


class Lazy(Small):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.last = nn.LazyLinear(4), nn.Linear(4, 1)


def test_a_lazy_module_is_averaged_from_its_first_step_on(trainer: Make) -> None:
    module = Lazy()
    values: list[Tensor] = []

    class Keeps(Callback):
        def on_after_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            values.append(pl_module.first.weight.detach().clone())

    trainer(EMAWeightAveraging(decay=0.75), Keeps(), max_epochs=1).fit(module, data())

    average = values[0]
    for value in values[1:]:
        average = torch.lerp(average, value, 0.25)
    assert len(values) == BATCHES
    assert torch.equal(module.get_parameter("first.weight"), average)


class LazyLater(Lazy):
    """Its lazy part is used from the second epoch on."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        if self.current_epoch == 0:
            return nn.functional.mse_loss(self.last(x), y)
        return super().training_step(batch, batch_idx)


def test_a_part_that_stays_lazy_for_an_epoch_joins_in_the_one_after(trainer: Make, tmp_path: Path) -> None:
    module = LazyLater()
    steps = Steps(lambda one: one.first.weight, 2)

    run = trainer(EMAWeightAveraging(decay=0.75), steps, max_epochs=3)
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "lazy.ckpt")

    assert steps.average is not None
    assert torch.equal(module.get_parameter("first.weight"), steps.average)
    assert torch.equal(torch.load(tmp_path / "lazy.ckpt")["weights"]["averaged"]["first.weight"], steps.average)


class Grows(Callback):
    """Gives the module another layer, and the optimizer its weights."""

    order = Order.FIRST

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        if trainer.current_epoch == 1:
            torch.manual_seed(4)
            pl_module.first = nn.Sequential(pl_module.first, nn.Linear(4, 4))
            trainer.optimizers[0].add_param_group({"params": list(pl_module.first[1].parameters())})


class Plain(Small):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 1)


def test_weights_that_come_during_the_run_are_averaged_from_then_on(trainer: Make, tmp_path: Path) -> None:
    module = Plain()
    new = Steps(lambda one: one.first[1].weight, 1)
    whole = Steps(lambda one: one.last.weight, 0)

    class Begins(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            if trainer.global_step == 1:
                whole.average = pl_module.last.weight.detach().clone()  # the first update copies

    run = trainer(EMAWeightAveraging(decay=0.75), Grows(), Begins(), new, whole, max_epochs=2)
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "grown.ckpt")

    averaged = torch.load(tmp_path / "grown.ckpt")["weights"]["averaged"]
    assert list(averaged) == list(module.state_dict())
    assert new.average is not None
    assert whole.average is not None
    assert torch.equal(averaged["first.1.weight"], new.average)
    assert torch.equal(averaged["last.weight"], whole.average)


class Counted(Net):
    """Has a buffer of integers, one of floating-point numbers, and one that is not saved."""

    whole: Tensor
    parts: Tensor
    unsaved: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("whole", torch.tensor(0))
        self.register_buffer("parts", torch.tensor(0.0))
        self.register_buffer("unsaved", torch.tensor(0.0), persistent=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for buffer in (self.whole, self.parts, self.unsaved):
            buffer += 1
        return super().training_step(batch, batch_idx)


def test_buffers_of_integers_and_unsaved_ones_are_those_of_the_last_step(trainer: Make, tmp_path: Path) -> None:
    module = Counted()

    run = trainer(EMAWeightAveraging(decay=0.5), max_epochs=1)
    run.fit(module, data())
    run.save_checkpoint(tmp_path / "counted.ckpt")

    expected = 1.0
    for step in range(2, BATCHES + 1):
        expected = expected / 2 + step / 2
    averaged = torch.load(tmp_path / "counted.ckpt")["weights"]["averaged"]
    assert (int(module.whole), float(module.unsaved)) == (BATCHES, BATCHES)
    assert (int(averaged["whole"]), float(averaged["parts"])) == (BATCHES, expected)
    assert "unsaved" not in averaged
