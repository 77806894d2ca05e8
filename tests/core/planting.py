"""Errors planted in callbacks, modules, datamodules and loggers that write down what happens to them."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hookloop import Callback, LightningDataModule, LightningModule, Order
from hookloop.loggers import Logger

# Written by hand, as the other lists of hooks in test_exceptions.py, which compares it with the class.
CALLBACK_HOOKS = (
    "setup",
    "teardown",
    "on_fit_start",
    "on_fit_end",
    "on_exception",
    "on_preemption",
    "on_sanity_check_start",
    "on_sanity_check_end",
    "on_train_start",
    "on_train_end",
    "on_train_epoch_start",
    "on_train_epoch_end",
    "on_train_batch_start",
    "on_train_batch_end",
    "on_validation_start",
    "on_validation_end",
    "on_validation_epoch_start",
    "on_validation_epoch_end",
    "on_validation_batch_start",
    "on_validation_batch_end",
    "on_test_start",
    "on_test_end",
    "on_test_epoch_start",
    "on_test_epoch_end",
    "on_test_batch_start",
    "on_test_batch_end",
    "on_predict_start",
    "on_predict_end",
    "on_predict_epoch_start",
    "on_predict_epoch_end",
    "on_predict_batch_start",
    "on_predict_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_after_optimizer_step",
    "on_save_checkpoint",
    "on_load_checkpoint",
    "on_checkpoint_saved",
    "state_dict",
    "load_state_dict",
)

Trace = list[tuple[str, str]]


class Fault:
    """An error that is raised wherever it was planted, for as long as it is armed.

    `late` faults are raised when everything else that the hook does is done. `struck_at` is how much of the trace had
    been written when the error was raised.
    """

    def __init__(self, error: BaseException, *, armed: bool = True, late: bool = False) -> None:
        self.error = error
        self.trace: Trace = []
        self.armed = armed
        self.late = late
        self.strikes = 0
        self.struck_at = 0

    def strike(self) -> None:
        if self.armed:
            self.strikes += 1
            self.struck_at = len(self.trace)
            raise self.error


class Unheard(BaseException):
    """Neither an Exception nor one of Python's own."""


KINDS: dict[str, Callable[[], BaseException]] = {
    "AttributeError": lambda: AttributeError("no such attribute"),
    "TypeError": lambda: TypeError("wrong type"),
    "NotImplementedError": lambda: NotImplementedError("not there"),
    "StopIteration": lambda: StopIteration("over"),
    "ExceptionGroup": lambda: ExceptionGroup("several", [ValueError("one"), TypeError("two")]),
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "BaseException": lambda: Unheard("a kind of its own"),
}

Faults = Mapping[tuple[str, str], Fault]
"""Errors by who raises them, and in which hook."""


def breaking(base: type[Any], name: str, faults: Faults) -> type[Any]:
    """`base`, or a subclass `Broken<Name>` that raises the faults of `name`."""
    own = {hook: broken_hook(base, hook, fault) for (owner, hook), fault in faults.items() if owner == name}
    return type(f"Broken{name.title()}", (base,), own) if own else base


def broken_hook(base: type[Any], hook: str, fault: Fault) -> Callable[..., Any]:
    """An override of one hook, with the signature of what it overrides."""
    inherited = getattr(base, hook)

    @functools.wraps(inherited)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not fault.late:
            fault.strike()
        result = inherited(self, *args, **kwargs)
        if fault.late:
            fault.strike()
        return result

    return method


