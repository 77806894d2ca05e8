"""Every form of configure_optimizers with every kind of scheduler, against a plain loop that steps them too."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from hookloop import LightningModule

from .fitting import BATCHES, Batch, Regression, equal, loader, loss_of, network, trainer_in

EPOCHS = 6
VALIDATION = 2


class Countdown:
    """A scheduler of no library: it is told the epoch, and is stepped by the module's `lr_scheduler_step`."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def step(self, epoch: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = 0.05 / (2 + epoch)

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass(frozen=True)
class Scheduled:
    """A scheduler and the settings that stand beside it."""

    name: str
    make: Callable[[Any], Any]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def interval(self) -> str:
        return str(self.settings.get("interval", "epoch"))

    @property
    def frequency(self) -> int:
        return int(self.settings.get("frequency", 1))


def steps(window: int) -> int:
    """Optimizer steps of the whole fit."""
    return EPOCHS * -(-BATCHES // window)


def in_sequence(optimizer: Any) -> SequentialLR:
    warm_up, decay = LinearLR(optimizer, 0.2, total_iters=3), CosineAnnealingLR(optimizer, 9)
    return SequentialLR(optimizer, [warm_up, decay], milestones=[3])


def chained(optimizer: Any) -> ChainedScheduler:
    return ChainedScheduler([ConstantLR(optimizer, 0.1, total_iters=2), ExponentialLR(optimizer, 0.9)])


def plateau(optimizer: Any) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.6)


STEP = {"interval": "step"}
ONE: list[Scheduled] = [
    Scheduled("StepLR", lambda optimizer: StepLR(optimizer, 2, gamma=0.5)),
    Scheduled("StepLR every second epoch", lambda optimizer: StepLR(optimizer, 1, gamma=0.5), {"frequency": 2}),
    Scheduled("MultiStepLR", lambda optimizer: MultiStepLR(optimizer, [1, 3], gamma=0.5), {"interval": "epoch"}),
    Scheduled("ExponentialLR per step", lambda optimizer: ExponentialLR(optimizer, 0.9), STEP),
    Scheduled(
        "ExponentialLR every third step", lambda optimizer: ExponentialLR(optimizer, 0.9), STEP | {"frequency": 3}
    ),
    Scheduled("LambdaLR", lambda optimizer: LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch)), {"name": "inverse"}),
    Scheduled("LambdaLR per step", lambda optimizer: LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / 8)), STEP),
    Scheduled("OneCycleLR", lambda optimizer: OneCycleLR(optimizer, max_lr=0.1, total_steps=EPOCHS * BATCHES), STEP),
    Scheduled("CyclicLR", lambda optimizer: CyclicLR(optimizer, base_lr=0.01, max_lr=0.1, step_size_up=3), STEP),
    Scheduled("CosineAnnealingWarmRestarts", lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3), STEP),
    Scheduled("CosineAnnealingWarmRestarts per epoch", lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 1, 2)),
    Scheduled("SequentialLR", in_sequence),
    Scheduled("SequentialLR per step", in_sequence, STEP),
    Scheduled("ChainedScheduler", chained),
    Scheduled("ChainedScheduler per step", chained, STEP),
    Scheduled("plateau", plateau, {"monitor": "val_loss"}),
    Scheduled("plateau every second epoch", plateau, {"monitor": "val_loss", "frequency": 2, "strict": True}),
    Scheduled("plateau of the training loss", plateau, {"monitor": "loss_epoch"}),
    Scheduled("plateau per step", plateau, STEP | {"monitor": "loss_step"}),
    Scheduled("plateau that is not strict", plateau, {"monitor": "absent", "strict": False}),
    Scheduled("of no library", Countdown),
    Scheduled("of no library per step", Countdown, STEP | {"frequency": 2}),
]

SEVERAL: list[list[Scheduled]] = [
    [ONE[0], ONE[3]],
    [ONE[15], ONE[6]],
    [ONE[1], ONE[4], ONE[18]],
]


