"""Exponential averages equal torch's AveragedModel, tensor for tensor; half-life and warm-up equal their formulas."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_multi_avg_fn
from torch.utils.data import DataLoader

from averaging import BATCHES, Net, PlainLoop, data, same, weights
from hookloop import Trainer
from hookloop_callbacks_swa import EMAWeightAveraging, WeightAveraging

Make = Callable[..., Trainer]
COUNT = "net.1.num_batches_tracked"


def without_count(module: torch.nn.Module) -> dict[str, Tensor]:
    """Weights without the integer buffer, which is not averaged."""
    return {name: value for name, value in weights(module).items() if name != COUNT}


def plain(
    due: Callable[[int], bool] = lambda step: True, epochs: int = 4, **arguments: Any
) -> tuple[AveragedModel, Net]:
    """torch's own average over a plain loop."""
    model = Net()
    averaged = AveragedModel(model, **arguments)
    for what, index in PlainLoop(model).run(epochs):
        if what == "step" and due(index):
            averaged.update_parameters(model)
    return averaged, model


@pytest.mark.parametrize(
    ("given", "due", "decay"),
    [
        ({}, lambda step: True, 0.999),
        ({"decay": 0.5}, lambda step: True, 0.5),
        ({"decay": 0.0}, lambda step: True, 0.0),
        ({"decay": 1.0}, lambda step: True, 1.0),
        ({"decay": 0.9, "update_every_n_steps": 3}, lambda step: step % 3 == 0, 0.9),
        ({"decay": 0.9, "update_starting_at_step": 7}, lambda step: step >= 7, 0.9),
        ({"decay": 0.9, "update_starting_at_epoch": 2}, lambda step: step >= 2 * BATCHES, 0.9),
        (
            {"decay": 0.9, "update_starting_at_step": 13, "update_starting_at_epoch": 1, "update_every_n_steps": 2},
            lambda step: step >= 13 and step % 2 == 0,
            0.9,
        ),
        (
            {"decay": 0.9, "update_starting_at_step": 3, "update_starting_at_epoch": 2},
            lambda step: step >= 2 * BATCHES,
            0.9,
        ),
        ({"half_life": 4}, lambda step: True, 0.5 ** (1 / 4)),
        ({"half_life": 4, "update_every_n_steps": 2}, lambda step: step % 2 == 0, 0.5 ** (2 / 4)),
    ],
)
def test_an_exponential_average_equals_torchs_bit_for_bit(
    given: dict[str, Any], due: Callable[[int], bool], decay: float, trainer: Make
) -> None:
    module, callback = Net(), EMAWeightAveraging(**given)

    trainer(callback).fit(module, data(), data(2))

    averaged, model = plain(due, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
    assert callback.n_averaged == int(averaged.n_averaged) > 0
    assert same(without_count(module), without_count(averaged.module))
    assert torch.equal(module.state_dict()[COUNT], model.state_dict()[COUNT])


def test_without_buffers_those_of_the_live_model_stay(trainer: Make) -> None:
    module = Net()

    trainer(EMAWeightAveraging(decay=0.8, use_buffers=False)).fit(module, data())

    averaged, _ = plain(multi_avg_fn=get_ema_multi_avg_fn(0.8))
    assert same(weights(module), weights(averaged.module))


def test_the_base_class_is_the_mean_of_all_steps(trainer: Make) -> None:
    module = Net()

    trainer(WeightAveraging()).fit(module, data())

    fused, _ = plain(multi_avg_fn=get_swa_multi_avg_fn())
    one_by_one, _ = plain(use_buffers=True)
    for name, value in fused.module.named_parameters():
        assert torch.equal(module.get_parameter(name), value)
    for name, mean in without_count(one_by_one.module).items():
        torch.testing.assert_close(module.state_dict()[name], mean)


@pytest.mark.parametrize("argument", ["avg_fn", "multi_avg_fn"])
def test_functions_of_averaged_model_average_as_they_do_there(argument: str, trainer: Make) -> None:
    module = Net()
    function = get_ema_avg_fn(0.7) if argument == "avg_fn" else get_ema_multi_avg_fn(0.7)

    trainer(WeightAveraging(**{argument: function})).fit(module, data())

    averaged, _ = plain(**{argument: function}, use_buffers=True)
    assert same(without_count(module), without_count(averaged.module))


def test_a_function_gets_the_number_of_averages_as_a_tensor(trainer: Make) -> None:
    counts = []

    def mean(average: Tensor, live: Tensor, n_averaged: Tensor) -> Tensor:
        counts.append(n_averaged.item())
        return average + (live - average) / (n_averaged + 1)

    trainer(WeightAveraging(avg_fn=mean), max_epochs=1).fit(Net(), data())

    assert sorted(set(counts)) == list(range(1, BATCHES))


class EverySecondEpoch(WeightAveraging):
    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None and epoch_idx % 2 == 1


def test_a_subclass_says_which_epochs_are_averaged(trainer: Make) -> None:
    module = Net()

    trainer(EverySecondEpoch(use_buffers=False)).fit(module, data())

    model = Net()
    averaged = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    for what, index in PlainLoop(model).run(4):
        if what == "epoch" and index % 2 == 1:
            averaged.update_parameters(model)
    assert same(weights(module), weights(averaged.module))


class Largest(WeightAveraging):
    """Any average: the largest values so far."""

    def average(self, averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
        torch._foreach_maximum_(averages, live)


def test_a_subclass_says_what_an_average_is(trainer: Make) -> None:
    module = Net()

    trainer(Largest(use_buffers=False)).fit(module, data())

    model, seen = Net(), []
    for what, _ in PlainLoop(model).run(4):
        if what == "step":
            seen.append({name: one.detach().clone() for name, one in model.named_parameters()})
    for name, value in module.named_parameters():
        assert torch.equal(value, torch.stack([one[name] for one in seen]).amax(0))


# In float64, with the numbers themselves


class Scalar(Net):
    """One weight, which goes up by one with each step: 1, 2, 3, ..."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return -self.weight.sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.weight], lr=1.0)


@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("warmup", [9, 2.5])
def test_a_warm_up_is_what_its_formula_says(steps: int, warmup: float, trainer: Make) -> None:
    module = Scalar()

    trainer(EMAWeightAveraging(decay=0.9, decay_warmup=warmup), max_epochs=-1, max_steps=steps).fit(module, data())

    average = 1.0
    for n in range(1, steps):
        decay = min(0.9, (1 + n) / (1 + n + warmup))
        average = decay * average + (1 - decay) * (n + 1)
    assert module.weight.item() == pytest.approx(average, rel=1e-14)


def test_after_a_half_life_a_weight_counts_half_of_what_it_did(trainer: Make) -> None:
    half_life, steps = 6, 30
    module = Scalar()

    trainer(EMAWeightAveraging(half_life=half_life), max_epochs=-1, max_steps=steps).fit(module, data())

    # The first value is worth what the others leave; each other one (1 - decay), halved every `half_life` steps.
    share = [(1 - math.exp2(-1 / half_life)) * math.exp2(-(steps - n) / half_life) for n in range(2, steps + 1)]
    expected = sum(n * one for n, one in zip(range(2, steps + 1), share, strict=True)) + math.exp2(-(steps - 1) / 6)
    assert module.weight.item() == pytest.approx(expected, rel=1e-13)
    assert share[-7] / share[-1] == pytest.approx(0.5, rel=1e-14)


def test_accumulated_batches_are_one_step(trainer: Make) -> None:
    callback = EMAWeightAveraging(decay=0.9)

    trainer(callback, max_epochs=2, accumulate_grad_batches=2).fit(Net(), data(5))

    assert callback.n_averaged == 6  # windows of 2, 2 and 1, twice


class Manual(Net):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        self.manual_backward(self.loss(batch))
        for optimizer in self.optimizers():
            optimizer.step()

    def configure_optimizers(self) -> Any:
        parameters = list(self.parameters())
        return [torch.optim.SGD(half, lr=0.1, momentum=0.9) for half in (parameters[::2], parameters[1::2])]


def test_two_optimizers_that_step_by_hand_are_averaged_once_a_batch(trainer: Make) -> None:
    module, callback = Manual(), EMAWeightAveraging(decay=0.9)

    trainer(callback).fit(module, data())

    averaged, _ = plain(multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    assert callback.n_averaged == 4 * BATCHES
    assert same(without_count(module), without_count(averaged.module))


def test_an_average_that_cannot_move_is_warned_of(trainer: Make) -> None:
    module = Net().bfloat16()
    batches: Any = DataLoader([tuple(one.bfloat16() for one in batch) for batch in data(2)], batch_size=None)  # type: ignore[arg-type]

    with pytest.warns(UserWarning, match=r"averages of torch.bfloat16 weights hardly move with decay=0.999"):
        trainer(EMAWeightAveraging(), max_epochs=1).fit(module, batches)
