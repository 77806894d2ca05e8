"""SWA equals a plain loop with torch.optim.swa_utils (AveragedModel, SWALR, update_bn), and leaves schedules alone."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import SWALR, AveragedModel, get_swa_multi_avg_fn, update_bn
from torch.utils.data import DataLoader, TensorDataset

from averaging import BATCHES, Net, PlainLoop, data, same, weights
from hookloop import LightningDataModule, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_swa import StochasticWeightAveraging

Make = Callable[..., Trainer]
EPOCHS = 6


class Plain:
    """The loop of torch's documentation; averages and anneals from an epoch on."""

    def __init__(self, first: int, lrs: float | list[float] | None, **annealing: Any) -> None:
        self.model = Net()
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_swa_multi_avg_fn())
        self.rates: list[float] = []
        loop = PlainLoop(self.model)
        scheduler: SWALR | None = None
        if lrs is not None and first == 0:
            scheduler = SWALR(loop.optimizer, lrs, **annealing)  # type: ignore[arg-type]
        rate = loop.optimizer.param_groups[0]["lr"]
        for what, index in loop.run(EPOCHS):
            if what == "step":
                self.rates.append(rate)
            elif index >= first:
                self.averaged.update_parameters(self.model)
                if scheduler is not None:
                    scheduler.step()
            if what == "epoch" and index == first - 1 and lrs is not None:
                scheduler = SWALR(loop.optimizer, lrs, **annealing)  # type: ignore[arg-type]
            rate = loop.optimizer.param_groups[0]["lr"]
        update_bn(data(), self.averaged)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    ("given", "first", "annealing"),
    [
        ({"swa_epoch_start": 3}, 2, {}),
        ({"swa_epoch_start": 0.5}, 3, {}),
        ({"swa_epoch_start": 0.0}, 0, {}),
        ({"swa_epoch_start": 1.0}, 5, {}),
        ({"swa_lrs": 0.02, "swa_epoch_start": 2, "annealing_epochs": 3}, 1, {"anneal_epochs": 3}),
        ({"swa_lrs": 1, "swa_epoch_start": 1, "annealing_epochs": 2}, 0, {"anneal_epochs": 2}),
        (
            {"swa_lrs": [0.02], "swa_epoch_start": 2, "annealing_epochs": 3, "annealing_strategy": "linear"},
            1,
            {"anneal_epochs": 3, "anneal_strategy": "linear"},
        ),
        ({"swa_lrs": 0.02, "swa_epoch_start": 2, "annealing_epochs": 0}, 1, {"anneal_epochs": 0}),
    ],
)
def test_swa_equals_torchs_bit_for_bit(
    given: dict[str, Any], first: int, annealing: dict[str, Any], trainer: Make
) -> None:
    module, callback = Net(), StochasticWeightAveraging(**given)

    trainer(callback, max_epochs=EPOCHS).fit(module, data())

    plain = Plain(first, given.get("swa_lrs"), **annealing)
    assert module.rates == plain.rates
    assert callback.n_averaged == int(plain.averaged.n_averaged) == EPOCHS - first
    assert same(weights(module), weights(plain.averaged.module))


def test_a_function_of_ones_own_averages_the_epochs(trainer: Make) -> None:
    module = Net()

    def halves(average: Tensor, live: Tensor, n_averaged: Any) -> Tensor:
        return (average + live) / 2

    trainer(StochasticWeightAveraging(swa_epoch_start=3, avg_fn=halves, bn_batches=0)).fit(module, data())

    model = Net()
    averaged = AveragedModel(model, avg_fn=halves)
    for what, index in PlainLoop(model).run(4):
        if what == "epoch" and index >= 2:
            averaged.update_parameters(model)
    assert same(dict(module.named_parameters()), dict(averaged.module.named_parameters()))


# The learning rate


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_without_swa_lrs_the_schedule_goes_on_as_without_the_callback(interval: str, trainer: Make) -> None:
    alone, averaged = Net(gamma=0.9, interval=interval), Net(gamma=0.9, interval=interval)

    trainer(max_epochs=EPOCHS).fit(alone, data())
    run = trainer(StochasticWeightAveraging(swa_epoch_start=0.5), max_epochs=EPOCHS)
    run.fit(averaged, data())

    assert averaged.rates == alone.rates
    assert len(set(averaged.rates)) == (EPOCHS if interval == "epoch" else EPOCHS * BATCHES)
    assert [type(one.scheduler).__name__ for one in run.lr_scheduler_configs] == ["ExponentialLR"]


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_with_swa_lrs_the_schedule_holds_until_averaging_begins(interval: str, trainer: Make) -> None:
    alone, averaged = Net(gamma=0.9, interval=interval), Net(gamma=0.9, interval=interval)

    trainer(max_epochs=EPOCHS).fit(alone, data())
    trainer(StochasticWeightAveraging(0.01, 4, annealing_epochs=2, annealing_strategy="linear"), max_epochs=EPOCHS).fit(
        averaged, data()
    )

    begin = 3 * BATCHES
    assert averaged.rates[:begin] == alone.rates[:begin]
    at = alone.rates[begin]
    for epoch, part in ((3, 0.0), (4, 0.5), (5, 1.0)):
        rates = averaged.rates[epoch * BATCHES : (epoch + 1) * BATCHES]
        assert rates == pytest.approx([at + part * (0.01 - at)] * BATCHES, rel=1e-12)