def as_two_lists(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    return [optimizer], list(entries)


def as_two_tuples(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    return (optimizer,), tuple(entries)


def as_a_dict(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    (entry,) = entries
    return {"optimizer": optimizer, "lr_scheduler": entry}


def as_a_tuple_of_dicts(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    return (as_a_dict(optimizer, entries),)


def as_a_list_of_dicts(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    return [as_a_dict(optimizer, entries)]


def as_a_dict_with_its_monitor(optimizer: Optimizer, entries: Sequence[Any]) -> Any:
    """The monitor may stand beside the optimizer too."""
    (entry,) = entries
    outside = {"monitor": entry.pop("monitor")} if "monitor" in entry else {}
    return as_a_dict(optimizer, [entry]) | outside


FORMS = [
    as_two_lists,
    as_two_tuples,
    as_a_dict,
    as_a_tuple_of_dicts,
    as_a_list_of_dicts,
    as_a_dict_with_its_monitor,
]


def sgd(net: nn.Module) -> SGD:
    return SGD(net.parameters(), lr=0.05, momentum=0.9)


class Records(Regression):
    """Writes down the rate of each step; steps the scheduler that is of no library."""

    def __init__(self, configure: Callable[[nn.Module], Any]) -> None:
        super().__init__()
        self.configured, self.rates = configure, list[float]()

    def configure_optimizers(self) -> Any:
        return self.configured(self.net)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


class StepsThemItself(Records):
    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        if isinstance(scheduler, Countdown):
            scheduler.step(self.current_epoch)
        else:
            super().lr_scheduler_step(scheduler, metric)


def train_plainly(
    net: nn.Module, optimizer: Optimizer, scheduled: Sequence[Scheduled], schedulers: Sequence[Any], window: int
) -> list[float]:
    """Steps every scheduler where its settings say, and the plateau ones on what they monitor; returns the rates."""
    rates: list[float] = []
    done = 0

    def step(interval: str, count: int, epoch: int, metrics: dict[str, float]) -> None:
        # What follows a metric comes last: it is not complete before.
        pairs = [pair for pair in zip(scheduled, schedulers, strict=True) if pair[0].interval == interval]
        pairs.sort(key=lambda pair: isinstance(pair[1], ReduceLROnPlateau))
        for one, scheduler in pairs:
            if count % one.frequency:
                continue
            if isinstance(scheduler, ReduceLROnPlateau):
                if one.settings["monitor"] in metrics:
                    scheduler.step(metrics[one.settings["monitor"]])
            elif isinstance(scheduler, Countdown):
                scheduler.step(epoch)
            else:
                scheduler.step()

    for epoch in range(EPOCHS):
        batches = list(loader())
        losses: list[float] = []
        for start in range(0, BATCHES, window):
            members = batches[start : start + window]
            optimizer.zero_grad()
            for batch in members:
                loss = loss_of(net, batch)
                losses.append(loss.item())
                (loss / len(members)).backward()
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            done += 1
            step("step", done, epoch, {"loss_step": losses[-1]})
        with torch.no_grad():
            validation = [loss_of(net, batch).item() for batch in loader(VALIDATION)]
        metrics = {"val_loss": sum(validation) / VALIDATION, "loss_epoch": sum(losses) / BATCHES}
        step("epoch", epoch + 1, epoch, metrics)
    return rates


def check(
    scheduled: Sequence[Scheduled], form: Callable[[Optimizer, Sequence[Any]], Any], window: int, bare: bool, root: Path
) -> None:
    net = network()
    optimizer = sgd(net)
    rates = train_plainly(net, optimizer, scheduled, [one.make(optimizer) for one in scheduled], window)
    moves = scheduled[0].name != "plateau that is not strict"
    assert len(set(rates)) > 1 or not moves, "the scheduler must move"

    def configure(net: nn.Module) -> Any:
        optimizer = sgd(net)
        made = [one.make(optimizer) for one in scheduled]
        if bare:
            return form(optimizer, made)
        return form(
            optimizer, [{"scheduler": scheduler} | one.settings for scheduler, one in zip(made, scheduled, strict=True)]
        )

    itself = any(one.make is Countdown for one in scheduled)
    module = (StepsThemItself if itself else Records)(configure)
    trainer = trainer_in(root, max_epochs=EPOCHS, accumulate_grad_batches=window)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if not moves:
            warnings.filterwarnings("ignore", message='The plateau scheduler\'s metric "absent" was not logged')
        # Sequential and chained schedulers of torch step one another with a deprecated argument.
        warnings.filterwarnings("ignore", message="The epoch parameter in `scheduler.step")
        trainer.fit(module, loader(), loader(VALIDATION))

    assert module.rates == rates
    assert equal(module.net.state_dict(), net.state_dict())
    assert not equal(net.state_dict(), network().state_dict())
    assert trainer.global_step == len(rates) == steps(window)
    for config, one in zip(trainer.lr_scheduler_configs, scheduled, strict=True):
        assert (config.interval, config.frequency) == (one.interval, one.frequency)
        assert (config.monitor, config.name) == (one.settings.get("monitor"), one.settings.get("name"))
        assert config.reduce_on_plateau is (one.make is plateau)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("one", ONE, ids=lambda one: one.name)
def test_one_scheduler_in_every_form(one: Scheduled, form: Callable[..., Any], tmp_path: Path) -> None:
    check([one], form, window=1, bare=False, root=tmp_path)


@pytest.mark.parametrize("one", ONE, ids=lambda one: one.name)
def test_one_scheduler_with_windows_of_several_batches_the_last_one_shorter(one: Scheduled, tmp_path: Path) -> None:
    check([one], as_a_dict, window=2, bare=False, root=tmp_path)


@pytest.mark.parametrize("form", FORMS[:5])
@pytest.mark.parametrize("one", [one for one in ONE if not one.settings], ids=lambda one: one.name)
def test_one_scheduler_without_settings_stands_for_itself(
    one: Scheduled, form: Callable[..., Any], tmp_path: Path
) -> None:
    check([one], form, window=1, bare=True, root=tmp_path)


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("several", SEVERAL, ids=lambda several: " and ".join(one.name for one in several))
def test_several_schedulers_of_one_optimizer(
    several: list[Scheduled], window: int, form: Callable[..., Any], tmp_path: Path
) -> None:
    check(several, form, window, bare=False, root=tmp_path)


def test_none_trains_nothing_and_has_no_scheduler(tmp_path: Path) -> None:
    class Trains(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def training_step(self, batch: Batch, batch_idx: int) -> Any:
            return loss_of(self.net, batch)

        def configure_optimizers(self) -> Any:
            return None

    module, trainer = Trains(), trainer_in(tmp_path)
    with pytest.warns(UserWarning, match="returned None: this fit runs without an optimizer"):
        trainer.fit(module, loader())
    assert equal(module.net.state_dict(), network().state_dict())
    assert (trainer.global_step, trainer.optimizers, trainer.lr_scheduler_configs) == (0, [], [])
