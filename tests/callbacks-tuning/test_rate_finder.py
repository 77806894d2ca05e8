"""`LearningRateFinder`: the rates that it tries, the one that it suggests, what it sets, and nothing else."""

import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyDataModule, TinyModule
from hookloop.testing.equality import difference
from hookloop_callbacks_tuning import LearningRateCurve, LearningRateFinder
from hookloop_callbacks_tuning.rates import base_rates, set_base_rate


def trainer_in(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 2, "logger": False, "registered_callbacks": False, "accelerator": "cpu"}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**given, **arguments})


def steps(count: int = 4) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(count, 1)))


class Bowl(LightningModule):
    """A quadratic of one curvature: plain gradient descent learns below the rate 2 / curvature, and diverges above."""

    def __init__(self, curvature: float = 1.0, lr: float = 1e-3) -> None:
        super().__init__()
        self.point = nn.Parameter(torch.ones(5))
        self.curvature, self.lr = curvature, lr
        self.seen: list[float] = []

    @property
    def height(self) -> Tensor:
        return 0.5 * self.curvature * self.point.square().sum()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        TRIED.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return self.height

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([self.point], lr=self.lr)


TRIED: list[float] = []
"""The rates of all steps; a list that no trial puts back."""


@pytest.mark.parametrize("curvature", [0.1, 1.0, 100.0])
@pytest.mark.parametrize("method", ["steepest", "valley", "minimum"])
def test_the_suggested_rate_trains_where_the_curvature_is_known(curvature: float, method: Any, tmp_path: Path) -> None:
    bowl = Bowl(curvature)
    before = bowl.height.item()
    finder = LearningRateFinder(1e-6, 100.0, method=method)
    trainer_in(tmp_path, finder, max_epochs=-1, max_steps=400).fit(bowl, steps())

    assert bowl.lr < 2 / curvature
    # A valley of a loss without noise begins with the first rate: its middle is careful.
    assert bowl.height.item() < (0.5 if method == "valley" else 0.001) * before


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("exponential", [1e-4 * 10 ** (index / 5) for index in range(21)]),
        ("linear", [1e-4 + index * (1 - 1e-4) / 20 for index in range(21)]),
    ],
)
def test_it_tries_rates_from_the_least_to_the_largest(mode: Any, expected: list[float], tmp_path: Path) -> None:
    TRIED.clear()
    finder = LearningRateFinder(1e-4, 1, 21, mode, early_stop_threshold=None)
    trainer_in(tmp_path, finder, max_epochs=1).fit(Bowl(), steps())

    assert finder.optimal_lr is not None
    assert TRIED[:21] == pytest.approx(expected)
    assert finder.optimal_lr.results["lr"] == TRIED[:21]


def test_losses_are_the_bias_corrected_means_of_a_plain_loop(tmp_path: Path) -> None:
    finder = LearningRateFinder(1e-3, 0.5, 15, early_stop_threshold=None)
    trainer_in(tmp_path, finder, max_epochs=1).fit(Bowl(), steps())
    point, mean, expected = torch.ones(5), 0.0, []
    for index in range(15):
        loss = 0.5 * point.square().sum().item()
        point = point - 1e-3 * 500 ** (index / 14) * point
        mean = 0.98 * mean + 0.02 * loss
        expected.append(mean / (1 - 0.98 ** (index + 1)))

    assert finder.optimal_lr is not None
    assert finder.optimal_lr.results["loss"] == pytest.approx(expected, rel=1e-4)


def test_windows_of_batches_have_one_rate_and_their_mean_loss(tmp_path: Path) -> None:
    single, doubled = (LearningRateFinder(1e-3, 0.5, 15, early_stop_threshold=None) for _ in range(2))
    trainer_in(tmp_path, single, max_epochs=1).fit(Bowl(), steps())
    trainer_in(tmp_path, doubled, max_epochs=1, accumulate_grad_batches=2).fit(Bowl(), steps())

    assert single.optimal_lr is not None
    assert doubled.optimal_lr is not None
    assert doubled.optimal_lr.results["lr"] == single.optimal_lr.results["lr"]
    assert doubled.optimal_lr.results["loss"] == pytest.approx(single.optimal_lr.results["loss"], rel=1e-5)


