"""What `self.log` computes: names, means, reductions, and where each value can be read during and after a run."""

from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchmetrics import MaxMetric, MetricCollection, SumMetric
from torchmetrics.regression import MeanAbsoluteError

from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError

# Batches of three, three and one: their means are 2, 5 and 13, and the mean of all samples is 34 / 7.
BATCHES = (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([4.0, 5.0, 6.0]), torch.tensor([13.0]))
MEAN = 34 / 7


class Listed(Dataset[Any]):
    """The batches of a list, as they are."""

    def __init__(self, batches: Any) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Any:
        return self.batches[index]


def loader(*batches: Any) -> DataLoader[Any]:
    return DataLoader(Listed(batches), batch_size=None)


class Base(LightningModule):
    """One weight; `train_log` and `evaluate_log` are what a test logs in the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.seen: list[Any] = []

    def train_log(self, batch: Any, batch_idx: int) -> None:
        """Logs nothing."""

    def evaluate_log(self, batch: Any, batch_idx: int) -> None:
        """Logs nothing."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.train_log(batch, batch_idx)
        return self.weight * 1.0

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.evaluate_log(batch, batch_idx)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.evaluate_log(batch, batch_idx)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer(root: Path, **arguments: Any) -> Trainer:
    chosen: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "max_epochs": 1,
    }
    return Trainer(**(chosen | arguments))


