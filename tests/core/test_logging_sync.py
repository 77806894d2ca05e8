"""Nothing waits for the device outside the logging interval.

On a CPU nothing has to wait, so these tests count what would wait on a GPU: every call that hands a tensor's value to
Python, or asks for a copy of it on the host. (`to` is not counted: on a CPU it is how a batch gets to its device.)
Whoever asks a tensor where it is hears, as on a GPU, that it is not on the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.loggers import Logger

READS = {
    "item",
    "tolist",
    "numpy",
    "__array__",
    "__float__",
    "__int__",
    "__index__",
    "__bool__",
    "__complex__",
    "__format__",
    "__repr__",
    "cpu",
    "nonzero",
    "is_nonzero",
    "equal",
    "allclose",
}


ON_THE_CPU = Tensor.is_cpu.__get__  # type: ignore[attr-defined]


class Counter:
    """Counts reads of values, by the moment of the run in which they happen."""

    def __init__(self) -> None:
        self.moment = "before"
        self.reads: list[tuple[str, str]] = []
        self.scalars: list[str] = []

    def during(self, prefix: str) -> list[tuple[str, str]]:
        return [(moment, name) for moment, name in self.reads if moment.startswith(prefix)]


class Functions(TorchFunctionMode):
    """Sees what Python asks of tensors."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()
        self.counter = counter

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == ON_THE_CPU:
            return False
        name = getattr(func, "__name__", "")
        if name in READS:
            self.counter.reads.append((self.counter.moment, name))
        return func(*args, **(kwargs or {}))


class Operators(TorchDispatchMode):
    """Sees the operator that every read of one value ends in, whoever asked for it."""

    def __init__(self, counter: Counter) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counter = counter

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            self.counter.scalars.append(self.counter.moment)
        return func(*args, **(kwargs or {}))


@contextmanager
def counting(counter: Counter) -> Iterator[None]:
    with Operators(counter), Functions(counter):
        yield


class Moments(Callback):
    """Tells the counter which batch is running. A batch lasts until the next one begins, or the epoch ends."""

    def __init__(self, counter: Counter) -> None:
        self.counter = counter

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.counter.moment = f"train {trainer.current_epoch}.{batch_idx}"

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.counter.moment = "epoch end"

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        self.counter.moment = "validation start"

    def on_validation_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.counter.moment = f"validation {batch_idx}"

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.counter.moment = "validation end"


class CountingLogger(Logger):
    """Keeps the steps at which it was given something."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int | None] = []

    @property
    def name(self) -> str:
        return "counting"

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.steps.append(step)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """There are none here."""


class Talkative(LightningModule):
    """Logs tensors in every way in every step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch[0]).square().mean()
        self.log("loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("low", loss.detach(), reduce_fx="min", on_step=False, on_epoch=True)
        self.log_dict({"a": loss, "b": loss * 2}, prog_bar=True)
        self.log("number", 1.5)
        self.log("count", batch_idx)
        return loss

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        gradient = self.layer.weight.grad
        assert gradient is not None
        self.log("gradient", gradient.norm(), on_step=True, on_epoch=True, reduce_fx="max")

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss = self.layer(batch[0]).square().mean()
        self.log("val_loss", loss, prog_bar=True)
        self.log("val_high", loss, reduce_fx="max")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches: int) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(4 * batches, 2)), batch_size=4)


def fit(counter: Counter, root: Path, **arguments: Any) -> tuple[Trainer, CountingLogger]:
    logger = CountingLogger()
    chosen: dict[str, Any] = {
        "default_root_dir": root,
        "accelerator": "cpu",
        "logger": logger,
        "callbacks": [Moments(counter)],
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "registered_callbacks": False,
        "num_sanity_val_steps": 0,
        "max_epochs": 2,
        "gradient_clip_val": 1.0,
    }
    fitted = Trainer(**(chosen | arguments))
    torch.manual_seed(0)
    model = Talkative()
    with counting(counter):
        fitted.fit(model, loader(10), loader(4))
    return fitted, logger


def test_the_counter_sees_every_way_to_read_a_value() -> None:
    counter = Counter()
    tensor = torch.tensor(1.5)
    with counting(counter):
        tensor.item()
        float(tensor)
        int(tensor)
        bool(tensor)
        tensor.tolist()
        tensor.numpy()
        tensor.cpu()

    assert [name for _, name in counter.reads] == ["item", "__float__", "__int__", "__bool__", "tolist", "numpy", "cpu"]
    assert len(counter.scalars) >= 4


def test_steps_outside_the_logging_interval_read_nothing(tmp_path: Path) -> None:
    counter = Counter()
    fitted, logger = fit(counter, tmp_path, log_every_n_steps=5)

    assert fitted.global_step == 20
    # The last step of an epoch is followed by validation and the end of the epoch, which have rows of their own.
    assert [step for step in logger.steps if step is not None] == [4, 9, 9, 9, 14, 19, 19, 19]
    allowed = {"train 0.4", "train 0.9", "train 1.4", "train 1.9"}
    read = [(moment, name) for moment, name in counter.during("train") if moment not in allowed]
    assert read == []
    assert [moment for moment in counter.scalars if moment.startswith("train") and moment not in allowed] == []


def test_a_logging_step_reads_all_values_at_once(tmp_path: Path) -> None:
    counter = Counter()
    fit(counter, tmp_path, log_every_n_steps=5, limit_val_batches=0, max_epochs=1)

    for moment in ("train 0.4", "train 0.9"):
        names = [name for when, name in counter.reads if when == moment]
        assert len([name for name in names if name != "cpu"]) == 1, f"{names} in {moment}"
        assert names.count("cpu") <= 1, f"{names} in {moment}"


def test_validation_batches_read_nothing(tmp_path: Path) -> None:
    counter = Counter()
    fit(counter, tmp_path, log_every_n_steps=5)

    batches = {f"validation {index}" for index in range(4)}
    assert [(moment, name) for moment, name in counter.reads if moment in batches] == []
    assert [moment for moment in counter.scalars if moment in batches] == []


def test_without_a_logger_no_step_reads_anything(tmp_path: Path) -> None:
    counter = Counter()
    fitted, _ = fit(counter, tmp_path, logger=False, log_every_n_steps=1)

    assert counter.during("train") == []
    assert set(fitted.callback_metrics) >= {"loss", "loss_step", "loss_epoch", "a", "b", "low", "val_loss"}


def test_reading_the_metrics_that_callbacks_see_reads_no_value(tmp_path: Path) -> None:
    class Reading(Callback):
        def __init__(self) -> None:
            self.names: set[str] = set()

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.names |= set(trainer.callback_metrics)

    counter, reading = Counter(), Reading()
    fit(counter, tmp_path, log_every_n_steps=100, callbacks=[Moments(counter), reading])

    assert reading.names >= {"loss", "loss_step", "a", "b", "number", "gradient"}
    assert counter.during("train") == []


def test_accumulating_batches_read_nothing(tmp_path: Path) -> None:
    counter = Counter()
    fit(counter, tmp_path, accumulate_grad_batches=5, log_every_n_steps=1)

    allowed = {"train 0.4", "train 0.9", "train 1.4", "train 1.9"}
    assert {moment for moment, _ in counter.during("train")} <= allowed
    assert {moment for moment in counter.scalars if moment.startswith("train")} <= allowed
