"""How often everything runs: steps, batches, epochs, validations.

A run is written as a line of marks: `t2` is training batch 2 of its epoch, `v0` validation batch 0 (`v1.0`: batch 0 of
loader 1), `s0` the same in the sanity check.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError

EPOCH = "t0 t1 t2 t3 t4"


class Marking(LightningModule):
    """Writes down every batch it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.marks: list[str] = []

    @property
    def line(self) -> str:
        return " ".join(self.marks)

    def mark(self, kind: str, batch_idx: int, loader: int | None) -> None:
        self.marks.append(f"{kind}{batch_idx}" if loader is None else f"{kind}{loader}.{batch_idx}")

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.mark("t", batch_idx, None)
        return self.weight * 1.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1.0)


class Validated(Marking):
    """Marks validation, test and predict batches of one loader as well."""

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        self.mark("s" if self.trainer.sanity_checking else "v", batch_idx, None)

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        self.mark("e", batch_idx, None)

    def predict_step(self, batch: Any, batch_idx: int) -> Any:
        self.mark("p", batch_idx, None)
        return batch_idx


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.zeros(batches)), batch_size=1)


class Stream(IterableDataset[Any]):
    """A dataset that does not know its length."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        return iter(torch.zeros(self.count))


def stream(batches: int) -> DataLoader[Any]:
    return DataLoader(Stream(batches), batch_size=1)


def trainer(root: Path, **arguments: Any) -> Trainer:
    settings: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
    }
    return Trainer(**(settings | arguments))


@pytest.mark.parametrize(
    ("arguments", "epochs", "rest", "steps"),
    [
        ({"max_epochs": 1}, 1, "", 5),
        ({"max_epochs": 3}, 3, "", 15),
        ({"max_epochs": 0}, 0, "", 0),
        ({"max_steps": 0}, 0, "", 0),
        ({"max_steps": 7}, 1, " t0 t1", 7),
        ({"max_steps": 10}, 2, "", 10),
        ({"max_epochs": 1, "max_steps": 7}, 1, "", 5),
        ({"max_epochs": 3, "max_steps": 7}, 1, " t0 t1", 7),
        ({"max_epochs": -1, "max_steps": 6}, 1, " t0", 6),
        ({"max_steps": 1, "accumulate_grad_batches": 3}, 0, "t0 t1 t2", 1),
        ({"max_steps": 2, "accumulate_grad_batches": 3}, 1, "", 2),
        ({"max_steps": 3, "accumulate_grad_batches": 3}, 1, " t0 t1 t2", 3),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 2, "", 6),
        ({"max_epochs": 2, "accumulate_grad_batches": 9}, 2, "", 2),
    ],
)
def test_limits_of_epochs_and_steps_are_exact(
    arguments: dict[str, Any], epochs: int, rest: str, steps: int, tmp_path: Path
) -> None:
    model = Marking()
    fitted = trainer(tmp_path, **arguments)
    fitted.fit(model, loader(5))

    assert model.line == " ".join([EPOCH] * epochs) + rest
    assert fitted.global_step == steps
    # Each optimizer step subtracts one, because the gradient of every whole window is one.
    assert model.weight.item() == pytest.approx(-steps, abs=1e-5)


def test_current_epoch_counts_the_epochs_that_are_over(tmp_path: Path) -> None:
    class Epochs(Marking):
        def on_train_epoch_start(self) -> None:
            self.marks.append(f"start {self.current_epoch}")

        def on_train_epoch_end(self) -> None:
            self.marks.append(f"end {self.current_epoch}")

    model = Epochs()
    fitted = trainer(tmp_path, max_epochs=3)
    fitted.fit(model, loader(1))

    assert model.marks == ["start 0", "t0", "end 0", "start 1", "t0", "end 1", "start 2", "t0", "end 2"]
    assert fitted.current_epoch == 3


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, "t0"),
        (3, "t0 t1 t2"),
        (99, EPOCH),
        (1.0, EPOCH),
        (0.5, "t0 t1"),
        (0.2, "t0"),
        (0, ""),
        (0.0, ""),
    ],
)
def test_limit_train_batches_counts_batches_or_takes_a_share(limit: int | float, expected: str, tmp_path: Path) -> None:
    model = Marking()
    fitted = trainer(tmp_path, max_epochs=1, limit_train_batches=limit)
    fitted.fit(model, loader(5))

    assert model.line == expected
    if expected:
        assert fitted.num_training_batches == len(expected.split())


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (1, "v0"),
        (2, "v0 v1"),
        (99, "v0 v1 v2 v3"),
        (1.0, "v0 v1 v2 v3"),
        (0.5, "v0 v1"),
        (0.3, "v0"),
        (0, ""),
        (0.0, ""),
    ],
)
def test_limit_val_batches_counts_batches_or_takes_a_share(limit: int | float, expected: str, tmp_path: Path) -> None:
    model = Validated()
    fitted = trainer(tmp_path, max_epochs=2, limit_train_batches=1, limit_val_batches=limit)
    fitted.fit(model, loader(5), loader(4))

    assert model.line == " ".join(f"t0 {expected}".split() * 2)
    if expected:
        assert fitted.num_val_batches == [len(expected.split())]


def test_test_and_predict_batches_have_limits_of_their_own(tmp_path: Path) -> None:
    model = Validated()
    limited = trainer(tmp_path, limit_val_batches=1, limit_test_batches=0.5, limit_predict_batches=3)

    limited.validate(model, loader(4), verbose=False)
    assert limited.num_val_batches == [1]
    limited.test(model, loader(4), verbose=False)
    assert limited.num_test_batches == [2]
    predictions = limited.predict(model, loader(4))
    assert limited.num_predict_batches == [3]

    assert model.line == "v0 e0 e1 p0 p1 p2"
    assert predictions == [0, 1, 2]


@pytest.mark.parametrize("name", ["train", "val", "test", "predict"])
@pytest.mark.parametrize("limit", [-1, 1.5, -0.5, "half"])
def test_a_limit_outside_its_range_is_refused(name: str, limit: Any, tmp_path: Path) -> None:
    with pytest.raises((MisconfigurationError, TypeError), match=f"limit_{name}_batches"):
        trainer(tmp_path, **{f"limit_{name}_batches": limit})


def test_a_share_of_less_than_one_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)limit_train_batches.*0.1.*5"):
        trainer(tmp_path, max_epochs=1, limit_train_batches=0.1).fit(Marking(), loader(5))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"max_epochs": 2}, "t0 t1 t2 t3 t4 v0 v1 t0 t1 t2 t3 t4 v0 v1"),
        ({"max_epochs": 1, "val_check_interval": 2}, "t0 t1 v0 v1 t2 t3 v0 v1 t4"),
        ({"max_epochs": 1, "val_check_interval": 5}, "t0 t1 t2 t3 t4 v0 v1"),
        ({"max_epochs": 1, "val_check_interval": 1}, "t0 v0 v1 t1 v0 v1 t2 v0 v1 t3 v0 v1 t4 v0 v1"),
        ({"max_epochs": 1, "val_check_interval": 1.0}, "t0 t1 t2 t3 t4 v0 v1"),
        ({"max_epochs": 1, "val_check_interval": 0.4}, "t0 t1 v0 v1 t2 t3 v0 v1 t4"),
        ({"max_epochs": 1, "val_check_interval": 0.5}, "t0 t1 v0 v1 t2 t3 v0 v1 t4"),
        ({"max_epochs": 1, "val_check_interval": 0.01}, "t0 v0 v1 t1 v0 v1 t2 v0 v1 t3 v0 v1 t4 v0 v1"),
        ({"max_epochs": 1, "limit_train_batches": 4, "val_check_interval": 0.5}, "t0 t1 v0 v1 t2 t3 v0 v1"),
        ({"max_epochs": 5, "limit_train_batches": 1, "check_val_every_n_epoch": 2}, "t0 t0 v0 v1 t0 t0 v0 v1 t0"),
        (
            {"max_epochs": 2, "limit_train_batches": 4, "check_val_every_n_epoch": 2, "val_check_interval": 2},
            "t0 t1 t2 t3 t0 t1 v0 v1 t2 t3 v0 v1",
        ),
        (
            {"max_epochs": 2, "check_val_every_n_epoch": None, "val_check_interval": 3},
            "t0 t1 t2 v0 v1 t3 t4 t0 v0 v1 t1 t2 t3 v0 v1 t4",
        ),
        (
            {"max_epochs": 2, "check_val_every_n_epoch": None, "val_check_interval": 7},
            "t0 t1 t2 t3 t4 t0 t1 v0 v1 t2 t3 t4",
        ),
        (
            {"max_epochs": 1, "accumulate_grad_batches": 2, "val_check_interval": 3},
            "t0 t1 t2 v0 v1 t3 t4",
        ),
        ({"max_steps": 7}, "t0 t1 t2 t3 t4 v0 v1 t0 t1"),
        ({"max_steps": 5}, "t0 t1 t2 t3 t4 v0 v1"),
        ({"max_steps": 4, "val_check_interval": 2}, "t0 t1 v0 v1 t2 t3 v0 v1"),
    ],
)
def test_validation_runs_when_it_is_due(arguments: dict[str, Any], expected: str, tmp_path: Path) -> None:
    model = Validated()
    trainer(tmp_path, **arguments).fit(model, loader(5), loader(2))

    assert model.line == expected


def test_an_interval_of_more_batches_than_an_epoch_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"(?s)val_check_interval.*6.*5.*check_val_every_n_epoch"):
        trainer(tmp_path, max_epochs=1, val_check_interval=6).fit(Validated(), loader(5), loader(2))


def test_a_share_as_interval_needs_the_length_of_an_epoch(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)check_val_every_n_epoch"):
        trainer(tmp_path, check_val_every_n_epoch=None, val_check_interval=0.5)
    with pytest.raises(MisconfigurationError, match=r"(?s)val_check_interval.*0.5"):
        trainer(tmp_path, max_epochs=1, val_check_interval=0.5).fit(Validated(), stream(5), loader(2))


@pytest.mark.parametrize("steps", [1, 2])
def test_the_sanity_check_runs_its_batches_once_before_training(steps: int, tmp_path: Path) -> None:
    model = Validated()
    checked = trainer(tmp_path, max_epochs=2, limit_train_batches=1, num_sanity_val_steps=steps)
    checked.fit(model, loader(5), loader(3))

    sanity = " ".join(f"s{index}" for index in range(steps))
    assert model.line == f"{sanity} t0 v0 v1 v2 t0 v0 v1 v2"
    assert checked.num_sanity_val_batches == [steps]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"num_sanity_val_steps": 0}, "t0 v0 v1 v2"),
        ({"num_sanity_val_steps": -1}, "s0 s1 s2 t0 v0 v1 v2"),
        ({"num_sanity_val_steps": 99}, "s0 s1 s2 t0 v0 v1 v2"),
        ({"num_sanity_val_steps": 2, "limit_val_batches": 1}, "s0 t0 v0"),
        ({"num_sanity_val_steps": -1, "limit_val_batches": 2}, "s0 s1 t0 v0 v1"),
        ({"num_sanity_val_steps": 2, "limit_val_batches": 0}, "t0"),
    ],
)
def test_the_sanity_check_never_runs_more_than_validation(
    arguments: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    model = Validated()
    trainer(tmp_path, max_epochs=1, limit_train_batches=1, **arguments).fit(model, loader(5), loader(3))

    assert model.line == expected


def test_the_sanity_check_is_two_batches_by_default(tmp_path: Path) -> None:
    model = Validated()
    Trainer(
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        registered_callbacks=False,
        max_epochs=1,
    ).fit(model, loader(1), loader(3))

    assert model.line == "s0 s1 t0 v0 v1 v2"


class TwoLoaders(Marking):
    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        self.mark("s" if self.trainer.sanity_checking else "v", batch_idx, dataloader_idx)


def test_several_validation_loaders_run_one_after_the_other(tmp_path: Path) -> None:
    model = TwoLoaders()
    fitted = trainer(tmp_path, max_epochs=1, num_sanity_val_steps=1)
    fitted.fit(model, loader(1), [loader(2), loader(3)])

    assert model.line == "s0.0 s1.0 t0 v0.0 v0.1 v1.0 v1.1 v1.2"
    assert fitted.num_val_batches == [2, 3]
    assert fitted.num_sanity_val_batches == [1, 1]


def test_without_validation_data_or_a_validation_step_only_training_runs(tmp_path: Path) -> None:
    without_data = Validated()
    trainer(tmp_path, max_epochs=1, num_sanity_val_steps=2).fit(without_data, loader(2))
    without_step = Marking()
    trainer(tmp_path, max_epochs=1, num_sanity_val_steps=2).fit(without_step, loader(2), loader(2))

    assert without_data.line == "t0 t1"
    assert without_step.line == "t0 t1"


@pytest.mark.parametrize(("value", "batches"), [(True, 1), (1, 1), (3, 3)])
def test_fast_dev_run_runs_a_few_batches_of_everything_once(value: int | bool, batches: int, tmp_path: Path) -> None:
    model = Validated()
    quick = trainer(
        tmp_path,
        max_epochs=7,
        num_sanity_val_steps=2,
        fast_dev_run=value,
        check_val_every_n_epoch=3,
        limit_val_batches=2,
    )
    quick.fit(model, loader(5), loader(4))

    marks = [*(f"t{i}" for i in range(batches)), *(f"v{i}" for i in range(batches))]
    assert model.marks == marks
    assert quick.global_step == batches
    model.marks.clear()

    quick.test(model, loader(5), verbose=False)
    quick.predict(model, loader(5))
    assert model.marks == [*(f"e{i}" for i in range(batches)), *(f"p{i}" for i in range(batches))]


def test_fast_dev_run_off_changes_nothing(tmp_path: Path) -> None:
    model = Validated()
    trainer(tmp_path, max_epochs=1, fast_dev_run=False).fit(model, loader(2), loader(2))

    assert model.line == "t0 t1 v0 v1"


def test_fast_dev_run_refuses_a_negative_number(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"fast_dev_run.*-1"):
        trainer(tmp_path, fast_dev_run=-1)


class StopAt(Callback):
    """Asks to stop at the end of one batch of one epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.when = (epoch, batch)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == self.when:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("arguments", "epoch", "batch", "expected"),
    [
        ({}, 0, 1, "t0 t1"),
        ({}, 1, 0, "t0 t1 t2 t3 t4 t0"),
        ({}, 0, 4, "t0 t1 t2 t3 t4"),
        ({"min_epochs": 2}, 0, 1, "t0 t1 t2 t3 t4 t0 t1 t2 t3 t4"),
        ({"min_epochs": 1}, 0, 1, "t0 t1 t2 t3 t4"),
        ({"min_epochs": 1}, 1, 2, "t0 t1 t2 t3 t4 t0 t1 t2"),
        ({"min_steps": 7}, 0, 1, "t0 t1 t2 t3 t4 t0 t1"),
        ({"min_steps": 7, "min_epochs": 1}, 0, 1, "t0 t1 t2 t3 t4 t0 t1"),
        ({"min_steps": 3, "min_epochs": 2}, 0, 1, "t0 t1 t2 t3 t4 t0 t1 t2 t3 t4"),
        ({"min_steps": 6, "accumulate_grad_batches": 2}, 0, 1, "t0 t1 t2 t3 t4 t0 t1 t2 t3 t4"),
    ],
)
def test_a_request_to_stop_is_honoured_once_the_minima_are_reached(
    arguments: dict[str, Any], epoch: int, batch: int, expected: str, tmp_path: Path
) -> None:
    model = Marking()
    stopped = trainer(tmp_path, max_epochs=4, callbacks=[StopAt(epoch, batch)], **arguments)
    stopped.fit(model, loader(5))

    assert model.line == expected
    assert stopped.global_step == (len(expected.split()) if "accumulate_grad_batches" not in arguments else 6)