def floats(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def test_a_value_of_step_and_epoch_forks_into_two_names(tmp_path: Path) -> None:
    class Forking(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("loss", batch.mean(), on_step=True, on_epoch=True, prog_bar=True)

    fitted = trainer(tmp_path)
    fitted.fit(Forking(), loader(*BATCHES))

    mean = pytest.approx(MEAN)
    assert floats(fitted.callback_metrics) == {"loss": mean, "loss_step": 13.0, "loss_epoch": mean}
    assert floats(fitted.logged_metrics) == {"loss_step": 13.0, "loss_epoch": mean}
    assert fitted.progress_bar_metrics == {"loss_step": 13.0, "loss_epoch": mean}


def test_a_value_of_steps_alone_keeps_its_name_and_its_last_value(tmp_path: Path) -> None:
    class Stepping(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("loss", batch.mean(), on_step=True, on_epoch=False, prog_bar=True)

    fitted = trainer(tmp_path)
    fitted.fit(Stepping(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"loss": 13.0}
    assert floats(fitted.logged_metrics) == {"loss": 13.0}
    assert fitted.progress_bar_metrics == {"loss": 13.0}


def test_a_value_of_epochs_alone_keeps_its_name_and_is_a_mean_over_samples(tmp_path: Path) -> None:
    class Averaging(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("loss", batch.mean(), on_step=False, on_epoch=True, prog_bar=True)

    fitted = trainer(tmp_path)
    fitted.fit(Averaging(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"loss": pytest.approx(MEAN)}
    assert floats(fitted.logged_metrics) == {"loss": pytest.approx(MEAN)}
    assert fitted.progress_bar_metrics == {"loss": pytest.approx(MEAN)}


def test_training_logs_steps_and_validation_logs_epochs_unless_told_otherwise(tmp_path: Path) -> None:
    class Defaults(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("train", batch.mean())

        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.log("val", batch.mean())

    fitted = trainer(tmp_path)
    fitted.fit(Defaults(), loader(*BATCHES), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"train": 13.0, "val": pytest.approx(MEAN)}


def test_values_are_read_as_tensors_on_the_bar_as_numbers(tmp_path: Path) -> None:
    class Logging(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("number", 0.5, prog_bar=True)
            self.log("tensor", self.weight * 0.25, prog_bar=True)

    fitted = trainer(tmp_path)
    fitted.fit(Logging(), loader(*BATCHES))

    for metrics in (fitted.callback_metrics, fitted.logged_metrics):
        assert {name: (type(value), value.requires_grad) for name, value in metrics.items()} == {
            "number": (Tensor, False),
            "tensor": (Tensor, False),
        }
    assert fitted.progress_bar_metrics == {"number": 0.5, "tensor": 0.25}
    assert {type(value) for value in fitted.progress_bar_metrics.values()} == {float}


def test_logger_and_prog_bar_choose_where_a_value_is_shown(tmp_path: Path) -> None:
    class Choosing(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("everywhere", 1.0, prog_bar=True)
            self.log("not on the bar", 2.0)
            self.log("not in the logger", 3.0, logger=False, prog_bar=True)
            self.log("for callbacks alone", 4.0, logger=False)

    fitted = trainer(tmp_path)
    fitted.fit(Choosing(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {
        "everywhere": 1.0,
        "not on the bar": 2.0,
        "not in the logger": 3.0,
        "for callbacks alone": 4.0,
    }
    assert floats(fitted.logged_metrics) == {"everywhere": 1.0, "not on the bar": 2.0}
    assert fitted.progress_bar_metrics == {"everywhere": 1.0, "not in the logger": 3.0}


def test_log_dict_logs_each_value_with_the_same_settings(tmp_path: Path) -> None:
    class Logging(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log_dict({"low": batch.min(), "high": batch.max()}, on_step=True, on_epoch=True, reduce_fx="sum")

    fitted = trainer(tmp_path)
    fitted.fit(Logging(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {
        "low": 18.0,
        "low_step": 13.0,
        "low_epoch": 18.0,
        "high": 22.0,
        "high_step": 13.0,
        "high_epoch": 22.0,
    }


def test_each_epoch_begins_anew(tmp_path: Path) -> None:
    class Epochs(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            for reduction in ("mean", "sum", "min", "max"):
                value = batch.mean() + 100 * self.current_epoch
                self.log(reduction, value, on_step=False, on_epoch=True, reduce_fx=reduction)

        def on_train_epoch_end(self) -> None:
            self.seen.append(floats(self.trainer.callback_metrics))

    model = Epochs()
    trainer(tmp_path, max_epochs=3).fit(model, loader(*BATCHES))

    assert model.seen == [
        {
            "mean": pytest.approx(MEAN + 100 * epoch, rel=1e-6),
            "sum": 20.0 + 300 * epoch,
            "min": 2.0 + 100 * epoch,
            "max": 13.0 + 100 * epoch,
        }
        for epoch in range(3)
    ]


# --------------------------------------------------------------------------------------------------------- reductions


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", MEAN),
        ("avg", MEAN),
        (torch.mean, MEAN),
        ("sum", 20.0),
        (torch.sum, 20.0),
        ("min", 2.0),
        (torch.min, 2.0),
        ("max", 13.0),
        (torch.max, 13.0),
    ],
    ids=["mean", "avg", "torch.mean", "sum", "torch.sum", "min", "torch.min", "max", "torch.max"],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_reductions_over_an_epoch(reduction: Any, expected: float, sign: float, tmp_path: Path) -> None:
    class Reducing(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", sign * batch.mean(), on_step=True, on_epoch=True, reduce_fx=reduction)

    fitted = trainer(tmp_path)
    fitted.fit(Reducing(), loader(*BATCHES))

    swapped = {2.0: 13.0, 13.0: 2.0}
    epoch = sign * (expected if sign > 0 else swapped.get(expected, expected))
    assert floats(fitted.callback_metrics) == {
        "value": pytest.approx(epoch),
        "value_step": sign * 13.0,
        "value_epoch": pytest.approx(epoch),
    }


def test_only_the_mean_needs_the_size_of_a_batch(tmp_path: Path) -> None:
    class Sizeless(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            for reduction in ("sum", "min", "max"):
                self.log(reduction, float(len(batch["text"])), on_step=False, on_epoch=True, reduce_fx=reduction)
            self.log("step", float(len(batch["text"])), on_step=True, on_epoch=False)

    fitted = trainer(tmp_path)
    fitted.fit(Sizeless(), loader({"text": "a"}, {"text": "abc"}))

    assert floats(fitted.callback_metrics) == {"sum": 4.0, "min": 1.0, "max": 3.0, "step": 3.0}


# --------------------------------------------------------------------------------------------------------- batch sizes


class MeanOfIndex(Base):
    """Logs 1, 2, 3, ... so that the mean shows the weights of the batches."""

    def train_log(self, batch: Any, batch_idx: int) -> None:
        self.log("value", batch_idx + 1.0, on_step=False, on_epoch=True)


@pytest.mark.parametrize(
    "nest",
    [
        lambda x: x,
        lambda x: [x],
        lambda x: (x, x),
        lambda x: {"x": x},
        lambda x: {"inner": [{"x": x}], "y": x},
        lambda x: ["a name", {"n": 3, "x": x}],
        lambda x: {"ids": ["a", "b"], "x": x},
    ],
    ids=["tensor", "list", "tuple", "dictionary", "deeply nested", "beside other things", "beside a list of strings"],
)
def test_the_size_of_a_batch_is_that_of_its_first_tensor(nest: Any, tmp_path: Path) -> None:
    fitted = trainer(tmp_path)
    fitted.fit(MeanOfIndex(), loader(*(nest(torch.zeros(size, 2)) for size in (5, 2, 1))))

    assert floats(fitted.callback_metrics) == {"value": pytest.approx((5 * 1 + 2 * 2 + 1 * 3) / 8)}


def test_a_tensor_without_dimensions_is_a_batch_of_one(tmp_path: Path) -> None:
    fitted = trainer(tmp_path)
    fitted.fit(MeanOfIndex(), loader(torch.tensor(9.0), torch.tensor(9.0), torch.zeros(4)))

    assert floats(fitted.callback_metrics) == {"value": pytest.approx((1 + 2 + 4 * 3) / 6)}


def test_an_explicit_batch_size_wins(tmp_path: Path) -> None:
    class Explicit(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", batch_idx + 1.0, on_step=False, on_epoch=True, batch_size=10 - batch_idx)
            self.log_dict({"other": batch_idx + 1.0}, on_step=False, on_epoch=True, batch_size=batch_idx + 1)

    fitted = trainer(tmp_path)
    fitted.fit(Explicit(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {
        "value": pytest.approx((10 * 1 + 9 * 2 + 8 * 3) / 27),
        "other": pytest.approx((1 * 1 + 2 * 2 + 3 * 3) / 6),
    }


def test_an_ambiguous_batch_size_warns_and_takes_the_first(tmp_path: Path) -> None:
    batches = [{"first": torch.zeros(size), "second": torch.zeros(7)} for size in (5, 1)]

    fitted = trainer(tmp_path)
    with pytest.warns(UserWarning, match=r"differ.* 5, the first one's.*batch_size="):
        fitted.fit(MeanOfIndex(), loader(*batches))

    assert floats(fitted.callback_metrics) == {"value": pytest.approx((5 * 1 + 1 * 2) / 6)}


def test_values_that_agree_on_their_size_do_not_warn(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    trainer(tmp_path).fit(MeanOfIndex(), loader({"x": torch.zeros(3, 2), "y": torch.zeros(3)}))

    assert not [warning for warning in recwarn if "batch_size" in str(warning.message)]


def test_a_mean_without_any_batch_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)value.*batch_size="):
        trainer(tmp_path).fit(MeanOfIndex(), loader({"text": "no tensor here"}))


def test_only_the_batches_that_log_a_value_count_for_its_mean(tmp_path: Path) -> None:
    class Sometimes(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            if batch_idx != 1:
                self.log("value", batch.mean(), on_step=True, on_epoch=True)

    fitted = trainer(tmp_path)
    fitted.fit(Sometimes(), loader(*BATCHES))

    assert floats(fitted.callback_metrics)["value_epoch"] == pytest.approx((3 * 2.0 + 1 * 13.0) / 4)


def test_a_value_logged_twice_in_a_step_counts_twice(tmp_path: Path) -> None:
    class Twice(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", 1.0, on_step=True, on_epoch=True, reduce_fx="sum")
            self.log("value", 5.0, on_step=True, on_epoch=True, reduce_fx="sum")

    fitted = trainer(tmp_path)
    fitted.fit(Twice(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"value": 18.0, "value_step": 5.0, "value_epoch": 18.0}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 4096), st.floats(-1e4, 1e4, allow_nan=False, allow_subnormal=False, width=32)),
        min_size=1,
        max_size=12,
    )
)
def test_an_epochs_mean_is_the_mean_weighted_by_batch_sizes(batches: list[tuple[int, float]]) -> None:
    class Replaying(Base):
        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            size, value = batches[batch_idx]
            self.log("explicit", value, batch_size=size)
            self.log("inferred", torch.tensor(value))

    sized = [torch.zeros(()).expand(size) for size, _ in batches]
    with TemporaryDirectory() as root:
        (results,) = trainer(Path(root)).validate(Replaying(), loader(*sized), verbose=False)

    total = sum(size for size, _ in batches)
    mean = float(sum(Fraction(size) * Fraction(value) for size, value in batches) / total)
    # The mean itself may be rounded to float32. The sum may not: values that cancel each other would leave an error as
    # large as float32 has for the largest of them.
    allowed = pytest.approx(mean, rel=1e-6, abs=1e-9 * max(abs(value) for _, value in batches))
    assert results == {"explicit": allowed, "inferred": allowed}


# -------------------------------------------------------------------------------------------------- kinds of values


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3.0),
        (2.5, 2.5),
        (True, 1.0),
        (torch.tensor(True), 1.0),
        (torch.tensor(7), 7.0),
        (torch.tensor([4], dtype=torch.uint8), 4.0),
        (torch.tensor([[1.5]]), 1.5),
        (torch.tensor(0.5, dtype=torch.float16), 0.5),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (torch.tensor(1 / 3, dtype=torch.float64), 1 / 3),
        (float("inf"), float("inf")),
    ],
    ids=[
        "int",
        "float",
        "bool",
        "bool tensor",
        "int tensor",
        "uint8 tensor in one dimension",
        "tensor in two dimensions",
        "float16",
        "bfloat16",
        "float64",
        "infinity",
    ],
)
def test_numbers_and_tensors_of_one_element_are_logged_as_floats(value: Any, expected: float, tmp_path: Path) -> None:
    class Logging(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", value, on_step=True, on_epoch=True)

    fitted = trainer(tmp_path)
    fitted.fit(Logging(), loader(*BATCHES))

    found = fitted.callback_metrics
    assert floats(found) == {name: pytest.approx(expected) for name in ("value", "value_step", "value_epoch")}
    assert all(value.is_floating_point() for value in found.values())


def test_bools_are_averaged_as_shares(tmp_path: Path) -> None:
    class Counting(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("large", (batch.mean() > 4), on_step=False, on_epoch=True)
            self.log("python", bool(batch.mean() > 4), on_step=False, on_epoch=True)

    fitted = trainer(tmp_path)
    fitted.fit(Counting(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"large": pytest.approx(4 / 7), "python": pytest.approx(4 / 7)}


def test_a_loss_that_grows_in_place_after_it_was_logged_stays_as_it_was_logged(tmp_path: Path) -> None:
    class Growing(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = self.weight * batch.mean()
            self.log("data", loss, on_step=True, on_epoch=True, batch_size=1)
            self.log("largest", loss, on_step=False, on_epoch=True, reduce_fx="max")
            self.log("total", loss, on_step=False, on_epoch=True, reduce_fx="sum")
            loss += 1000.0  # a penalty, say: autograd allows this
            return loss

    fitted = trainer(tmp_path)
    fitted.fit(Growing(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {
        "data": pytest.approx(20 / 3),
        "data_step": 13.0,
        "data_epoch": pytest.approx(20 / 3),
        "largest": 13.0,
        "total": 20.0,
    }


def test_half_precision_values_are_summed_in_single_precision(tmp_path: Path) -> None:
    class Summing(Base):
        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", torch.tensor(1.0, dtype=torch.float16), reduce_fx="sum")

    # float16 has no integer between 2048 and 2050, so that a sum kept in it would stay at 2048.
    (results,) = trainer(tmp_path).validate(Summing(), loader(*([torch.zeros(1)] * 2100)), verbose=False)

    assert results == {"value": 2100.0}


def test_a_value_that_changes_after_it_was_logged_stays_as_it_was_logged(tmp_path: Path) -> None:
    class Changing(Base):
        def __init__(self) -> None:
            super().__init__()
            self.running = torch.zeros(())

        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.running.fill_(batch_idx + 1.0)
            self.log("step", self.running, on_step=True, on_epoch=False)
            self.log("sum", self.running, on_step=False, on_epoch=True, reduce_fx="sum")
            self.log("max", self.running, on_step=False, on_epoch=True, reduce_fx="max")
            self.running.fill_(1000.0)

    fitted = trainer(tmp_path)
    fitted.fit(Changing(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"step": 3.0, "sum": 6.0, "max": 3.0}


# ---------------------------------------------------------------------------------------------- several dataloaders


class Suffixed(Base):
    """Logs in every way that a dataloader's index matters for."""

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.log("v", batch.mean())
        self.log("w", batch.mean(), on_step=True, on_epoch=True, prog_bar=True)
        self.log(f"own/{dataloader_idx}", batch.max(), add_dataloader_idx=False, reduce_fx="max")

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("size", float(len(batch)), reduce_fx="sum")

    def on_validation_epoch_end(self) -> None:
        self.log("whole", 42.0)


def test_several_dataloaders_are_told_apart_by_a_suffix(tmp_path: Path) -> None:
    runner = trainer(tmp_path)
    results = runner.validate(
        Suffixed(), [loader(*BATCHES), loader(torch.tensor([8.0, 10.0]), torch.tensor([0.0, 0.0]))], verbose=False
    )

    mean = pytest.approx(MEAN)
    expected = {
        "v/dataloader_idx_0": mean,
        "w/dataloader_idx_0": mean,
        "w_epoch/dataloader_idx_0": mean,
        "own/0": 13.0,
        "size/dataloader_idx_0": 7.0,
        "v/dataloader_idx_1": 4.5,
        "w/dataloader_idx_1": 4.5,
        "w_epoch/dataloader_idx_1": 4.5,
        "own/1": 10.0,
        "size/dataloader_idx_1": 4.0,
        "whole": 42.0,
    }
    assert floats(runner.callback_metrics) == expected
    assert runner.progress_bar_metrics.keys() >= {"w_epoch/dataloader_idx_0", "w_epoch/dataloader_idx_1"}
    assert [set(result) for result in results] == [
        {"v/dataloader_idx_0", "w_epoch/dataloader_idx_0", "own/0", "size/dataloader_idx_0", "whole"},
        {"v/dataloader_idx_1", "w_epoch/dataloader_idx_1", "own/1", "size/dataloader_idx_1", "whole"},
    ]


def test_one_dataloader_has_no_suffix(tmp_path: Path) -> None:
    runner = trainer(tmp_path)
    (alone,) = runner.validate(Suffixed(), loader(*BATCHES), verbose=False)
    (listed,) = runner.validate(Suffixed(), [loader(*BATCHES)], verbose=False)

    assert set(alone) == set(listed) == {"v", "w_epoch", "own/0", "size", "whole"}
    assert alone["v"] == pytest.approx(MEAN)


# ------------------------------------------------------------------------------------------------- fit and validation


def test_validation_inside_the_epoch_does_not_disturb_the_metrics_of_training(tmp_path: Path) -> None:
    class Both(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("train", batch.mean(), on_step=True, on_epoch=True)
            self.log("sum", batch.mean(), on_step=False, on_epoch=True, reduce_fx="sum")

        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.log("val", batch.mean() + self.global_step)

        def on_validation_end(self) -> None:
            metrics = floats(self.trainer.callback_metrics)
            self.seen.append((metrics["train_step"], metrics["val"]))

    model = Both()
    fitted = trainer(tmp_path, val_check_interval=1)
    fitted.fit(model, loader(*BATCHES), loader(torch.tensor([10.0, 30.0]), torch.tensor([50.0])))

    assert model.seen == [(2.0, 31.0), (5.0, 32.0), (13.0, 33.0)]
    assert floats(fitted.callback_metrics) == {
        "train": pytest.approx(MEAN),
        "train_step": 13.0,
        "train_epoch": pytest.approx(MEAN),
        "sum": 20.0,
        "val": 33.0,
    }


def test_the_running_epochs_values_stay_readable_during_validation(tmp_path: Path) -> None:
    class Both(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("train", batch.mean(), prog_bar=True)

        def on_validation_start(self) -> None:
            self.read()

        def on_validation_epoch_end(self) -> None:
            self.log("val", 7.0, prog_bar=True)
            self.read()

        def on_validation_end(self) -> None:
            self.read()

        def read(self) -> None:
            self.seen.append((floats(self.trainer.callback_metrics), dict(self.trainer.progress_bar_metrics)))

    model = Both()
    trainer(tmp_path, val_check_interval=2).fit(model, loader(*BATCHES), loader(*BATCHES))

    before, after = {"train": 5.0}, {"train": 5.0, "val": 7.0}
    assert model.seen == [(before, before), (after, after), (after, after)]


def test_values_of_single_evaluation_steps_never_reach_callbacks(tmp_path: Path) -> None:
    class Seeing(Callback):
        def __init__(self) -> None:
            self.seen: list[set[str]] = []

        def on_validation_batch_end(
            self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
        ) -> None:
            self.seen.append(set(trainer.callback_metrics))

    class Forking(Base):
        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.log("w", batch.mean(), on_step=True, on_epoch=True)
            self.log("only_step", batch.mean(), on_step=True, on_epoch=False)

    seeing = Seeing()
    runner = trainer(tmp_path, callbacks=[seeing])
    runner.validate(Forking(), loader(*BATCHES), verbose=False)

    assert seeing.seen == [set(), set(), set()]
    assert floats(runner.callback_metrics) == {"w": pytest.approx(MEAN), "w_epoch": pytest.approx(MEAN)}


def test_values_of_single_evaluation_steps_never_reach_callbacks_inside_fit(tmp_path: Path) -> None:
    class Forking(Base):
        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.log("w", batch.mean(), on_step=True, on_epoch=True)

    fitted = trainer(tmp_path)
    fitted.fit(Forking(), loader(*BATCHES), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"w": pytest.approx(MEAN), "w_epoch": pytest.approx(MEAN)}


class Watching(Callback):
    """Reads all three views of the metrics in the middle of a run."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.epochs: list[Any] = []

    def views(self, trainer: Any) -> Any:
        return (
            floats(trainer.callback_metrics),
            floats(trainer.logged_metrics),
            dict(trainer.progress_bar_metrics),
        )

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(self.views(trainer))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.epochs.append(self.views(trainer))


def test_metrics_can_be_read_in_the_middle_of_an_epoch_and_at_its_end(tmp_path: Path) -> None:
    class Forking(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("a", batch.mean(), on_step=True, on_epoch=True, prog_bar=True)
            self.log("b", batch.max(), on_step=False, on_epoch=True, reduce_fx="max")
            self.log("c", batch.min())

    watching = Watching()
    trainer(tmp_path, callbacks=[watching], log_every_n_steps=50).fit(Forking(), loader(*BATCHES))

    assert watching.batches == [
        ({"a": mean, "a_step": mean, "c": low}, {"a_step": mean, "c": low}, {"a_step": mean})
        for mean, low in ((2.0, 1.0), (5.0, 4.0), (13.0, 13.0))
    ]
    mean = pytest.approx(MEAN)
    assert watching.epochs == [
        (
            {"a": mean, "a_step": 13.0, "a_epoch": mean, "b": 13.0, "c": 13.0},
            {"a_step": 13.0, "a_epoch": mean, "b": 13.0, "c": 13.0},
            {"a_step": 13.0, "a_epoch": mean},
        )
    ]


def test_values_of_the_last_epoch_stay_readable_during_the_next(tmp_path: Path) -> None:
    class Forking(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("a", batch.mean() + 100 * self.current_epoch, on_step=True, on_epoch=True)

    watching = Watching()
    trainer(tmp_path, max_epochs=2, callbacks=[watching]).fit(Forking(), loader(*BATCHES))

    first_of_second_epoch = watching.batches[3][0]
    assert first_of_second_epoch == {"a": 102.0, "a_step": 102.0, "a_epoch": pytest.approx(MEAN)}


def test_a_metric_that_the_module_logs_at_the_epochs_end_is_seen_by_monitoring_callbacks_in_that_epoch(
    tmp_path: Path,
) -> None:
    class Late(Base):
        def on_train_epoch_end(self) -> None:
            self.log("late", 7.0 + self.current_epoch)

    class Monitor(Watching):
        order = Order.MONITOR

    class Last(Watching):
        order = Order.LAST

    monitor, last = Monitor(), Last()
    fitted = trainer(tmp_path, max_epochs=2, callbacks=[last, monitor])
    fitted.fit(Late(), loader(*BATCHES))

    assert [callback for callback, _, _ in monitor.epochs] == [{"late": 7.0}, {"late": 8.0}]
    assert [callback for callback, _, _ in last.epochs] == [{"late": 7.0}, {"late": 8.0}]
    assert floats(fitted.callback_metrics) == {"late": 8.0}


def test_two_hooks_may_log_one_name_with_settings_of_their_own(tmp_path: Path) -> None:
    class Twice(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("value", batch.mean())

        def on_train_epoch_end(self) -> None:
            self.log("value", 99.0)

    watching = Watching()
    fitted = trainer(tmp_path, callbacks=[watching])
    fitted.fit(Twice(), loader(*BATCHES))

    assert [callback["value"] for callback, _, _ in watching.batches] == [2.0, 5.0, 13.0]
    assert floats(fitted.callback_metrics) == {"value": 99.0}


def test_metrics_of_one_entry_point_do_not_leak_into_the_next(tmp_path: Path) -> None:
    class Two(Base):
        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.log("val", batch.mean())

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
            self.log("test", batch.max(), reduce_fx="max")

    runner = trainer(tmp_path)
    model = Two()
    assert runner.validate(model, loader(torch.tensor([4.0])), verbose=False) == [{"val": 4.0}]
    assert runner.test(model, loader(torch.tensor([5.0])), verbose=False) == [{"test": 5.0}]
    assert floats(runner.callback_metrics) == {"test": 5.0}
    assert runner.validate(model, loader(torch.tensor([6.0])), verbose=False) == [{"val": 6.0}]


# ----------------------------------------------------------------------------------------------- logging in callbacks


class Reporting(Callback):
    """Logs with its own `self.log` and with the module's."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.log("own", batch.mean())
        pl_module.log("module's", batch.mean(), on_step=False, on_epoch=True)
        self.log_dict({"low": batch.min(), "high": batch.max()}, on_step=False, on_epoch=True, reduce_fx="sum")

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log("epoch", 5.0)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.log("val", batch.mean())

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.log_dict({"val_epoch": 6.0})


def test_callbacks_log_as_modules_do(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, callbacks=[Reporting()])
    fitted.fit(Base(), loader(*BATCHES), loader(*BATCHES))

    mean = pytest.approx(MEAN)
    assert floats(fitted.callback_metrics) == {
        "own": 13.0,
        "module's": mean,
        "low": 18.0,
        "high": 22.0,
        "epoch": 5.0,
        "val": mean,
        "val_epoch": 6.0,
    }


def test_a_callback_and_the_module_may_log_different_names_in_the_same_hook(tmp_path: Path) -> None:
    class Speaking(Base):
        def on_train_epoch_end(self) -> None:
            self.log("module", 1.0)

    class Also(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log("callback", 2.0)

    fitted = trainer(tmp_path, callbacks=[Also()])
    fitted.fit(Speaking(), loader(*BATCHES))

    assert floats(fitted.callback_metrics) == {"module": 1.0, "callback": 2.0}


# ------------------------------------------------------------------------------------------------------ metric objects


def test_a_torchmetrics_object_gives_the_batch_value_by_step_and_its_own_value_by_epoch(tmp_path: Path) -> None:
    class Measured(Base):
        def __init__(self) -> None:
            super().__init__()
            self.error = MeanAbsoluteError()

        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.error(batch, torch.zeros_like(batch))
            self.log("error", self.error, on_step=True, on_epoch=True)

    model, watching = Measured(), Watching()
    fitted = trainer(tmp_path, max_epochs=2, callbacks=[watching])
    fitted.fit(model, loader(*BATCHES))

    assert [views[0]["error_step"] for views in watching.batches] == [2.0, 5.0, 13.0] * 2
    # Seven samples in each epoch: were the object not reset, the second epoch would still give the same mean.
    assert [views[0]["error_epoch"] for views in watching.epochs] == [pytest.approx(MEAN)] * 2
    assert floats(fitted.logged_metrics) == {"error_step": 13.0, "error_epoch": pytest.approx(MEAN)}
    assert not model.error.update_called, "the object must be reset at the end of an epoch"


def test_a_torchmetrics_object_starts_anew_in_every_epoch(tmp_path: Path) -> None:
    class Summed(Base):
        def __init__(self) -> None:
            super().__init__()
            self.train_sum = SumMetric()
            self.val_sum = SumMetric()

        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.train_sum.update(batch)
            self.log("train", self.train_sum, on_step=False, on_epoch=True)

        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.val_sum.update(batch)
            self.log("val", self.val_sum)

        def on_validation_end(self) -> None:
            if not self.trainer.sanity_checking:
                self.seen.append(float(self.trainer.callback_metrics["val"]))

    model, watching = Summed(), Watching()
    trainer(tmp_path, max_epochs=2, val_check_interval=1, num_sanity_val_steps=2, callbacks=[watching]).fit(
        model, loader(*BATCHES), loader(*BATCHES)
    )

    assert [views[0]["train"] for views in watching.epochs] == [34.0, 34.0]
    assert model.seen == [34.0] * 6


def test_torchmetrics_objects_of_a_collection_are_logged_by_log_dict(tmp_path: Path) -> None:
    class Collected(Base):
        def __init__(self) -> None:
            super().__init__()
            self.collection: Any = MetricCollection({"sum": SumMetric(), "max": MaxMetric()})

        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.collection.update(batch)
            self.log_dict(self.collection)

    (results,) = trainer(tmp_path).validate(Collected(), loader(*BATCHES), verbose=False)

    assert results == {"sum": 34.0, "max": 13.0}


class Product:
    """A metric written by hand: anything with update, compute and reset."""

    def __init__(self) -> None:
        self.resets = 0
        self.value = torch.ones(())

    def update(self, values: Tensor) -> None:
        self.value = self.value * values.prod()

    def compute(self) -> Tensor:
        return self.value

    def reset(self) -> None:
        self.resets += 1
        self.value = torch.ones(())


def test_any_object_with_update_compute_and_reset_is_a_metric(tmp_path: Path) -> None:
    class Multiplying(Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = Product()

        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.product.update(batch)
            self.log("product", self.product, on_step=False, on_epoch=True)

    model, watching = Multiplying(), Watching()
    fitted = trainer(tmp_path, max_epochs=2, callbacks=[watching])
    fitted.fit(model, loader(*BATCHES))

    assert [views[0]["product"] for views in watching.epochs] == [9360.0, 9360.0]
    assert floats(fitted.callback_metrics) == {"product": 9360.0}
    assert model.product.resets >= 2
    assert model.product.value.item() == 1.0


def test_a_handwritten_metric_works_in_evaluation(tmp_path: Path) -> None:
    class Multiplying(Base):
        def __init__(self) -> None:
            super().__init__()
            self.product = Product()

        def evaluate_log(self, batch: Any, batch_idx: int) -> None:
            self.product.update(batch)
            self.log("product", self.product)

    model = Multiplying()
    runner = trainer(tmp_path)

    assert runner.test(model, loader(*BATCHES), verbose=False) == [{"product": 9360.0}]
    assert runner.test(model, loader(*BATCHES[:2]), verbose=False) == [{"product": 720.0}]


# --------------------------------------------------------------------------------------------------- without a trainer


def test_logging_without_a_trainer_warns_and_goes_on() -> None:
    model = Base()

    with pytest.warns(UserWarning, match=r"(?s)loss.*[Tt]rainer"):
        model.log("loss", 1.0)
    with pytest.warns(UserWarning, match=r"(?s)low.*[Tt]rainer"):
        model.log_dict({"low": 1.0})


def test_logging_under_barebones_warns_and_records_nothing(tmp_path: Path) -> None:
    class Logging(Base):
        def train_log(self, batch: Any, batch_idx: int) -> None:
            self.log("loss", 1.0, on_step=True, on_epoch=True)

    fitted = Trainer(default_root_dir=tmp_path, accelerator="cpu", max_epochs=1, barebones=True)
    with pytest.warns(UserWarning, match="barebones"):
        fitted.fit(Logging(), loader(*BATCHES))

    assert fitted.global_step == 3
    assert fitted.callback_metrics == {}
