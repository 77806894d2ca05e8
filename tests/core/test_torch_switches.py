"""deterministic, benchmark and detect_anomaly: what they switch, for how long, and what they find."""

import math
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import AnomalyError
from hookloop.view import TrainerView

from .fitting import Batch, Regression, loader, loss_of, trainer_in

Switches = tuple[bool, bool, bool, bool]


def switches() -> Switches:
    """Deterministic algorithms, and whether these only warn; cuDNN's benchmark; autograd's anomaly mode."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        torch.is_anomaly_enabled(),
    )


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Whatever a test finds wrong, the tests after it start as this one did."""
    before, variable = switches(), os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    yield
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.backends.cudnn.benchmark = before[2]
    torch.autograd.set_detect_anomaly(before[3])
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if variable is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = variable


class Looks(Callback):
    """Writes down the switches in the first and the last hook of an entry point, and in the steps between."""

    def __init__(self) -> None:
        self.seen: set[Switches] = set()
        for hook in ("setup", "on_train_batch_start", "on_validation_batch_start", "on_predict_start", "teardown"):
            setattr(self, hook, self.look)

    def look(self, *args: Any) -> None:
        self.seen.add(switches())


T, F = True, False

IN_A_FIT: list[tuple[dict[str, Any], Switches]] = [
    ({}, (F, F, F, F)),
    ({"deterministic": True}, (T, F, F, F)),
    ({"deterministic": "warn"}, (T, T, F, F)),
    ({"deterministic": False}, (F, F, F, F)),
    ({"benchmark": True}, (F, F, T, F)),
    ({"benchmark": False}, (F, F, F, F)),
    ({"deterministic": False, "benchmark": True}, (F, F, T, F)),
    ({"detect_anomaly": True}, (F, F, F, T)),
]

# In a program that switched all of it on.
IN_A_FIT_OF_A_PROGRAM_THAT_SET_ALL: list[tuple[dict[str, Any], Switches]] = [
    ({}, (T, T, T, T)),
    ({"deterministic": True}, (T, F, F, T)),  # measuring is off, as nobody asked this Trainer for it
    ({"deterministic": False}, (F, F, T, T)),
    ({"benchmark": False}, (T, T, F, T)),
    ({"detect_anomaly": False}, (T, T, T, T)),  # False asks for nothing; what the program asked for goes on
]


@pytest.mark.parametrize(("arguments", "expected"), IN_A_FIT, ids=repr)
def test_the_switches_hold_while_an_entry_point_runs_and_not_before_or_after(
    arguments: dict[str, Any], expected: Switches, tmp_path: Path
) -> None:
    looks = Looks()
    trainer = trainer_in(tmp_path, looks, **arguments)
    assert switches() == (F, F, F, F)
    trainer.fit(Regression(), loader(), loader(1))
    assert looks.seen == {expected}
    assert switches() == (F, F, F, F)


@pytest.mark.parametrize(("arguments", "expected"), IN_A_FIT_OF_A_PROGRAM_THAT_SET_ALL, ids=repr)
def test_what_the_program_set_before_is_there_again_afterwards(
    arguments: dict[str, Any], expected: Switches, tmp_path: Path
) -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = True
    torch.autograd.set_detect_anomaly(True)
    looks = Looks()
    trainer_in(tmp_path, looks, **arguments).fit(Regression(), loader(), loader(1))
    assert looks.seen == {expected}
    assert switches() == (T, T, T, T)


def test_evaluation_and_prediction_are_deterministic_too_and_watch_no_gradients(tmp_path: Path) -> None:
    looks = Looks()
    trainer = trainer_in(tmp_path, looks, deterministic=True, benchmark=False, detect_anomaly=True)
    trainer.validate(Regression(), loader(1), verbose=False)
    trainer.predict(Regression(), loader(1))
    assert looks.seen == {(T, F, F, F)}