def test_an_epoch_that_is_stopped_inside_is_validated_and_ended(tmp_path: Path) -> None:
    class Ending(Validated):
        def on_train_epoch_end(self) -> None:
            self.marks.append("end")

    model = Ending()
    trainer(tmp_path, max_epochs=4, callbacks=[StopAt(0, 1)]).fit(model, loader(5), loader(2))

    assert model.line == "t0 t1 v0 v1 end"


def test_a_stop_asked_for_in_validation_ends_training_there(tmp_path: Path) -> None:
    class Stopping(Validated):
        def on_validation_end(self) -> None:
            self.trainer.should_stop = True

    model = Stopping()
    trainer(tmp_path, max_epochs=4, val_check_interval=2).fit(model, loader(5), loader(1))

    assert model.line == "t0 t1 v0"


def test_minus_one_from_on_train_batch_start_ends_the_epoch_there(tmp_path: Path) -> None:
    class Leaving(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.rates: list[float] = []

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
            return -1 if batch_idx == 2 else None

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.marks.append(f"b{batch_idx}")

        def on_train_epoch_end(self) -> None:
            self.marks.append("end")

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)]

    model = Leaving()
    left = trainer(tmp_path, max_epochs=2)
    left.fit(model, loader(5), loader(1))

    assert model.line == "t0 b0 t1 b1 end t0 b0 t1 b1 end"
    assert model.rates == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5]
    assert left.global_step == 4


