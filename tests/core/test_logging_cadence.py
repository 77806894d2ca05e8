"""What loggers are given: which values, when, under which step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.loggers import Logger


class RecordingLogger(Logger):
    """Keeps what it is given, in the order in which it is given."""

    def __init__(self, name: str = "recording") -> None:
        super().__init__()
        self.title = name
        self.rows: list[tuple[int | None, dict[str, float]]] = []
        self.params: list[Any] = []
        self.saves = 0
        self.finals: list[str] = []

    @property
    def name(self) -> str:
        return self.title

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.params.append(params)

    def save(self) -> None:
        self.saves += 1

    def finalize(self, status: str) -> None:
        self.finals.append(status)

    def rows_with(self, *names: str) -> list[tuple[int | None, dict[str, float]]]:
        """The rows that hold one of `names`."""
        return [(step, metrics) for step, metrics in self.rows if any(name in metrics for name in names)]


def loader(batches: int = 5) -> DataLoader[Any]:
    """Batch i holds the one value i."""
    return DataLoader(TensorDataset(torch.arange(float(batches))), batch_size=1)


class Base(LightningModule):
    """Logs nothing itself. `value` of a batch is its index plus 100 times the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def value(self, batch: Any) -> Any:
        return batch[0].mean() + 100 * self.current_epoch

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.weight * 1.0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class Stepping(Base):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.log("loss", self.value(batch))
        return super().training_step(batch, batch_idx)


def trainer(root: Path, logger: Any, **arguments: Any) -> Trainer:
    chosen: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": logger,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 1,
    }
    return Trainer(**(chosen | arguments))


def test_values_of_steps_reach_the_logger_at_every_nth_step(tmp_path: Path) -> None:
    logger = RecordingLogger()
    trainer(tmp_path, logger, max_epochs=2, log_every_n_steps=2).fit(Stepping(), loader())

    # Ten steps, 0 to 9; step 5 is the first of the second epoch.
    assert logger.rows_with("loss") == [
        (1, {"loss": 1.0, "epoch": 0}),
        (3, {"loss": 3.0, "epoch": 0}),
        (5, {"loss": 100.0, "epoch": 1}),
        (7, {"loss": 102.0, "epoch": 1}),
        (9, {"loss": 104.0, "epoch": 1}),
    ]


def test_loggers_are_given_plain_numbers(tmp_path: Path) -> None:
    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=1).fit(Stepping(), loader())

    assert {type(metrics["loss"]) for _, metrics in logger.rows_with("loss")} == {float}
    assert {type(step) for step, _ in logger.rows} == {int}
    assert not any(isinstance(metrics["epoch"], torch.Tensor) for _, metrics in logger.rows)


@pytest.mark.parametrize(("arguments", "steps"), [({}, [49]), ({"log_every_n_steps": 50}, [49])])
def test_the_interval_is_fifty_steps_unless_told_otherwise(
    arguments: dict[str, Any], steps: list[int], tmp_path: Path
) -> None:
    logger = RecordingLogger()
    trainer(tmp_path, logger, **arguments).fit(Stepping(), loader(99))

    assert [step for step, _ in logger.rows_with("loss")] == steps


def test_an_interval_longer_than_the_run_logs_no_step(tmp_path: Path) -> None:
    logger = RecordingLogger()
    fitted = trainer(tmp_path, logger, max_epochs=2, log_every_n_steps=11)
    fitted.fit(Stepping(), loader())

    assert logger.rows_with("loss") == []
    assert fitted.callback_metrics["loss"].item() == 104.0