def test_after_an_error_the_switches_are_put_back(tmp_path: Path) -> None:
    class Fails(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            assert switches() == (T, F, T, T)
            raise RuntimeError("planted")

    with pytest.warns(UserWarning, match="benchmark=True lets cuDNN choose"):
        trainer = trainer_in(tmp_path, deterministic=True, benchmark=True, detect_anomaly=True)
    with pytest.raises(RuntimeError, match="planted"):
        trainer.fit(Fails(), loader())
    assert switches() == (F, F, F, F)


class Puts(Regression):
    """Uses an operation that torch has in no deterministic way, on the CPU neither."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2))
        return super().training_step(batch, batch_idx)


def test_an_operation_without_a_deterministic_way_is_an_error_or_a_warning_or_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="put_ does not have a deterministic implementation"):
        trainer_in(tmp_path, deterministic=True).fit(Puts(), loader())
    with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
        trainer_in(tmp_path, deterministic="warn").fit(Puts(), loader())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer_in(tmp_path).fit(Puts(), loader())
        trainer_in(tmp_path, deterministic=False).fit(Puts(), loader())


def test_cublas_is_told_when_the_trainer_is_made_unless_the_user_told_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for deterministic in (None, False):
        trainer_in(tmp_path, deterministic=deterministic)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    trainer_in(tmp_path, deterministic="warn")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    trainer_in(tmp_path, deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_a_deterministic_run_that_measures_is_told_that_these_do_not_go_together(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"deterministic=True wants the same algorithms.*benchmark=True") as caught:
        Trainer(deterministic=True, benchmark=True, registered_callbacks=False)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(deterministic=True, benchmark=False, registered_callbacks=False)
        Trainer(deterministic=False, benchmark=True, registered_callbacks=False)


# Anomalies


class Breaks(Regression):
    """The loss of one batch is multiplied by something."""

    def __init__(self, factor: float, at: int, key: str | None = None) -> None:
        super().__init__()
        self.factor = factor
        self.at = at
        self.key = key

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        loss = loss_of(self.net, batch)
        if self.global_step == self.at:
            loss = loss * self.factor
        return loss if self.key is None else {self.key: loss, "more": 1}


@pytest.mark.parametrize(("factor", "shown"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
@pytest.mark.parametrize("key", [None, "loss"])
def test_a_loss_that_is_not_finite_ends_the_fit_and_names_batch_epoch_and_step(
    factor: float, shown: str, key: str | None, tmp_path: Path
) -> None:
    module = Breaks(factor, at=7, key=key)
    trainer = trainer_in(tmp_path, detect_anomaly=True)
    with pytest.raises(AnomalyError) as caught:
        trainer.fit(module, loader(5))
    assert str(caught.value) == (
        f"The loss of Breaks.training_step is {shown} in batch 2 of epoch 1 (global_step=7). The batch and the weights "
        "are finite, so it comes from the computation: a division by zero, a logarithm or a root of nothing, an "
        "overflow."
    )
    # Nothing was learned from that batch.
    assert trainer.global_step == 7
    assert all(torch.isfinite(parameter).all() for parameter in module.parameters())


def test_without_it_a_broken_loss_goes_through_as_in_plain_torch(tmp_path: Path) -> None:
    module = Breaks(math.nan, at=7)
    trainer_in(tmp_path).fit(module, loader(5))
    assert all(torch.isnan(parameter).all() for parameter in module.parameters())


def test_it_is_a_runtime_error_as_torch_raises(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="nan"):
        trainer_in(tmp_path, detect_anomaly=True).fit(Breaks(math.nan, at=0), loader())


def test_data_that_is_not_finite_is_named_with_its_shape(tmp_path: Path) -> None:
    data = [[torch.tensor([0, 0]), torch.full((2, 3), math.nan), torch.ones(2, 1)]]
    with pytest.raises(AnomalyError, match=r"batch 0 of epoch 0.*batch holds NaN or infinity.*shape \(2, 3\)"):
        trainer_in(tmp_path, detect_anomaly=True).fit(Regression(), DataLoader(data, batch_size=None))  # type: ignore[arg-type]


def test_weights_that_an_earlier_step_broke_are_named(tmp_path: Path) -> None:
    class Diverges(Callback):
        def on_after_optimizer_step(self, trainer: TrainerView, pl_module: Any, optimizer: Any) -> None:
            if trainer.global_step == 3:
                pl_module.net[0].weight.data.fill_(math.inf)
                pl_module.net[2].bias.data.fill_(math.nan)

    message = r"in batch 3 of epoch 0 \(global_step=3\)\. Weights hold NaN or infinity: net\.0\.weight, net\.2\.bias\."
    with pytest.raises(AnomalyError, match=message):
        trainer_in(tmp_path, Diverges(), detect_anomaly=True).fit(Regression(), loader(5))


def test_buffers_that_are_broken_are_named(tmp_path: Path) -> None:
    class Scaled(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.tensor(math.inf))

        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            return super().training_step(batch, batch_idx) * torch.as_tensor(self.scale)

    with pytest.raises(AnomalyError, match=r"loss .* is inf .*Buffers hold NaN or infinity: scale\."):
        trainer_in(tmp_path, detect_anomaly=True).fit(Scaled(), loader(5))


class RootOfNothing(Regression):
    """The loss is finite, and its gradient is not: the slope of the root at zero, times zero."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = loss_of(self.net, batch)
        return loss if batch_idx < 2 else loss + (loss * 0).sqrt() * 0


@pytest.mark.filterwarnings("ignore:Error detected in SqrtBackward0")
def test_a_gradient_that_is_nan_is_named_with_its_operation_and_its_batch(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, detect_anomaly=True)
    message = (
        r"A gradient is NaN in batch 2 of epoch 0 \(global_step=2\): Function 'SqrtBackward0' returned nan values .*"
        "forward pass"
    )
    with pytest.raises(AnomalyError, match=message) as caught:
        trainer.fit(RootOfNothing(), loader(5))
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.filterwarnings("ignore:Error detected in SqrtBackward0")
def test_gradients_of_manual_optimization_are_watched_too(tmp_path: Path) -> None:
    class Manual(RootOfNothing):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            loss = super().training_step(batch, batch_idx)
            optimizer = self.optimizers()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    with pytest.raises(AnomalyError, match=r"A gradient is NaN in batch 2 of epoch 0"):
        trainer_in(tmp_path, detect_anomaly=True).fit(Manual(), loader(5))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_of_manual_optimization_is_watched_though_the_step_returns_none(value: float, tmp_path: Path) -> None:
    class Manual(Regression):
        automatic_optimization = False

        def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
            loss = super().training_step(batch, batch_idx)
            self.optimizers().zero_grad()
            self.manual_backward(loss + value if batch_idx == 2 else loss)
            self.optimizers().step()

    module = Manual()
    trainer = trainer_in(tmp_path, detect_anomaly=True)
    message = (
        rf"^The loss that Manual.manual_backward\(\) was called with is {value} in batch 2 of epoch 0 "
        r"\(global_step=2\). The batch and the weights are finite"
    )
    with pytest.raises(AnomalyError, match=message):
        trainer.fit(module, loader(5))
    assert trainer.global_step == 2


def test_other_errors_of_a_step_stay_as_they_are(tmp_path: Path) -> None:
    class Fails(Regression):
        def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
            raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match=r"^planted$") as caught:
        trainer_in(tmp_path, detect_anomaly=True).fit(Fails(), loader())
    assert not isinstance(caught.value, AnomalyError)


def test_every_callback_hears_of_an_anomaly_and_training_can_go_on_afterwards(tmp_path: Path) -> None:
    class Hears(Callback):
        heard: BaseException | None = None

        def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
            self.heard = exception

    hears, module = Hears(), Breaks(math.nan, at=7)
    trainer = trainer_in(tmp_path, hears, detect_anomaly=True)
    with pytest.raises(AnomalyError) as caught:
        trainer.fit(module, loader(5))
    assert hears.heard is caught.value
    module.at = -1
    trainer.fit(module, loader(5))
    assert trainer.current_epoch == 2


@pytest.mark.parametrize("arguments", [{}, {"accumulate_grad_batches": 2}, {"precision": "bf16-mixed"}], ids=repr)
def test_watching_changes_no_number(arguments: dict[str, Any], tmp_path: Path) -> None:
    watched, plain = Regression(), Regression()
    trainer_in(tmp_path, detect_anomaly=True, **arguments).fit(watched, loader())
    trainer_in(tmp_path, **arguments).fit(plain, loader())
    for name, weight in plain.state_dict().items():
        assert torch.equal(watched.state_dict()[name], weight), name
