"""`LearningRateMonitor` logs the rates that optimizers step with."""

import copy
import pickle
import statistics
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import FrameType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import Logger
from hookloop_callbacks_monitoring import LearningRateMonitor

BATCHES = 4


class Rows(Logger):
    """Keeps what loggers get."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[int | None, dict[str, float]]] = []

    @property
    def name(self) -> str:
        return "rows"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def of(self, name: str) -> list[float]:
        return [row[name] for _, row in self.rows if name in row]

    @property
    def names(self) -> set[str]:
        return {name for _, row in self.rows for name in row} - {"epoch"}


class Stepping(LightningModule):
    """Notes the rates with which torch's optimizers really step."""

    def __init__(self, configure: Any) -> None:
        super().__init__()
        self.layer, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.configure = configure
        self.used: list[list[float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.head(self.layer(batch[0])).square().mean()
        return loss

    def configure_optimizers(self) -> Any:
        made = self.configure(self)
        optimizer = made[0][0] if isinstance(made, tuple) else made["optimizer"] if isinstance(made, dict) else made
        optimizer.register_step_pre_hook(self.note)
        return made

    def note(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.used.append([float(group["lr"]) for group in optimizer.param_groups])


class ByHand(LightningModule):
    """Two optimizers, manual optimization, and rates that the module sets by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.layer, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.steps = 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.steps += 1
        for factor, optimizer in zip((1.0, 10.0), self.optimizers(), strict=True):
            optimizer.param_groups[0]["lr"] = factor / self.steps
            optimizer.zero_grad()
            self.manual_backward(self.head(self.layer(batch[0])).square().mean())
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.layer.parameters(), lr=1.0), torch.optim.SGD(self.head.parameters(), lr=1.0)]


def loader() -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(BATCHES, 1)))


def fit(monitor: LearningRateMonitor, module: LightningModule, folder: Any, **arguments: Any) -> tuple[Rows, Trainer]:
    rows = Rows()
    others = arguments.pop("others", [])
    given = {"max_epochs": 3, "logger": rows, "log_every_n_steps": 1, "accelerator": "cpu", **arguments}
    trainer = Trainer(
        callbacks=[monitor, *others],
        registered_callbacks=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        **given,
    )
    trainer.fit(module, loader())
    return rows, trainer


def sgd(module: Stepping) -> Optimizer:
    return torch.optim.SGD(module.parameters(), lr=0.1)


def exponential(interval: str, name: str | None = None) -> Any:
    def configure(module: Stepping) -> dict[str, Any]:
        optimizer = torch.optim.Adam(module.parameters(), lr=0.1, betas=(0.8, 0.9), weight_decay=0.25)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval, "name": name}}

    return configure


def groups(*names: str | None) -> Any:
    def configure(module: Stepping) -> Optimizer:
        parts = [module.layer, module.head]
        given: list[dict[str, Any]] = [
            {"params": part.parameters(), "lr": 0.1 * (1 + index)} for index, part in enumerate(parts)
        ]
        for group, name in zip(given, names, strict=True):
            if name is not None:
                group["name"] = name
        return torch.optim.SGD(given, lr=1.0)

    return configure


# Values


def test_a_rate_that_changes_in_every_step_is_the_one_that_the_optimizer_used(tmp_path: Any) -> None:
    module = Stepping(exponential("step"))

    rows, trainer = fit(LearningRateMonitor(), module, tmp_path)

    expected = [0.1 * 0.5**index for index in range(12)]
    assert [rates[0] for rates in module.used] == expected
    assert rows.of("lr-Adam") == expected
    assert [step for step, row in rows.rows if "lr-Adam" in row] == list(range(12))
    assert trainer.callback_metrics["lr-Adam"].item() == torch.tensor(expected[-1]).item()


def test_one_that_changes_by_epochs_is_in_the_row_of_the_epoch_that_it_was_used_in(tmp_path: Any) -> None:
    module = Stepping(exponential("epoch"))

    rows, trainer = fit(LearningRateMonitor(), module, tmp_path)

    assert [rates[0] for rates in module.used[::BATCHES]] == [0.1, 0.05, 0.025]
    assert [(row["epoch"], row["lr-Adam"]) for _, row in rows.rows if "lr-Adam" in row] == [
        (0, 0.1),
        (1, 0.05),
        (2, 0.025),
    ]
    assert trainer.callback_metrics["lr-Adam"].item() == torch.tensor(0.025).item()


@pytest.mark.parametrize(
    ("interval", "scheduler", "logged"),
    [
        ("step", "epoch", [0.1] * 4 + [0.05] * 4 + [0.025] * 4),
        ("epoch", "step", [0.1, 0.1 * 0.5**4, 0.1 * 0.5**8]),
        (None, None, [0.1] * 12),
    ],
)
def test_the_interval_can_be_chosen(tmp_path: Any, interval: Any, scheduler: str | None, logged: list[float]) -> None:
    module = Stepping(sgd if scheduler is None else exponential(scheduler))

    rows, _ = fit(LearningRateMonitor(interval), module, tmp_path)

    assert rows.of("lr-SGD" if scheduler is None else "lr-Adam") == logged


def test_steps_are_logged_as_often_as_the_trainer_says(tmp_path: Any) -> None:
    rows, _ = fit(LearningRateMonitor(), Stepping(exponential("step")), tmp_path, log_every_n_steps=5)

    assert [(step, row["lr-Adam"]) for step, row in rows.rows] == [(4, 0.1 * 0.5**4), (9, 0.1 * 0.5**9)]


def test_with_accumulation_it_is_the_rate_of_each_optimizer_step(tmp_path: Any) -> None:
    module = Stepping(exponential("step"))

    rows, _ = fit(LearningRateMonitor(), module, tmp_path, accumulate_grad_batches=3)

    assert rows.of("lr-Adam") == [rates[0] for rates in module.used] == [0.1 * 0.5**index for index in range(6)]


@pytest.mark.parametrize(
    "hook", ["on_fit_start", "on_train_epoch_start", "on_train_batch_start", "on_before_optimizer_step"]
)
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_what_another_callback_sets_before_the_step_is_seen(tmp_path: Any, hook: str, interval: Any) -> None:
    class Finds(Callback):
        def __init__(self) -> None:
            setattr(self, hook, self.find)

        def find(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
            trainer.optimizers[0].param_groups[0]["lr"] = 0.75

    module = Stepping(sgd)
    rows, _ = fit(LearningRateMonitor(interval), module, tmp_path, others=[Finds()], max_epochs=1)

    assert module.used == [[0.75]] * 4
    by_epoch_too_late = interval == "epoch" and hook in ("on_train_batch_start", "on_before_optimizer_step")
    assert set(rows.of("lr-SGD")) == {0.1 if by_epoch_too_late else 0.75}


def test_manual_optimization_with_two_optimizers(tmp_path: Any) -> None:
    rows, trainer = fit(LearningRateMonitor(), ByHand(), tmp_path)

    assert rows.of("lr-SGD") == [1 / step for step in range(1, 13)]
    assert rows.of("lr-SGD-1") == [10 / step for step in range(1, 13)]
    assert trainer.callback_metrics["lr-SGD-1"].item() == torch.tensor(10 / 12).item()


def test_momentum_and_weight_decay(tmp_path: Any) -> None:
    rows, _ = fit(LearningRateMonitor("step", True, True), Stepping(exponential("step")), tmp_path, max_epochs=1)

    assert rows.names == {"lr-Adam", "lr-Adam-momentum", "lr-Adam-weight_decay"}
    assert rows.of("lr-Adam-momentum") == [0.8] * 4
    assert rows.of("lr-Adam-weight_decay") == [0.25] * 4


def test_an_optimizer_without_momentum_has_none_logged(tmp_path: Any) -> None:
    def adagrad(module: Stepping) -> Optimizer:
        return torch.optim.Adagrad(module.parameters(), lr=0.1)

    rows, _ = fit(LearningRateMonitor(log_momentum=True), Stepping(adagrad), tmp_path, max_epochs=1)

    assert rows.names == {"lr-Adagrad"}


def test_a_rate_that_is_a_tensor_is_kept_as_it_was(tmp_path: Any) -> None:
    def adam(module: Stepping) -> dict[str, Any]:
        optimizer = torch.optim.Adam(module.parameters(), lr=torch.tensor(0.5), foreach=False)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    rows, _ = fit(LearningRateMonitor(), Stepping(adam), tmp_path, max_epochs=1)

    assert rows.of("lr-Adam") == [0.5, 0.25, 0.125, 0.0625]


# Names


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((None, None), {"lr-SGD/pg1": 0.1, "lr-SGD/pg2": 0.2}),
        (("body", "head"), {"lr-SGD/body": 0.1, "lr-SGD/head": 0.2}),
        (("body", None), {"lr-SGD/body": 0.1, "lr-SGD/pg2": 0.2}),
    ],
)
def test_parameter_groups_are_told_apart(
    tmp_path: Any, names: Sequence[str | None], expected: dict[str, float]
) -> None:
    monitor = LearningRateMonitor()

    rows, _ = fit(monitor, Stepping(groups(*names)), tmp_path, max_epochs=1)

    assert {name: rows.of(name) for name in rows.names} == {name: [value] * 4 for name, value in expected.items()}
    assert monitor.lrs == expected


def test_a_name_of_the_scheduler_and_a_prefix(tmp_path: Any) -> None:
    rows, _ = fit(LearningRateMonitor(log_key_prefix="rates/"), Stepping(exponential("step", "mine")), tmp_path)

    assert rows.names == {"rates/mine"}


def test_a_group_that_is_added_during_the_run_is_logged_from_then_on(tmp_path: Any) -> None:
    class Adds(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                trainer.optimizers[0].add_param_group({"params": pl_module.head.parameters(), "lr": 0.25})

    def layer_alone(module: Stepping) -> Optimizer:
        return torch.optim.SGD(module.layer.parameters(), lr=0.1)

    rows, _ = fit(LearningRateMonitor(), Stepping(layer_alone), tmp_path, others=[Adds()], max_epochs=2)

    assert {name: rows.of(name) for name in rows.names} == {
        "lr-SGD": [0.1] * 4,
        "lr-SGD/pg1": [0.1] * 4,
        "lr-SGD/pg2": [0.25] * 4,
    }


def test_two_groups_of_one_name_are_an_error_before_the_first_step(tmp_path: Any) -> None:
    module = Stepping(groups("same", "same"))

    with pytest.raises(MisconfigurationError, match=r"^SGD has several parameter groups of the name 'same'"):
        fit(LearningRateMonitor(), module, tmp_path)
    assert module.used == []


class TwoOptimizers(ByHand):
    def configure_optimizers(self) -> Any:
        made = super().configure_optimizers()
        one, two = (torch.optim.lr_scheduler.ConstantLR(optimizer) for optimizer in made)
        return made, [{"scheduler": one, "name": "mine"}, {"scheduler": two, "name": "mine"}]


def test_two_optimizers_of_one_name_are_an_error(tmp_path: Any) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"rates of several optimizers as 'mine'\. Give each scheduler a name"
    ):
        fit(LearningRateMonitor(), TwoOptimizers(), tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"logging_interval": "batch"}, r"logging_interval='batch'\) must be \"step\", \"epoch\", or None"),
        ({"log_key_prefix": 3}, r"log_key_prefix=3\) must be a string"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        LearningRateMonitor(**arguments)


# Without a logger, and what it costs


@pytest.mark.parametrize("scheduler", ["step", "epoch"])
def test_without_a_logger_rates_are_in_the_callback_metrics(tmp_path: Any, scheduler: str) -> None:
    _, trainer = fit(LearningRateMonitor(), Stepping(exponential(scheduler)), tmp_path, logger=False)

    expected = 0.1 * 0.5 ** (11 if scheduler == "step" else 2)
    assert trainer.callback_metrics["lr-Adam"].item() == torch.tensor(expected).item()


def test_its_memory_does_not_grow(tmp_path: Any) -> None:
    monitor = LearningRateMonitor()
    fit(monitor, Stepping(exponential("step")), tmp_path, max_epochs=1)
    small = len(pickle.dumps(monitor))

    fit(monitor, Stepping(exponential("step")), tmp_path, max_epochs=50)

    assert len(pickle.dumps(monitor)) == small
    assert list(monitor.lrs) == ["lr-Adam"]


def calls_per_step(folder: Any, module: LightningModule, *callbacks: Callback) -> int:
    """Python calls of an ordinary step."""
    total, steps = 0, list[int]()

    def listen(frame: FrameType, event: str, argument: object) -> None:
        nonlocal total
        total += event == "call"
        if event == "call" and frame.f_code is Stepping.training_step.__code__:
            steps.append(total)

    trainer = Trainer(
        max_epochs=10, callbacks=list(callbacks), registered_callbacks=False, logger=False, default_root_dir=folder
    )
    before = sys.getprofile()
    sys.setprofile(listen)
    try:
        trainer.fit(module, loader())
    finally:
        sys.setprofile(before)
    return statistics.mode(after - former for former, after in pairwise(steps[10:]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: LearningRateMonitor(),
        lambda: LearningRateMonitor("epoch", True, True),
        lambda: copy.deepcopy(LearningRateMonitor()),
        lambda: pickle.loads(pickle.dumps(LearningRateMonitor())),
    ],
    ids=["default", "more", "copied", "pickled"],
)
def test_by_epochs_it_costs_nothing_in_a_step(tmp_path: Any, make: Any) -> None:
    bare = calls_per_step(tmp_path, Stepping(exponential("epoch")))

    assert calls_per_step(tmp_path, Stepping(exponential("epoch")), make()) == bare


def test_by_steps_it_asks_whether_the_step_is_logged_and_no_more(tmp_path: Any) -> None:
    bare = calls_per_step(tmp_path, Stepping(sgd))

    # The hook's dispatcher, its own call, and trainer.should_update_logs.
    assert calls_per_step(tmp_path, Stepping(sgd), LearningRateMonitor()) <= bare + 5


def test_the_next_run_has_a_use_for_what_the_last_one_had_none_for(tmp_path: Any) -> None:
    monitor = LearningRateMonitor()
    by_epoch, _ = fit(monitor, Stepping(exponential("epoch")), tmp_path)
    by_step, _ = fit(monitor, Stepping(exponential("step")), tmp_path)
    again, _ = fit(monitor, Stepping(exponential("epoch")), tmp_path)

    assert [len(rows.of("lr-Adam")) for rows in (by_epoch, by_step, again)] == [3, 12, 3]


def test_an_optimizer_that_finds_its_rate_by_itself_is_left_out(tmp_path: Any) -> None:
    class Finds(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            with torch.no_grad():
                for group in self.param_groups:
                    for parameter in group["params"]:
                        parameter -= 0.1 * (parameter.grad if parameter.grad is not None else 0)

    def configure(module: Stepping) -> Optimizer:
        optimizer = Finds(module.parameters(), lr=1.0)
        optimizer.param_groups[0]["lr"] = None
        return optimizer

    class Quiet(Stepping):
        def note(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
            pass

    rows, _ = fit(LearningRateMonitor(), Quiet(configure), tmp_path, max_epochs=1)

    assert rows.names == set()
