"""Recorders: every hook of a callback, a module and a datamodule, written into one list as it is called."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningDataModule, LightningModule, Order, Trainer
from hookloop.view import TrainerView

# The lists below are written out here, not read from the package, so that a hook that the package forgets is missed.
FIT_LIFECYCLE_HOOKS = ("on_fit_start", "on_fit_end", "on_train_start", "on_train_end")
TRAIN_HOOKS = ("on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end")
EVALUATION_HOOKS = tuple(
    f"on_{stage}_{point}"
    for stage in ("validation", "test", "predict")
    for point in ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")
)
OPTIMIZATION_HOOKS = (
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_after_optimizer_step",
)
SANITY_HOOKS = ("on_sanity_check_start", "on_sanity_check_end")
CHECKPOINT_HOOKS = ("on_save_checkpoint", "on_load_checkpoint")
STATE_METHODS = ("state_dict", "load_state_dict")

CALLBACK_HOOKS = (
    "setup",
    "teardown",
    *FIT_LIFECYCLE_HOOKS,
    *SANITY_HOOKS,
    *TRAIN_HOOKS,
    *EVALUATION_HOOKS,
    *OPTIMIZATION_HOOKS,
    *CHECKPOINT_HOOKS,
    "on_exception",
    "on_checkpoint_saved",
    "on_preemption",
)
"""Every hook of a callback: the 39 methods of the reference without the two for state, and the three that are new."""

SHARED_HOOKS = (
    "setup",
    "teardown",
    *FIT_LIFECYCLE_HOOKS,
    *TRAIN_HOOKS,
    *EVALUATION_HOOKS,
    *OPTIMIZATION_HOOKS,
    *CHECKPOINT_HOOKS,
)
"""The hooks that callbacks and the module both have."""

MODULE_HOOKS = (
    *SHARED_HOOKS,
    *STATE_METHODS,
    "prepare_data",
    "configure_callbacks",
    "configure_model",
    "configure_optimizers",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
    "training_step",
    "validation_step",
    "test_step",
    "predict_step",
    "optimizer_step",
    "optimizer_zero_grad",
    "backward",
    "configure_gradient_clipping",
    "lr_scheduler_step",
    "on_validation_model_zero_grad",
    "on_validation_model_eval",
    "on_validation_model_train",
    "on_test_model_eval",
    "on_test_model_train",
    "on_predict_model_eval",
)

DATAMODULE_HOOKS = (
    "setup",
    "teardown",
    *STATE_METHODS,
    "prepare_data",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_exception",
)

Batch = list[torch.Tensor]
T = TypeVar("T")


@dataclass(frozen=True)
class Event:
    """One call: who was called, which hook, and the positional arguments that came with it."""

    who: str
    hook: str
    args: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.who}.{self.hook}" if self.hook else self.who


@dataclass
class Trace:
    """The list that all recorders of one run share."""

    events: list[Event] = field(default_factory=list)

    def add(self, who: str, hook: str = "", *args: Any) -> None:
        self.events.append(Event(who, hook, args))

    @property
    def names(self) -> list[str]:
        return [str(event) for event in self.events]

    def of(self, who: str) -> list[str]:
        """The hooks of one recorder, in the order of their calls."""
        return [event.hook for event in self.events if event.who == who]

    def calls(self, who: str, hook: str) -> list[tuple[Any, ...]]:
        """The arguments of each call of one hook of one recorder."""
        return [event.args for event in self.events if event.who == who and event.hook == hook]


def lines(text: str) -> list[str]:
    """An expected trace, written as text with any white space between its events."""
    return text.split()


class RecordingCallback(Callback):
    """Overrides every hook, and keeps a state so that it is saved and restored too."""

    def __init__(self, name: str, trace: Trace) -> None:
        self.name = name
        self.trace = trace

    @property
    def state_key(self) -> str:
        return f"RecordingCallback[{self.name}]"

    def state_dict(self) -> dict[str, Any]:
        self.trace.add(self.name, "state_dict")
        return {"name": self.name}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.trace.add(self.name, "load_state_dict", state_dict)


def _recording_hook(hook: str) -> Callable[..., None]:
    def method(self: RecordingCallback, *args: Any, **kwargs: Any) -> None:
        self.trace.add(self.name, hook, *args, *kwargs.values())

    method.__name__ = hook
    return method


for _hook in CALLBACK_HOOKS:
    setattr(RecordingCallback, _hook, _recording_hook(_hook))


class FirstRecorder(RecordingCallback):
    order = Order.FIRST


class MonitorRecorder(RecordingCallback):
    order = Order.MONITOR


class LastRecorder(RecordingCallback):
    order = Order.LAST


class Saver(Callback):
    """Writes a checkpoint at the end of every training epoch, after everybody else; marks the moment as SAVE."""

    order = Order.LAST

    def __init__(self, trace: Trace, folder: Path) -> None:
        self.trace = trace
        self.folder = folder

    def path(self, epoch: int) -> Path:
        return self.folder / f"epoch-{epoch}.ckpt"

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.trace.add("SAVE")
        trainer.save_checkpoint(self.path(trainer.current_epoch))


def records(who: str, hooks: tuple[str, ...]) -> Callable[[type[T]], type[T]]:
    """Class decorator: each of these methods writes itself down in `self.trace`, then does what it did before."""

    def decorate(cls: type[T]) -> type[T]:
        for hook in hooks:
            setattr(cls, hook, _calling_through(who, hook, getattr(cls, hook)))
        return cls

    return decorate


def _calling_through(who: str, hook: str, inner: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.trace.add(who, hook, *args, *kwargs.values())
        return inner(self, *args, **kwargs)

    # Not functools.wraps: its __wrapped__ could be taken for the untouched method of the base class.
    method.__name__ = hook
    method.__signature__ = inspect.signature(inner)  # type: ignore[attr-defined]
    return method


def loader(batches: int) -> DataLoader[Any]:
    """`batches` batches of two samples with two features each, all different."""
    return DataLoader(TensorDataset(torch.arange(4.0 * batches).reshape(-1, 2) / 10.0), batch_size=2)


class QuietModule(LightningModule):
    """One linear layer that learns to answer 0; three training batches, one of each other kind. Records nothing."""

    def __init__(self, trace: Trace | None = None, train_batches: int = 3) -> None:
        super().__init__()
        self.trace = Trace() if trace is None else trace
        self.train_batches = train_batches
        self.layer = torch.nn.Linear(2, 1)

    def loss(self, batch: Batch) -> torch.Tensor:
        loss: torch.Tensor = self.layer(batch[0]).pow(2).mean()
        return loss

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("val_loss", self.loss(batch))

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.log("test_loss", self.loss(batch))

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> torch.Tensor:
        answer: torch.Tensor = self.layer(batch[0])
        return answer

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1)]

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(self.train_batches)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return loader(1)

    def predict_dataloader(self) -> DataLoader[Any]:
        return loader(1)


@records("M", MODULE_HOOKS)
class RecordingModule(QuietModule):
    """The same module; every hook, step, transfer, loader and optimization method is written down as `M.<name>`."""


class QuietDataModule(LightningDataModule):
    """The loaders of QuietModule, in a datamodule that has a state of its own. Records nothing."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def state_dict(self) -> dict[str, Any]:
        return {"seen": 3}

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(1)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(1)

    def test_dataloader(self) -> DataLoader[Any]:
        return loader(1)

    def predict_dataloader(self) -> DataLoader[Any]:
        return loader(1)


@records("DM", DATAMODULE_HOOKS)
class RecordingDataModule(QuietDataModule):
    """The same datamodule; every hook is written down as `DM.<name>`."""


def make_trainer(folder: Path, callbacks: list[Callback], **arguments: Any) -> Trainer:
    """A Trainer on the CPU with these callbacks alone: nothing that happens to be installed can join the trace."""
    return Trainer(
        accelerator="cpu",
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        registered_callbacks=False,
        **arguments,
    )
