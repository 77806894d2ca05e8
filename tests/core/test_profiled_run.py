"""A run with a profiler: every hook that somebody overrides is an action; without one, no call is wrapped.

Parts of the loops are actions, too: see test_profiled_parts.py.
"""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Order, Trainer
from hookloop.profilers import PassThroughProfiler, Profiler, SimpleProfiler, timing
from hookloop.view import TrainerView

from .recording import Batch, QuietModule, loader, make_trainer


class Noting(Profiler):
    """Writes down every start and stop, and the calls of a run."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []

    def start(self, name: str) -> None:
        self.events.append(f"+{name}")

    def stop(self, name: str) -> None:
        self.events.append(f"-{name}")

    def setup(self, stage: str, local_rank: int | None = None, log_dir: str | None = None) -> None:
        self.events.append(f"setup {stage} {local_rank} {log_dir}")

    def describe(self) -> None:
        self.events.append("describe")

    def teardown(self, stage: str) -> None:
        self.events.append(f"teardown {stage}")

    @property
    def counts(self) -> dict[str, int]:
        """How often each action ran to its end."""
        return dict(Counter(event[1:] for event in self.events if event.startswith("-")))

    @property
    def hooks(self) -> list[str]:
        """The events of hooks, without those of the parts of the loops."""
        return [event for event in self.events if is_hook(event[1:])]

    @property
    def counts_of_hooks(self) -> dict[str, int]:
        return {name: count for name, count in self.counts.items() if is_hook(name)}


def is_hook(action: str) -> bool:
    return action.startswith(("[Callback]", "[LightningModule]", "[LightningDataModule]"))


class Watches(Callback):
    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None: ...

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None: ...

    def on_before_optimizer_step(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None: ...

    def on_validation_batch_start(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None: ...

    def on_sanity_check_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None: ...


class Saves(Callback):
    """Has a name of its own, and runs last."""

    order = Order.LAST

    @property
    def state_key(self) -> str:
        return "Saves{every: 2}"

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None: ...

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...

    def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...


class Model(QuietModule):
    """Overrides hooks of every sort, beside the steps and the loaders."""

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None: ...

    def on_train_epoch_end(self) -> None: ...

    def on_validation_model_eval(self) -> None:
        self.eval()

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
        optimizer.zero_grad()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        return batch

    def setup(self, stage: str) -> None: ...


class Data(LightningDataModule):
    def setup(self, stage: str) -> None: ...

    def teardown(self, stage: str) -> None: ...

    def train_dataloader(self) -> DataLoader[Any]:
        return loader(3)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(2)

    def test_dataloader(self) -> DataLoader[Any]:
        return loader(2)


# Two epochs of three batches, two batches to an optimizer step (the third steps alone); the sanity check runs one of
# the two validation batches, so there are five of them in three validations.
OF_A_FIT = {
    "[LightningDataModule]Data.setup": 1,
    "[LightningDataModule]Data.train_dataloader": 1,
    "[LightningDataModule]Data.val_dataloader": 1,
    "[Callback]Watches.setup": 1,
    "[LightningModule]Model.setup": 1,
    "[LightningModule]Model.configure_optimizers": 1,
    "[LightningModule]Model.lr_scheduler_step": 2,  # left as it is: it does the work of a part of the loops
    "[LightningModule]Model.on_validation_model_eval": 3,
    "[LightningModule]Model.on_after_batch_transfer": 6 + 5,
    "[Callback]Watches.on_validation_batch_start": 5,
    "[Callback]Saves{every: 2}.on_validation_end": 3,
    "[Callback]Watches.on_sanity_check_end": 1,
    "[LightningModule]Model.on_train_batch_start": 6,
    "[LightningModule]Model.optimizer_zero_grad": 4,
    "[Callback]Watches.on_before_optimizer_step": 4,
    "[Callback]Watches.on_train_batch_end": 6,
    "[Callback]Saves{every: 2}.on_train_batch_end": 6,
    "[LightningModule]Model.on_train_epoch_end": 2,
    "[Callback]Saves{every: 2}.on_train_epoch_end": 2,
    "[LightningDataModule]Data.teardown": 1,
    "[Callback]Watches.teardown": 1,
}

OF_A_TEST = {
    "[LightningDataModule]Data.setup": 1,
    "[LightningDataModule]Data.test_dataloader": 1,
    "[Callback]Watches.setup": 1,
    "[LightningModule]Model.setup": 1,
    "[LightningModule]Model.on_after_batch_transfer": 2,
    "[LightningDataModule]Data.teardown": 1,
    "[Callback]Watches.teardown": 1,
}


def fit(profiler: str | Profiler | None, folder: Path) -> Trainer:
    arguments = {"max_epochs": 2, "accumulate_grad_batches": 2, "num_sanity_val_steps": 1}
    trainer = make_trainer(folder, [Saves(), Watches()], profiler=profiler, **arguments)
    trainer.fit(Model(), datamodule=Data())
    return trainer


def test_every_overridden_hook_is_an_action_with_the_name_of_its_owner(tmp_path: Path) -> None:
    profiler = Noting()
    fit(profiler, tmp_path)
    assert profiler.counts_of_hooks == OF_A_FIT


def test_the_other_entry_points_are_measured_too(tmp_path: Path) -> None:
    profiler = Noting()
    trainer = make_trainer(tmp_path, [Saves(), Watches()], profiler=profiler)
    trainer.test(Model(), datamodule=Data(), verbose=False)
    assert profiler.counts_of_hooks == OF_A_TEST


def test_a_run_is_announced_and_described_around_all_that_is_measured(tmp_path: Path) -> None:
    profiler = Noting()
    trainer = fit(profiler, tmp_path)
    trainer.test(trainer.lightning_module, datamodule=Data(), verbose=False)
    assert profiler.events[0] == f"setup fit None {tmp_path}"
    middle = profiler.events.index(f"setup test None {tmp_path}")
    assert profiler.events[middle - 2 : middle] == ["describe", "teardown fit"]
    assert profiler.events[-2:] == ["describe", "teardown test"]
    assert [event for event in profiler.events if event[0] not in "+-"] == [
        *(f"setup fit None {tmp_path}", "describe", "teardown fit"),
        *(f"setup test None {tmp_path}", "describe", "teardown test"),
    ]


def test_actions_of_hooks_that_run_inside_each_other_are_nested(tmp_path: Path) -> None:
    class Steps(QuietModule):
        def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
            super().optimizer_step(*args, **kwargs)

        def backward(self, loss: torch.Tensor, *args: Any, **kwargs: Any) -> None:
            super().backward(loss)

        def on_after_backward(self) -> None: ...

    profiler = Noting()
    trainer = make_trainer(tmp_path, [], profiler=profiler, max_epochs=1, limit_val_batches=0)
    trainer.fit(Steps(train_batches=1))
    events = [event.replace("[LightningModule]Steps.", "") for event in profiler.hooks]
    start = events.index("+optimizer_step")
    assert events[start : events.index("-optimizer_step") + 1] == [
        *("+optimizer_step", "+backward", "-backward", "+on_after_backward", "-on_after_backward", "-optimizer_step"),
    ]


class Fails(Watches):
    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        raise RuntimeError("planted")

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None: ...


def test_an_action_that_raises_stops_and_the_profiler_describes_what_there_was(tmp_path: Path) -> None:
    profiler = Noting()
    trainer = make_trainer(tmp_path, [Fails()], profiler=profiler, max_epochs=1, limit_val_batches=0)
    with pytest.raises(RuntimeError, match="planted"):
        trainer.fit(Model())
    started = [event[1:] for event in profiler.events if event[0] == "+"]
    assert Counter(started) == Counter(profiler.counts)
    assert profiler.counts["[Callback]Fails.on_train_batch_end"] == 1
    assert profiler.counts["[Callback]Fails.on_exception"] == 1
    assert profiler.events[-2:] == ["describe", "teardown fit"]


def test_two_callbacks_of_one_class_share_their_actions_unless_they_have_keys_of_their_own(tmp_path: Path) -> None:
    def noop(trainer: TrainerView, pl_module: LightningModule) -> None: ...

    profiler = Noting()
    callbacks: list[Callback] = [LambdaCallback(on_train_start=noop), LambdaCallback(on_train_start=noop), Saves()]
    trainer = make_trainer(tmp_path, callbacks, profiler=profiler, max_epochs=1, limit_val_batches=0)
    trainer.fit(QuietModule(train_batches=1))
    assert profiler.counts["[Callback]LambdaCallback.on_train_start"] == 2
    assert profiler.counts["[Callback]Saves{every: 2}.on_train_epoch_end"] == 1


class Joins(Callback):
    """Brings another one in the second epoch."""

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            trainer.callbacks.append(Watches())


def test_a_callback_that_joins_during_the_run_is_measured_from_then_on(tmp_path: Path) -> None:
    profiler = Noting()
    trainer = make_trainer(tmp_path, [Joins()], profiler=profiler, max_epochs=2, limit_val_batches=0)
    trainer.fit(QuietModule())
    assert profiler.counts["[Callback]Joins.on_train_epoch_start"] == 2
    assert profiler.counts["[Callback]Watches.on_train_batch_end"] == 3
    assert profiler.counts["[Callback]Watches.setup"] == 1


# The profiler that comes with the core


def test_the_simple_profiler_counts_and_sums_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profiler = SimpleProfiler()
    fit(profiler, tmp_path)
    assert {action.name: action.calls for action in profiler.actions() if is_hook(action.name)} == OF_A_FIT
    assert profiler.running() == []
    assert all(action.total >= 0 for action in profiler.actions())
    printed = capsys.readouterr().out
    assert printed == profiler.summary() + "\n"
    assert all(name in printed for name in OF_A_FIT)


def test_simple_is_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit("simple", tmp_path)
    _, hooks = capsys.readouterr().out.split("\nHook of a callback ")
    lines = [line.split(" | ") for line in hooks.splitlines()[2:]]
    assert {columns[0].strip(): int(columns[2]) for columns in lines} == OF_A_FIT


def test_the_simple_profiler_can_write_into_the_folder_of_the_logs(tmp_path: Path) -> None:
    profiler = SimpleProfiler(filename="times")
    fit(profiler, tmp_path)
    assert (tmp_path / "fit-times.txt").read_text(encoding="utf-8") == profiler.summary() + "\n"


# Without one


@pytest.mark.parametrize(
    "profiler", [None, Profiler(), PassThroughProfiler()], ids=["none", "the base class", "the one that passes through"]
)
def test_without_a_listening_profiler_no_call_is_wrapped_and_nothing_is_printed(
    profiler: Profiler | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside_timing: list[str] = []
    inside_watches: list[str] = []

    def listen(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            caller = frame.f_back
            if frame.f_code.co_filename == timing.__file__ and frame.f_code.co_name == "run":
                inside_timing.append(frame.f_code.co_name)
            if frame.f_code.co_qualname == "Watches.on_train_batch_end":
                assert caller is not None
                inside_watches.append(Path(caller.f_code.co_filename).name)

    trainer = make_trainer(tmp_path, [Watches()], profiler=profiler, max_epochs=1)
    module = Model()
    sys.setprofile(listen)
    try:
        trainer.fit(module, datamodule=Data())
    finally:
        sys.setprofile(None)
    assert inside_timing == []
    # The dispatcher calls the callback, and nobody stands between them.
    assert inside_watches == ["hooks.py"] * 3
    assert capsys.readouterr().out == ""


def test_a_listening_profiler_stands_between_them(tmp_path: Path) -> None:
    """So that the test above can fail."""
    callers: list[str] = []

    class Looks(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            callers.append(Path(sys._getframe(1).f_code.co_filename).name)

    for profiler in (None, Noting()):
        trainer = make_trainer(tmp_path, [Looks()], profiler=profiler, max_epochs=1, limit_val_batches=0)
        trainer.fit(QuietModule(train_batches=1))
    assert callers == ["hooks.py", "timing.py"]