@pytest.mark.parametrize(
    ("arguments", "expected", "steps"),
    [
        ({"max_epochs": 2}, "t0 t1 t2 t3 t4 v0 t0 t1 t2 t3 t4 v0", 10),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, "t0 t1 t2 t3 t4 v0 t0 t1 t2 t3 t4 v0", 6),
        ({"max_epochs": 1, "limit_train_batches": 3}, "t0 t1 t2 v0", 3),
        ({"max_epochs": 1, "limit_train_batches": 9}, "t0 t1 t2 t3 t4 v0", 5),
        ({"max_epochs": 1, "val_check_interval": 2}, "t0 t1 v0 t2 t3 v0 t4", 5),
        ({"max_steps": 7}, "t0 t1 t2 t3 t4 v0 t0 t1", 7),
    ],
)
def test_a_stream_without_a_length_runs_to_its_end(
    arguments: dict[str, Any], expected: str, steps: int, tmp_path: Path
) -> None:
    model = Validated()
    fitted = trainer(tmp_path, **arguments)
    fitted.fit(model, stream(5), stream(1))

    assert model.line == expected
    assert fitted.global_step == steps


def test_a_share_of_a_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)limit_train_batches.*0.5"):
        trainer(tmp_path, max_epochs=1, limit_train_batches=0.5).fit(Marking(), stream(5))