def test_annealing_in_steps_takes_so_many_steps(trainer: Make) -> None:
    module = Net()

    trainer(StochasticWeightAveraging(0.02, 2, annealing_steps=8), max_epochs=4).fit(module, data())

    expected = [0.1] * BATCHES
    for step in range(3 * BATCHES):
        part = (1 - math.cos(math.pi * min(1, step / 8))) / 2
        expected.append(0.1 + part * (0.02 - 0.1))
    assert module.rates == pytest.approx(expected, rel=1e-12)


class TwoGroups(Net):
    def configure_optimizers(self) -> Any:
        first, second = self.net[0].parameters(), self.net[3].parameters()
        return torch.optim.SGD([{"params": first, "lr": 0.1}, {"params": second, "lr": 0.2}], lr=1.0)


def test_each_group_has_a_rate_of_its_own(trainer: Make) -> None:
    run = trainer(StochasticWeightAveraging([0.03, 0.04], 1, annealing_epochs=1), max_epochs=2)

    run.fit(TwoGroups(), data())

    assert [group["lr"] for group in run.optimizers[0].param_groups] == [0.03, 0.04]


def test_rates_and_groups_have_to_be_as_many(trainer: Make) -> None:
    with pytest.raises(MisconfigurationError, match=r"swa_lrs=\[0.1, 0.2, 0.3\]\) has 3 rates, .* have 2 parameter gr"):
        trainer(StochasticWeightAveraging([0.1, 0.2, 0.3])).fit(TwoGroups(), data())


# When it begins


@pytest.mark.parametrize(
    ("limits", "averaged_after"),
    [
        ({"max_epochs": -1, "max_steps": 20}, [20]),  # epochs end after steps 5, 10, 15, 20; it begins after 16
        ({"max_epochs": 100, "max_steps": 20}, [20]),
        ({"max_epochs": 4, "max_steps": 1000}, [20]),  # the epochs end first: the last one of four
        ({"max_epochs": -1, "max_steps": 18}, [15, 18]),  # it begins after 14, and the last epoch is cut short
    ],
)
def test_a_fraction_is_one_of_what_ends_the_run(
    limits: dict[str, int], averaged_after: list[int], trainer: Make
) -> None:
    live: list[int] = []

    class Watched(StochasticWeightAveraging):
        def _update(self, pl_module: LightningModule) -> None:
            live.append(pl_module.trainer.global_step)
            super()._update(pl_module)

    trainer(Watched(swa_epoch_start=0.8, bn_batches=0), **limits).fit(Net(), data())

    assert live == averaged_after


def test_averages_of_steps_begin_after_the_fraction_of_steps(trainer: Make) -> None:
    module = Net()
    callback = StochasticWeightAveraging(swa_epoch_start=0.5, update_every_n_steps=3, bn_batches=0)

    trainer(callback, max_epochs=-1, max_steps=20).fit(module, data())

    model = Net()
    averaged = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    for what, index in PlainLoop(model).run(4):
        if what == "step" and index >= 10 and (index + 1) % 3 == 0:
            averaged.update_parameters(model)
    assert callback.n_averaged == 3  # after steps 12, 15 and 18
    assert same(dict(module.named_parameters()), dict(averaged.module.named_parameters()))


def test_a_fraction_of_a_run_without_an_end_is_refused(trainer: Make) -> None:
    with pytest.raises(MisconfigurationError, match=r"max_epochs=-1 and max_steps=-1 has no end. Set one of them"):
        trainer(StochasticWeightAveraging(), max_epochs=-1).fit(Net(), data())


def test_where_averaging_never_begins_the_live_weights_are_the_result(trainer: Make) -> None:
    alone, module = Net(), Net()

    trainer(max_epochs=2).fit(alone, data())
    trainer(StochasticWeightAveraging(0.01, swa_epoch_start=9), max_epochs=2).fit(module, data())

    assert same(weights(module), weights(alone))