@pytest.mark.parametrize(("threshold", "stops"), [(4.0, True), (None, False)])
def test_a_loss_that_rises_too_far_ends_the_test(threshold: Any, stops: bool, tmp_path: Path) -> None:
    finder = LearningRateFinder(1e-3, 100, 60, early_stop_threshold=threshold)
    trainer_in(tmp_path, finder, max_epochs=1).fit(Bowl(), steps())

    assert finder.optimal_lr is not None
    assert (len(finder.optimal_lr.results["loss"]) < 60) == stops


def test_a_loss_below_zero_does_not_end_it_at_once(tmp_path: Path) -> None:
    class Below(Bowl):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.height - 100

    finder = LearningRateFinder(1e-3, 0.5, 30)
    trainer_in(tmp_path, finder, max_epochs=1).fit(Below(), steps())
    assert finder.optimal_lr is not None
    assert len(finder.optimal_lr.results["loss"]) == 30


def test_a_loss_that_is_nan_ends_it(tmp_path: Path) -> None:
    class Breaks(Bowl):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.height * (math.nan if self.global_step == 14 else 1)

    finder = LearningRateFinder(1e-3, 0.5, 30)
    trainer_in(tmp_path, finder, max_epochs=1).fit(Breaks(), steps())
    assert finder.optimal_lr is not None
    assert len(finder.optimal_lr.results["loss"]) == 15
    assert finder.optimal_lr.suggestion() is not None


# what it sets


class Scheduled(TinyModule):
    """Two groups, the second of a tenth of the rate, and a scheduler per step."""

    def __init__(self, make: Any = None, lr: float = 0.5) -> None:
        super().__init__()
        self.make, self.learning_rate = make, lr

    def configure_optimizers(self) -> Any:
        first, second = self.net[0].parameters(), self.net[4].parameters()
        groups: list[dict[str, Any]] = [{"params": first}, {"params": second, "lr": self.learning_rate / 10}]
        optimizer = torch.optim.SGD(groups, lr=self.learning_rate, momentum=0.9)
        if self.make is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.make(optimizer), "interval": "step"}}


SCHEDULES = {
    "none": None,
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, 2),
    "lambda": lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (step + 1)),
    "warm-up": lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.25, total_iters=4),
    "sequence": lambda optimizer: lr_scheduler.SequentialLR(
        optimizer,
        [lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2), lr_scheduler.ExponentialLR(optimizer, 0.5)],
        [2],
    ),
    "one cycle": lambda optimizer: lr_scheduler.OneCycleLR(
        optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=9
    ),
}


class Rates(Callback):
    def __init__(self) -> None:
        self.lrs: list[list[float]] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.lrs.append([group["lr"] for group in optimizer.param_groups])


@pytest.mark.parametrize("name", list(SCHEDULES))
def test_every_schedule_and_group_follows_as_if_it_had_been_configured_so(name: str, tmp_path: Path) -> None:
    found, configured = Rates(), Rates()
    module, finder = Scheduled(SCHEDULES[name]), LearningRateFinder(1e-4, 1, 40)
    trainer_in(tmp_path, finder, found).fit(module, datamodule=TinyDataModule())
    other = Scheduled(SCHEDULES[name], lr=module.learning_rate)
    trainer_in(tmp_path, configured).fit(other, datamodule=TinyDataModule())

    assert finder.optimal_lr is not None
    assert module.learning_rate == finder.optimal_lr.suggestion() != 0.5
    assert len(found.lrs) == 8
    for one, same in zip(found.lrs, configured.lrs, strict=True):
        assert one == pytest.approx(same, rel=1e-12)