@pytest.mark.parametrize("make", [loader, stream])
@pytest.mark.parametrize(("arguments", "expected"), [({}, [0, 0, 0, 0, 1]), ({"limit_train_batches": 3}, [0, 0, 1])])
def test_the_last_batch_of_an_epoch_is_known_during_that_batch(
    make: Any, arguments: dict[str, Any], expected: list[int], tmp_path: Path
) -> None:
    class Last(Callback):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(int(trainer.is_last_batch))

    last = Last()
    trainer(tmp_path, max_epochs=2, callbacks=[last], **arguments).fit(Marking(), make(5))

    assert last.seen == expected * 2


@pytest.mark.parametrize(
    ("arguments", "batches", "expected"),
    [
        ({"max_epochs": 3}, 5, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 5, 9),
        ({"max_epochs": 3, "max_steps": 4}, 5, 4),
        ({"max_steps": 40}, 5, 40),
        ({"max_epochs": 3, "limit_train_batches": 2}, 5, 6),
    ],
)
def test_the_number_of_optimizer_steps_is_known_before_training(
    arguments: dict[str, Any], batches: int, expected: int, tmp_path: Path
) -> None:
    class Asking(Marking):
        estimate: int | float = 0

        def configure_optimizers(self) -> Any:
            self.estimate = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    model = Asking()
    fitted = trainer(tmp_path, **arguments)
    fitted.fit(model, loader(batches))

    assert model.estimate == expected
    assert fitted.global_step == expected