class Witness(Callback):
    """Records how it is set up and torn down, and what it hears of exceptions; has a state to save."""

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace
        self.exceptions: list[tuple[Any, Any, BaseException]] = []
        self.stages: list[str] = []

    @property
    def state_key(self) -> str:
        return f"witness-{self.name}"

    def setup(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        self.trace.append((self.name, "setup"))
        self.stages.append(stage)

    def teardown(self, trainer: Any, pl_module: LightningModule, stage: str) -> None:
        self.trace.append((self.name, "teardown"))
        self.stages.append(stage)

    def on_exception(self, trainer: Any, pl_module: LightningModule, exception: BaseException) -> None:
        self.trace.append((self.name, "on_exception"))
        self.exceptions.append((trainer, pl_module, exception))

    def state_dict(self) -> dict[str, Any]:
        return {"seen": 1}


class FirstWitness(Witness):
    order = Order.FIRST


class NormalWitness(Witness):
    order = Order.NORMAL


class MonitorWitness(Witness):
    order = Order.MONITOR


class LastWitness(Witness):
    order = Order.LAST


WITNESSES: dict[Order, type[Witness]] = {
    Order.FIRST: FirstWitness,
    Order.NORMAL: NormalWitness,
    Order.MONITOR: MonitorWitness,
    Order.LAST: LastWitness,
}


class EarlyListener(NormalWitness):
    """Records every hook."""


class Saver(LastWitness):
    """Records every hook, and saves a checkpoint at the end of every training epoch."""

    def __init__(self, name: str, trace: Trace, path: Path) -> None:
        super().__init__(name, trace)
        self.path = path

    def on_train_epoch_end(self, trainer: Any, pl_module: LightningModule) -> None:
        trainer.save_checkpoint(self.path)


def recording(base: type[Witness], hook: str) -> Callable[..., Any]:
    """A hook that notes that it ran, and then does what it did before."""
    inherited = getattr(base, hook)

    def method(self: Witness, *args: Any) -> Any:
        self.trace.append((self.name, hook))
        return inherited(self, *args)

    return method


for _listener in (EarlyListener, Saver):
    for _hook in CALLBACK_HOOKS:
        if _hook not in vars(Witness):
            setattr(_listener, _hook, recording(_listener, _hook))


class Points(Dataset[Tensor]):
    """Four points in the plane."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault
        self.points = torch.arange(8.0).reshape(4, 2) / 8

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, index: int) -> Tensor:
        if self.fault is not None:
            self.fault.strike()
        return self.points[index]


def loader(fault: Fault | None = None) -> DataLoader[Tensor]:
    return DataLoader(Points(fault), batch_size=2)


class Mean(nn.Module):
    """A metric as hookloop knows it: update, compute, reset."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Tensor] = []

    def update(self, value: Tensor) -> None:
        self.values.append(value)

    def compute(self) -> Tensor:
        return torch.stack(self.values).mean()

    def reset(self) -> None:
        self.values = []


class Module(LightningModule):
    """Trains, validates, tests and predicts, on its own data unless it is given other; one layer stays in eval mode."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.stages: list[str] = []
        self.optimizer_class: type[torch.optim.SGD] = torch.optim.SGD
        self.scheduler_class: type[torch.optim.lr_scheduler.StepLR] = torch.optim.lr_scheduler.StepLR
        self.transform: Callable[[Tensor], Tensor] = lambda batch: batch
        self.metric: Mean | None = None
        self.frozen = nn.Linear(2, 2).eval()
        self.layer = nn.Linear(2, 1)

    def setup(self, stage: str) -> None:
        self.trace.append(("module", "setup"))
        self.stages.append(stage)

    def teardown(self, stage: str) -> None:
        self.trace.append(("module", "teardown"))
        self.stages.append(stage)

    def forward(self, batch: Tensor) -> Tensor:
        return self.transform(self.layer(self.frozen(batch)))

    def _loss(self, batch: Tensor) -> Tensor:
        return (self(batch) - 1).square().mean()  # type: ignore[no-any-return]

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self._loss(batch)
        self.log("train_loss", loss)
        if self.metric is not None:
            self.metric.update(loss.detach())
            self.log("metric", self.metric, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("test_loss", self._loss(batch))

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self(batch)  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer_class(self.layer.parameters(), lr=0.1)
        scheduler = self.scheduler_class(optimizer, step_size=1, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader()

    def test_dataloader(self) -> Any:
        return loader()

    def predict_dataloader(self) -> Any:
        return loader()


class Data(LightningDataModule):
    """The same data from a datamodule."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.stages: list[str] = []
        self.exceptions: list[BaseException] = []
        self.loaders: dict[str, Any] = {stage: loader() for stage in ("train", "val", "test", "predict")}

    def setup(self, stage: str) -> None:
        self.trace.append(("data", "setup"))
        self.stages.append(stage)

    def teardown(self, stage: str) -> None:
        self.trace.append(("data", "teardown"))
        self.stages.append(stage)

    def on_exception(self, exception: BaseException) -> None:
        self.trace.append(("data", "on_exception"))
        self.exceptions.append(exception)

    def train_dataloader(self) -> Any:
        return self.loaders["train"]

    def val_dataloader(self) -> Any:
        return self.loaders["val"]

    def test_dataloader(self) -> Any:
        return self.loaders["test"]

    def predict_dataloader(self) -> Any:
        return self.loaders["predict"]

    def state_dict(self) -> dict[str, Any]:
        return {"seen": 1}


class RecordingLogger(Logger):
    """Notes how it was finalized."""

    def __init__(self, trace: Trace, label: str = "logger") -> None:
        super().__init__()
        self.trace = trace
        self.label = label

    @property
    def name(self) -> str:
        return self.label

    @property
    def version(self) -> int:
        return 0

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        pass

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        pass

    def finalize(self, status: str) -> None:
        self.trace.append((self.label, status))