def test_a_rate_that_is_a_tensor_is_changed_in_place() -> None:
    rate = torch.tensor(0.5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=rate)
    set_base_rate(optimizer, [], 0.25)

    assert optimizer.param_groups[0]["lr"] is rate
    assert base_rates(optimizer) == [0.25]


def test_nothing_is_set_but_the_rate_and_the_run_is_that_of_a_model_which_had_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("found", "given")]
    torch.manual_seed(1)
    found, finder = Scheduled(SCHEDULES["step"]), LearningRateFinder(1e-4, 1, 40)
    trainer_in(folders[0], finder, logger=True, log_every_n_steps=1).fit(found, datamodule=TinyDataModule())
    torch.manual_seed(1)
    given = Scheduled(SCHEDULES["step"], lr=found.learning_rate)
    trainer_in(folders[1], logger=True, log_every_n_steps=1).fit(given, datamodule=TinyDataModule())

    assert difference(found.state_dict(), given.state_dict()) is None
    files = [{str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*.*")} for folder in folders]
    assert files[0] == files[1]


def test_an_exception_in_the_test_leaves_everything_as_it_was(tmp_path: Path) -> None:
    class Fails(Scheduled):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.global_step == 5:
                raise LookupError("out of ink")
            return super().training_step(batch, batch_idx)

    module, data = Fails(SCHEDULES["step"]), TinyDataModule()
    before, random = {name: one.clone() for name, one in module.state_dict().items()}, torch.get_rng_state()
    trainer = trainer_in(tmp_path, LearningRateFinder(1e-4, 1, 40))
    with pytest.raises(LookupError):
        trainer.fit(module, datamodule=data)

    assert difference(dict(module.state_dict()), before) is None
    assert torch.equal(torch.get_rng_state(), random)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [0.5, 0.05]
    assert module.learning_rate == 0.5
    assert list(tmp_path.iterdir()) == []


def test_the_optimizer_alone_is_set_if_that_is_asked_for(tmp_path: Path) -> None:
    module, finder = Scheduled(), LearningRateFinder(1e-4, 1, 40, update_attr=False)
    trainer = trainer_in(tmp_path, finder, max_epochs=1)
    trainer.fit(module, datamodule=TinyDataModule())

    assert finder.optimal_lr is not None
    assert module.learning_rate == 0.5
    assert trainer.optimizers[0].param_groups[0]["lr"] == finder.optimal_lr.suggestion()


def test_another_attribute_is_set_by_name_in_the_hparams_too(tmp_path: Path) -> None:
    class Settings(TinyModule):
        def __init__(self, pace: float) -> None:
            super().__init__()
            self.save_hyperparameters()

    module = Settings(0.5)
    trainer_in(tmp_path, LearningRateFinder(1e-4, 1, 40, attr_name="pace")).fit(module, datamodule=TinyDataModule())
    assert module.hparams["pace"] != 0.5


def test_a_resumed_run_keeps_its_rate_and_is_the_one_that_never_stopped(tmp_path: Path) -> None:
    path = tmp_path / "one.ckpt"

    def fit(epochs: int, checkpoint: Path | None = None) -> tuple[Scheduled, LearningRateFinder, Trainer]:
        torch.manual_seed(1)
        module, finder = Scheduled(SCHEDULES["step"]), LearningRateFinder(1e-4, 1, 40)
        trainer = trainer_in(tmp_path, finder, max_epochs=epochs)
        trainer.fit(module, datamodule=TinyDataModule(), ckpt_path=checkpoint)
        return module, finder, trainer

    whole, *_ = fit(3)
    fit(1)[2].save_checkpoint(path)
    resumed, finder, _ = fit(3, path)

    assert difference(resumed.state_dict(), whole.state_dict()) is None
    assert resumed.learning_rate == whole.learning_rate
    assert finder.optimal_lr is not None
    assert finder.optimal_lr.suggestion() == whole.learning_rate


def test_a_second_fit_goes_on_with_its_rate(tmp_path: Path) -> None:
    finder = LearningRateFinder(1e-4, 1, 40)
    trainer, module = trainer_in(tmp_path, finder, max_epochs=1), Scheduled()
    trainer.fit(module, datamodule=TinyDataModule())
    curve = finder.optimal_lr
    trainer.max_epochs = 2
    trainer.fit(module, datamodule=TinyDataModule())
    assert finder.optimal_lr is curve


def test_a_trial_run_finds_none(tmp_path: Path) -> None:
    finder = LearningRateFinder()
    with pytest.warns(UserWarning, match="LearningRateFinder does nothing in a trial run"):
        trainer_in(tmp_path, finder, fast_dev_run=True).fit(Scheduled(), datamodule=TinyDataModule())
    assert finder.optimal_lr is None


def test_too_few_points_have_no_suggestion_and_change_nothing(tmp_path: Path) -> None:
    module = Scheduled()
    with pytest.warns(UserWarning, match="has no suggestion: 5 steps had a loss, .* The rate stays as it is"):
        trainer_in(tmp_path, LearningRateFinder(num_training_steps=5)).fit(module, datamodule=TinyDataModule())
    assert module.learning_rate == 0.5


# suggestions and the plot


def test_each_method_suggests_what_it_says() -> None:
    lrs = [10.0**power for power in range(-6, 4)]
    losses = [9.0, 9.1, 9.0, 8.0, 3.0, 2.5, 2.4, 2.6, 50.0, math.nan]
    curve = LearningRateCurve("exponential", lrs, losses)

    slopes = [(losses[at + 1] - losses[at - 1]) / 2 for at in range(1, 8)]
    assert curve.suggestion(0, 2) == lrs[1 + slopes.index(min(slopes))]
    assert curve.suggestion(0, 0, "minimum") == 1.0 / 10
    assert curve.suggestion(0, 0, "valley") == lrs[(1 + 6) // 2]
    assert curve.suggestion() is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-1, 0), "skip_begin=-1"), ((0, 1.5), "skip_end=1.5"), ((0, 0, "best"), "method='best'")],
)
def test_a_suggestion_that_cannot_be_made_is_an_error(arguments: Any, message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        LearningRateCurve("linear", [1.0], [1.0]).suggestion(*arguments)


def test_a_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # as if it were not installed
    with pytest.raises(MisconfigurationError, match=r'plot\(\) needs matplotlib.*"hookloop-callbacks-tuning\[plot\]"'):
        LearningRateCurve("linear", [1.0], [1.0]).plot()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0}, r"min_lr=0\) must be a finite number above 0"),
        ({"max_lr": math.inf}, r"max_lr=inf\) must be a finite number"),
        ({"min_lr": 1, "max_lr": 0.1}, "min_lr must be the lower one"),
        ({"num_training_steps": 1}, r"num_training_steps=1\) must be a whole number of at least 2"),
        ({"mode": "log"}, r"mode='log'\) must be one of 'exponential', 'linear'"),
        ({"early_stop_threshold": -1}, r"early_stop_threshold=-1\) must be a finite number above 0"),
        ({"method": "best"}, r"method='best'\) must be one of 'steepest', 'valley', 'minimum'"),
        ({"attr_name": 3}, "the second a name"),
        ({"update_attr": "lr"}, "the first must be True or False"),
    ],
)
def test_an_argument_that_is_wrong_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        LearningRateFinder(**arguments)


class Manual(Bowl):
    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (TinyModule, {}, r"is to set 'lr' or 'learning_rate', and neither TinyModule, .* update_attr=False"),
        (TinyModule, {"attr_name": "pace"}, r"is to set 'pace', and neither TinyModule"),
        (
            Manual,
            {},
            r"needs automatic optimization with one optimizer, and Manual has 1, automatic_optimization=False",
        ),
    ],
)
def test_a_module_that_it_cannot_serve_is_an_error(module: Any, arguments: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, LearningRateFinder(**arguments)).fit(module(), steps())