# Statistics of batch norms


def test_the_pass_can_be_limited(trainer: Make) -> None:
    module = Net()

    trainer(StochasticWeightAveraging(swa_epoch_start=3, bn_batches=2)).fit(module, data())

    model = Net()
    averaged = AveragedModel(model, multi_avg_fn=get_swa_multi_avg_fn())
    for what, index in PlainLoop(model).run(4):
        if what == "epoch" and index >= 2:
            averaged.update_parameters(model)
    update_bn(list(data())[:2], averaged)
    assert int(module.state_dict()["net.1.num_batches_tracked"]) == 2
    assert same(weights(module), weights(averaged.module))


def test_the_pass_calls_no_hook_counts_no_step_and_draws_nothing(trainer: Make) -> None:
    calls: list[str] = []

    class Told(Net):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            calls.append("start")

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            calls.append("step")
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            calls.append("end")

    drawn = []
    for callbacks in ([], [StochasticWeightAveraging(swa_epoch_start=1, swap_for_eval=True)]):
        torch.manual_seed(0)
        run = trainer(*callbacks, max_epochs=2, val_check_interval=2)
        run.fit(Told(), data(shuffle=True), data(2))
        drawn.append(torch.rand(3))
        assert (run.global_step, run.current_epoch) == (2 * BATCHES, 2)
    assert calls == ["start", "step", "end"] * (2 * 2 * BATCHES)
    assert torch.equal(*drawn)


def test_the_pass_leaves_a_generator_of_the_loader_and_modes_as_they_were(trainer: Make) -> None:
    ends = []
    for callbacks in ([], [StochasticWeightAveraging(swa_epoch_start=1, bn_batches=3, swap_for_eval=True)]):
        generator = torch.Generator().manual_seed(5)
        x = torch.arange(40.0).view(10, 4)
        loader = DataLoader(TensorDataset(x, x[:, :1]), batch_size=2, shuffle=True, generator=generator)
        module = Net(lr=1e-4)
        module.net[2].eval()
        trainer(*callbacks, max_epochs=3).fit(module, loader, data(1))
        ends.append(generator.get_state())
        assert module.net[1].momentum == 0.1
        assert [part.training for part in module.net] == [True, True, False, True]
    assert torch.equal(*ends)


class Dicts(Net):
    def forward(self, batch: Any) -> Tensor:
        answers: Tensor = self.net(batch["x"])
        return answers

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.forward(batch), batch["y"])


def test_a_batch_that_is_no_sequence_goes_to_forward_whole_and_through_the_datamodule(trainer: Make) -> None:
    class Data(LightningDataModule):
        def train_dataloader(self) -> Any:
            return data()

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return {"x": batch[0], "y": batch[1]}

    module = Dicts()

    trainer(StochasticWeightAveraging(swa_epoch_start=2), max_epochs=2).fit(module, datamodule=Data())

    assert int(module.state_dict()["net.1.num_batches_tracked"]) == BATCHES


class NoForward(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        outputs: Tensor = self.norm(batch[0])
        return (outputs**2).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_module_without_forward_is_told_before_anything_is_trained(trainer: Make) -> None:
    run = trainer(StochasticWeightAveraging())

    with pytest.raises(MisconfigurationError, match=r"calling NoForward.forward\(\), which is not defined. Define it"):
        run.fit(NoForward(), data())

    assert run.global_step == 0


def test_a_callback_can_say_how_a_module_runs_on_a_batch(trainer: Make) -> None:
    class Own(StochasticWeightAveraging):
        def forward_for_statistics(self, pl_module: LightningModule, batch: Any) -> object:
            return pl_module.get_submodule("norm")(batch[0])

    module = NoForward()

    trainer(Own(swa_epoch_start=2), max_epochs=2).fit(module, data())

    x = torch.cat([batch[0] for batch in data()])
    torch.testing.assert_close(module.norm.running_mean, x.mean(0))


def test_a_validation_that_uses_the_averages_sees_their_statistics(trainer: Make) -> None:
    module, count = Net(), []

    class Counts(Net):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            count.append(int(self.state_dict()["net.1.num_batches_tracked"]))

    module = Counts()
    trainer(StochasticWeightAveraging(swa_epoch_start=2, bn_batches=3, swap_for_eval=True)).fit(module, data(), data(1))

    # Nothing was averaged before the second epoch had ended: the live model has seen 5 and 10 batches. Then 3 each.
    assert count == [BATCHES, 2 * BATCHES, 3, 3]
