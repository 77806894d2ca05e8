"""`Monitor`: reading a metric by its name, and telling which of two values is better."""

import math
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Order
from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.monitor import Mode, Monitor
from hookloop.view import TrainerView

from .recording import QuietModule, make_trainer

NAN, INF = math.nan, math.inf
MODES: tuple[Mode, Mode] = ("min", "max")

# What is better by "min" than what stands in the first column; the mirror image is better by "max".
COMPARISONS: list[tuple[float, float, bool]] = [
    # current, best, whether it improved
    (1.0, 2.0, True),
    (2.0, 1.0, False),
    # The same is no improvement, however it is written.
    (1.0, 1.0, False),
    (0.0, -0.0, False),
    (-1.0, 0.0, True),
    (1.0, INF, True),
    (INF, INF, False),
    (-INF, INF, True),
    (-INF, -INF, False),
    (INF, 1.0, False),
    # What is no number is never better, and everything else is better than it.
    (NAN, 1.0, False),
    (NAN, INF, False),
    (NAN, NAN, False),
    (1.0, NAN, True),
    (INF, NAN, True),
]


@pytest.mark.parametrize(("current", "best", "improved"), COMPARISONS)
def test_smaller_is_better_by_min_and_the_mirror_image_by_max(current: float, best: float, improved: bool) -> None:
    assert Monitor("loss").improved(current, best) is improved
    assert Monitor("loss", "min").improved(current, best) is improved
    assert Monitor("accuracy", "max").improved(-current, -best) is improved


@pytest.mark.parametrize(("current", "best", "improved"), COMPARISONS)
def test_tensors_of_one_element_compare_as_their_numbers(current: float, best: float, improved: bool) -> None:
    monitor = Monitor("loss")
    assert monitor.improved(torch.tensor(current), best) is improved
    assert monitor.improved(current, torch.tensor([best])) is improved
    assert monitor.improved(torch.tensor([[current]]), torch.tensor(best, dtype=torch.float64)) is improved


@pytest.mark.parametrize("mode", MODES)
def test_every_number_improves_on_the_worst_and_the_worst_on_none(mode: Mode) -> None:
    monitor = Monitor("loss", mode)
    for number in (-1e300, -1.0, 0.0, 1.0, 1e300):
        assert monitor.improved(number, monitor.worst)
        assert not monitor.improved(monitor.worst, number)
    assert not monitor.improved(monitor.worst, monitor.worst)
    assert monitor.worst == {"min": INF, "max": -INF}[mode]


@pytest.mark.parametrize("mode", ["auto", "Min", "", None, 1])
def test_another_mode_is_refused_with_the_name_of_the_metric(mode: Any) -> None:
    message = rf"mode={mode!r} for the monitored metric 'val_loss' must be \"min\" \(smaller is better\) or \"max\""
    with pytest.raises(MisconfigurationError, match=message):
        Monitor("val_loss", mode)


def test_a_monitor_is_a_value() -> None:
    assert Monitor("a", "max") == Monitor("a", "max")
    assert Monitor("a") != Monitor("b")
    assert len({Monitor("a"), Monitor("a", "min"), Monitor("a", "max")}) == 2
    with pytest.raises(FrozenInstanceError):
        Monitor("a").name = "b"  # type: ignore[misc]


def test_a_metric_is_read_as_it_was_logged() -> None:
    value = torch.tensor(2.5)
    assert Monitor("loss").read({"loss": value, "loss_step": torch.tensor(1.0)}) is value


@pytest.mark.parametrize(
    ("logged", "listed"),
    [
        ({}, "nothing at all"),
        ({"val_acc": torch.tensor(1.0)}, "'val_acc'"),
        ({"b": torch.tensor(1.0), "a": torch.tensor(1.0)}, "'a', 'b'"),
    ],
    ids=["nothing", "one", "two"],
)
def test_a_metric_that_was_not_logged_is_an_error_that_lists_what_was(
    logged: dict[str, torch.Tensor], listed: str
) -> None:
    message = (
        f"The monitored metric 'val_loss' was not logged; logged until now: {listed}. "
        "Log it with self.log('val_loss', ...), or monitor one of those."
    )
    with pytest.raises(MisconfigurationError) as caught:
        Monitor("val_loss").read(logged)
    assert str(caught.value) == message
    assert isinstance(caught.value, HookloopError)


def test_a_callback_decides_by_what_the_module_logged_in_the_same_hook(tmp_path: Path) -> None:
    class Keeps(Callback):
        order = Order.MONITOR

        def __init__(self) -> None:
            self.monitor = Monitor("level", "max")
            self.best: torch.Tensor | float = self.monitor.worst
            self.improved: list[bool] = []

        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            current = self.monitor.read(trainer.callback_metrics)
            self.improved.append(self.monitor.improved(current, self.best))
            if self.improved[-1]:
                self.best = current

    class Logs(QuietModule):
        def on_train_epoch_end(self) -> None:
            self.log("level", [1.0, NAN, 3.0, 3.0, 2.0][self.current_epoch])

    callback = Keeps()
    make_trainer(tmp_path, [callback], max_epochs=5, limit_val_batches=0).fit(Logs())
    assert callback.improved == [True, False, True, False, False]
    assert callback.best == 3.0