def test_an_interval_of_zero_logs_epochs_alone(tmp_path: Path) -> None:
    class Forking(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", self.value(batch), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=0).fit(Forking(), loader())

    assert logger.rows_with("loss_step", "loss_epoch") == [(4, {"loss_epoch": 2.0, "epoch": 0})]


def test_steps_are_optimizer_steps_and_nothing_is_logged_inside_a_window(tmp_path: Path) -> None:
    logger = RecordingLogger()
    trainer(tmp_path, logger, max_epochs=2, accumulate_grad_batches=2, log_every_n_steps=1).fit(Stepping(), loader())

    assert logger.rows_with("loss") == [
        (0, {"loss": 1.0, "epoch": 0}),
        (1, {"loss": 3.0, "epoch": 0}),
        (2, {"loss": 4.0, "epoch": 0}),
        (3, {"loss": 101.0, "epoch": 1}),
        (4, {"loss": 103.0, "epoch": 1}),
        (5, {"loss": 104.0, "epoch": 1}),
    ]


def test_values_of_an_epoch_are_logged_at_its_last_step(tmp_path: Path) -> None:
    class Epochs(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("loss", self.value(batch), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

        def on_train_epoch_end(self) -> None:
            self.log("end", 1.0 + self.current_epoch)

    logger = RecordingLogger()
    trainer(tmp_path, logger, max_epochs=2, log_every_n_steps=3).fit(Epochs(), loader())

    assert logger.rows_with("loss_step") == [
        (2, {"loss_step": 2.0, "epoch": 0}),
        (5, {"loss_step": 100.0, "epoch": 1}),
        (8, {"loss_step": 103.0, "epoch": 1}),
    ]
    assert logger.rows_with("loss_epoch", "end") == [
        (4, {"loss_epoch": 2.0, "end": 1.0, "epoch": 0}),
        (9, {"loss_epoch": 102.0, "end": 2.0, "epoch": 1}),
    ]


def test_values_of_a_validation_are_logged_at_the_step_that_came_before_it(tmp_path: Path) -> None:
    class Validated(Base):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val", batch[0].mean() + self.global_step)

    logger = RecordingLogger()
    trainer(tmp_path, logger, max_epochs=2, val_check_interval=2, num_sanity_val_steps=2).fit(
        Validated(), loader(4), loader(3)
    )

    # The mean of the indices is one; two, four, six and eight steps were made before.
    assert logger.rows_with("val") == [
        (1, {"val": 3.0, "epoch": 0}),
        (3, {"val": 5.0, "epoch": 0}),
        (5, {"val": 7.0, "epoch": 1}),
        (7, {"val": 9.0, "epoch": 1}),
    ]


def test_values_of_single_validation_steps_reach_the_logger_under_their_forked_name(tmp_path: Path) -> None:
    class Validated(Base):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val", batch[0].mean() + 10.0, on_step=True, on_epoch=True)

    logger = RecordingLogger()
    trainer(tmp_path, logger, num_sanity_val_steps=2, log_every_n_steps=1).fit(Validated(), loader(4), loader(3))

    assert [(step, metrics["val_step"]) for step, metrics in logger.rows_with("val_step")] == [
        (0, 10.0),
        (1, 11.0),
        (2, 12.0),
    ]
    assert logger.rows_with("val_epoch") == [(3, {"val_epoch": 11.0, "epoch": 0})]
    assert logger.rows_with("val") == []


def test_the_sanity_check_logs_nothing(tmp_path: Path) -> None:
    class Sane(Base):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.sanity_checking:
                self.log("sanity", 1.0, on_step=True, on_epoch=True)

    logger = RecordingLogger()
    trainer(tmp_path, logger, num_sanity_val_steps=2, log_every_n_steps=1).fit(Sane(), loader(), loader())

    assert logger.rows_with("sanity", "sanity_step", "sanity_epoch") == []


def test_a_logged_step_takes_the_place_of_the_step(tmp_path: Path) -> None:
    class Placing(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"loss": self.value(batch), "step": 1000.0 + batch_idx})
            return super().training_step(batch, batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"val": batch[0].mean(), "step": float(self.current_epoch)})

    logger = RecordingLogger()
    trainer(tmp_path, logger, max_epochs=2, log_every_n_steps=2).fit(Placing(), loader(4), loader(3))

    assert [(step, metrics["loss"]) for step, metrics in logger.rows_with("loss")] == [
        (1001, 1.0),
        (1003, 3.0),
        (1001, 101.0),
        (1003, 103.0),
    ]
    assert [(step, metrics["val"]) for step, metrics in logger.rows_with("val")] == [(0, 1.0), (1, 1.0)]
    assert logger.rows_with("step") == []


def test_an_epoch_that_the_user_logs_is_kept(tmp_path: Path) -> None:
    class Own(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log_dict({"loss": self.value(batch), "epoch": batch_idx / 4})
            return super().training_step(batch, batch_idx)

    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=2).fit(Own(), loader(4))

    assert logger.rows_with("loss") == [(1, {"loss": 1.0, "epoch": 0.25}), (3, {"loss": 3.0, "epoch": 0.75})]


def test_values_that_are_not_meant_for_the_logger_do_not_reach_it(tmp_path: Path) -> None:
    class Hidden(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("shown", self.value(batch))
            self.log("hidden", self.value(batch), logger=False, on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=1).fit(Hidden(), loader(2))

    assert logger.rows == [(0, {"shown": 0.0, "epoch": 0}), (1, {"shown": 1.0, "epoch": 0})]


def test_all_values_of_a_step_are_one_row(tmp_path: Path) -> None:
    class Several(Base):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("a", self.value(batch))
            self.log("b", 2 * self.value(batch))
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.log("c", 3.0)

    class Also(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("d", 4.0 + batch_idx)

    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=2, callbacks=[Also()]).fit(Several(), loader(4))

    assert logger.rows == [
        (1, {"a": 1.0, "b": 2.0, "c": 3.0, "d": 5.0, "epoch": 0}),
        (3, {"a": 3.0, "b": 6.0, "c": 3.0, "d": 7.0, "epoch": 0}),
    ]


def test_every_logger_is_given_the_same(tmp_path: Path) -> None:
    first, second = RecordingLogger("first"), RecordingLogger("second")
    fitted = trainer(tmp_path, [first, second], log_every_n_steps=2)
    fitted.fit(Stepping(), loader())

    assert first.rows == second.rows
    assert [step for step, _ in first.rows_with("loss")] == [1, 3]
    assert fitted.loggers == [first, second]
    assert fitted.logger is first
    assert (first.finals, second.finals) == (["success"], ["success"])


def test_the_module_reaches_the_loggers(tmp_path: Path) -> None:
    class Reaching(Base):
        found: Any = None

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.found = (self.logger, self.loggers)
            return super().training_step(batch, batch_idx)

    logger, model = RecordingLogger(), Reaching()
    trainer(tmp_path, logger).fit(model, loader(1))

    assert model.found == (logger, [logger])


def test_test_and_validate_log_one_row_for_all_loaders(tmp_path: Path) -> None:
    class Tested(Base):
        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
            self.log("score", batch[0].mean())

    logger = RecordingLogger()
    trainer(tmp_path, logger).test(Tested(), [loader(3), loader(5)], verbose=False)

    assert logger.rows_with("score/dataloader_idx_0", "score/dataloader_idx_1") == [
        (0, {"score/dataloader_idx_0": 1.0, "score/dataloader_idx_1": 2.0, "epoch": 0})
    ]
    assert logger.finals == ["success"]


def test_validation_by_hand_after_training_is_logged_at_the_number_of_steps_made(tmp_path: Path) -> None:
    class Validated(Base):
        def validation_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("val", batch[0].mean())

    logger, model = RecordingLogger(), Validated()
    fitted = trainer(tmp_path, logger, max_epochs=2, limit_val_batches=3)
    fitted.fit(model, loader(5))
    fitted.validate(model, loader(3), verbose=False)

    assert logger.rows_with("val") == [(10, {"val": 1.0, "epoch": 2})]


def test_without_a_logger_everything_else_works(tmp_path: Path) -> None:
    fitted = trainer(tmp_path, False, log_every_n_steps=1)
    fitted.fit(Stepping(), loader())

    assert fitted.logger is None
    assert fitted.loggers == []
    assert fitted.callback_metrics["loss"].item() == 4.0
    assert fitted.logged_metrics["loss"].item() == 4.0
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_fast_dev_run_gives_loggers_nothing(tmp_path: Path) -> None:
    logger = RecordingLogger()
    fitted = trainer(tmp_path, logger, fast_dev_run=3, log_every_n_steps=1)
    fitted.fit(Stepping(), loader())

    assert fitted.callback_metrics["loss"].item() == 2.0
    assert logger.rows == []


def test_loggers_are_finalized_as_failed_when_training_raises(tmp_path: Path) -> None:
    class Failing(Stepping):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 3:
                raise ArithmeticError("planted")
            return super().training_step(batch, batch_idx)

    logger = RecordingLogger()
    with pytest.raises(ArithmeticError, match="planted"):
        trainer(tmp_path, logger, log_every_n_steps=1).fit(Failing(), loader())

    assert logger.finals == ["failed"]
    assert [step for step, _ in logger.rows_with("loss")] == [0, 1, 2]


def test_metrics_logged_straight_to_a_logger_get_there_unchanged(tmp_path: Path) -> None:
    class Straight(Base):
        def on_train_end(self) -> None:
            for logger in self.loggers:
                logger.log_metrics({"straight": 1.5}, step=77)

    logger = RecordingLogger()
    trainer(tmp_path, logger).fit(Straight(), loader())

    assert logger.rows_with("straight") == [(77, {"straight": 1.5})]


def test_a_tensor_metric_is_logged_with_the_value_of_its_own_step(tmp_path: Path) -> None:
    class Counting(Base):
        """Logs the same tensor again and again, and changes it in place."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(()))

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.get_buffer("count").add_(1)
            self.log("count", self.get_buffer("count"))
            return super().training_step(batch, batch_idx)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.get_buffer("count").add_(10)

    logger = RecordingLogger()
    trainer(tmp_path, logger, log_every_n_steps=2).fit(Counting(), loader(4))

    assert logger.rows_with("count") == [(1, {"count": 12.0, "epoch": 0}), (3, {"count": 34.0, "epoch": 0})]