def test_global_step_counts_optimizer_steps_at_every_batch_end(tmp_path: Path) -> None:
    class Steps(Callback):
        def __init__(self) -> None:
            self.seen: list[int] = []

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.seen.append(trainer.global_step)

    steps = Steps()
    trainer(tmp_path, max_epochs=2, accumulate_grad_batches=2, callbacks=[steps]).fit(Marking(), loader(5))

    assert steps.seen == [0, 1, 1, 2, 3, 3, 4, 4, 5, 6]


def test_a_second_fit_without_a_higher_limit_trains_nothing_and_says_why(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    model = Validated()
    fitted = trainer(tmp_path, max_epochs=2)
    fitted.fit(model, loader(2), loader(1))
    assert model.line == "t0 t1 v0 t0 t1 v0"
    weight = model.weight.item()
    capfd.readouterr()
    caplog.clear()

    with warnings.catch_warnings(record=True) as warned, caplog.at_level("INFO"):
        warnings.simplefilter("always")
        fitted.fit(model, loader(2), loader(1))

    assert model.line == "t0 t1 v0 t0 t1 v0"
    assert model.weight.item() == weight
    assert (fitted.current_epoch, fitted.global_step) == (2, 4)
    said = "\n".join([*capfd.readouterr(), caplog.text, *(str(warning.message) for warning in warned)])
    assert "max_epochs=2 is reached" in said


def test_a_second_fit_with_a_higher_limit_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    class Epochs(Validated):
        def on_train_epoch_start(self) -> None:
            self.marks.append(f"epoch {self.current_epoch}")

    model = Epochs()
    fitted = trainer(tmp_path, max_epochs=2)
    fitted.fit(model, loader(2), loader(1))
    fitted.max_epochs = 3
    fitted.fit(model, loader(2), loader(1))

    assert model.line == "epoch 0 t0 t1 v0 epoch 1 t0 t1 v0 epoch 2 t0 t1 v0"
    assert (fitted.current_epoch, fitted.global_step) == (3, 6)
    # Six steps with a gradient and a rate of one.
    assert model.weight.item() == -6.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_epochs": -2}, "max_epochs.*-2"),
        ({"max_steps": -2}, "max_steps.*-2"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches.*0"),
        ({"accumulate_grad_batches": 1.5}, "accumulate_grad_batches.*1.5"),
        ({"num_sanity_val_steps": -2}, "num_sanity_val_steps.*-2"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch.*0"),
        ({"check_val_every_n_epoch": 1.5}, "check_val_every_n_epoch.*1.5"),
        ({"val_check_interval": -1}, "val_check_interval.*-1"),
        ({"val_check_interval": 1.5}, "val_check_interval.*1.5"),
        ({"log_every_n_steps": -1}, "log_every_n_steps.*-1"),
        ({"gradient_clip_algorithm": "median"}, "(?s)gradient_clip_algorithm.*median.*norm"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused_at_construction(
    arguments: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(MisconfigurationError, match=f"(?s){message}"):
        trainer(tmp_path, **arguments)


def test_a_clip_value_that_is_no_number_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"gradient_clip_val.*tight"):
        trainer(tmp_path, gradient_clip_val="tight")


def test_an_iterator_that_is_used_up_ends_training_with_an_error_that_says_so(tmp_path: Path) -> None:
    module = Marking()

    with pytest.raises(MisconfigurationError, match=r"gave no batch in epoch 1.*can be gone through once"):
        trainer(tmp_path, max_epochs=3).fit(module, iter([torch.zeros(1), torch.zeros(1)]))

    assert module.line == "t0 t1"


def test_an_endless_fit_on_an_empty_stream_is_an_error_and_no_endless_loop(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match="gave no batch in epoch 0"):
        trainer(tmp_path, max_epochs=-1, max_steps=5).fit(Marking(), stream(0))


def test_an_empty_loader_trains_nothing_and_says_so(tmp_path: Path) -> None:
    module = Marking()

    with pytest.warns(UserWarning, match="training dataloader has no batch"):
        trainer(tmp_path).fit(module, loader(0))

    assert module.line == ""
