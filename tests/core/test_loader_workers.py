"""Worker processes of loaders: they live as long as they should, and what happens in them reaches the user."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hookloop import Callback, LightningModule
from hookloop.loaders.combined import CombinedLoader

from .fitting import trainer_in

COUNT = 8

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="the datasets of these tests are no importable ones"
)


class Pids(Dataset[Tensor]):
    """Samples are the ids of the processes that read them."""

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(os.getpid())


def broken(index: int) -> Tensor:
    raise ValueError(f"sample {index} is unreadable")


class OwnError(Exception):
    """Cannot be made from a message alone."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Breaks(Pids):
    """The sixth sample goes wrong, in a worker."""

    def __init__(self, how: Callable[[int], Any] = broken) -> None:
        self.how = how

    def __getitem__(self, index: int) -> Tensor:
        if index == 5 and get_worker_info() is not None:
            self.how(index)
        return super().__getitem__(index)


def workers(dataset: Dataset[Any] | None = None, persistent: bool = False, **arguments: Any) -> DataLoader[Any]:
    settings: dict[str, Any] = {"batch_size": 2, "num_workers": 2, "multiprocessing_context": "fork"} | arguments
    return DataLoader(dataset or Pids(), persistent_workers=persistent, **settings)


def tensors_in(batch: Any) -> list[Tensor]:
    """The tensors of a batch of one loader or of several, in whatever collection."""
    if isinstance(batch, Tensor):
        return [batch]
    return [one for child in (batch.values() if isinstance(batch, dict) else batch or ()) for one in tensors_in(child)]


class Remembers(LightningModule):
    """Which processes the batches of each epoch came from."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[set[int]] = []
        self.validations: list[set[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append(set())

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        for part in tensors_in(batch):
            self.epochs[-1].update(part.tolist())
        return torch.zeros((), requires_grad=True)

    def on_validation_epoch_start(self) -> None:
        self.validations.append(set())

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validations[-1].update(batch.tolist())

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return batch

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=0.1)


class Hears(Callback):
    def __init__(self) -> None:
        self.heard: list[BaseException] = []

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.heard.append(exception)


@pytest.fixture(autouse=True)
def nobody_is_left() -> Any:
    """Whatever a test does, no worker outlives it; each test asserts the same at the place that it is about."""
    yield
    assert multiprocessing.active_children() == []


# How long they live


def test_persistent_workers_are_the_same_in_every_epoch_and_gone_after_the_fit(tmp_path: Path) -> None:
    module, loader = Remembers(), workers(persistent=True)
    trainer = trainer_in(tmp_path, max_epochs=3)
    trainer.fit(module, loader, workers(persistent=True))
    assert multiprocessing.active_children() == []
    for epochs in (module.epochs, module.validations):
        assert len(epochs) == 3
        assert epochs[0] == epochs[1] == epochs[2]
        assert len(epochs[0]) == 2
    assert module.epochs[0].isdisjoint(module.validations[0] | {os.getpid()})
    # The loader starts new ones when it is used again.
    trainer.max_epochs = 4
    trainer.fit(module, loader)
    assert module.epochs[3].isdisjoint(module.epochs[0])


def test_other_workers_live_for_an_epoch(tmp_path: Path) -> None:
    module = Remembers()
    trainer_in(tmp_path, max_epochs=2).fit(module, workers())
    assert multiprocessing.active_children() == []
    assert [len(epoch) for epoch in module.epochs] == [2, 2]
    assert module.epochs[0].isdisjoint(module.epochs[1])


@pytest.mark.parametrize("mode", ["max_size_cycle", "max_size", "min_size", "sequential"])
def test_the_workers_of_several_loaders_are_persistent_too(tmp_path: Path, mode: Any) -> None:
    module = Remembers()
    pair = [workers(persistent=True), workers(persistent=True)]
    trainer_in(tmp_path, max_epochs=2).fit(module, CombinedLoader(pair, mode))
    assert multiprocessing.active_children() == []
    assert len(module.epochs[0]) == 4
    assert module.epochs[0] == module.epochs[1]


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("arguments", [{"max_steps": 1}, {"limit_train_batches": 1}, {"fast_dev_run": True}], ids=str)
def test_workers_of_an_epoch_that_ends_early_are_gone_too(
    tmp_path: Path, arguments: dict[str, Any], several: bool, persistent: bool
) -> None:
    loader = workers(persistent=persistent)
    module = Remembers()
    trainer_in(tmp_path, **arguments).fit(module, [loader, workers()] if several else loader)
    assert multiprocessing.active_children() == []
    assert os.getpid() not in module.epochs[0]


@pytest.mark.parametrize("mode", ["one", "max_size_cycle", "max_size", "min_size", "sequential"])
def test_workers_of_an_epoch_that_is_left_early_end_with_it(tmp_path: Path, mode: Any) -> None:
    left: list[int] = []

    class Leaves(Remembers):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
            return -1 if batch_idx == 1 else None

        def on_train_epoch_end(self) -> None:
            left.append(len(multiprocessing.active_children()))

    loader: Any = workers() if mode == "one" else CombinedLoader([workers(), workers()], mode)
    trainer_in(tmp_path, max_epochs=2).fit(Leaves(), loader)
    assert left == [0, 0]


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_of_an_evaluation_and_a_prediction_are_gone_after_it(tmp_path: Path, persistent: bool) -> None:
    module, trainer = Remembers(), trainer_in(tmp_path, limit_val_batches=1, limit_predict_batches=1)
    trainer.validate(module, [workers(persistent=persistent)], verbose=False)
    assert multiprocessing.active_children() == []
    predictions = trainer.predict(module, workers(persistent=persistent))
    assert multiprocessing.active_children() == []
    assert predictions is not None
    assert os.getpid() not in {*module.validations[0], *predictions[0].tolist()}


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("error", [RuntimeError("in a step"), KeyboardInterrupt()], ids=["an error", "Ctrl-C"])
def test_workers_are_gone_although_the_exception_is_kept(
    tmp_path: Path, error: BaseException, several: bool, persistent: bool
) -> None:
    class Raises(Remembers):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            if batch_idx == 1:
                raise error
            return super().training_step(batch, batch_idx)

    loader = workers(persistent=persistent)
    with pytest.raises(type(error)) as caught:
        trainer_in(tmp_path).fit(Raises(), {"a": loader, "b": [workers()]} if several else loader)
    # Its traceback holds the frames that hold the iterators.
    assert caught.value is error
    assert multiprocessing.active_children() == []


# What goes wrong in them


def missing_key(index: int) -> None:
    dict[str, int]()[f"sample {index}"]


def own_error(index: int) -> None:
    raise OwnError(index, "unreadable")


def collate_badly(samples: list[Any]) -> Any:
    raise TypeError("these samples do not fit together")


ERRORS: dict[str, tuple[Callable[[], DataLoader[Any]], type[Exception], str, str]] = {
    "an error": (lambda: workers(Breaks()), ValueError, "sample 5 is unreadable", "in broken"),
    "a missing key": (lambda: workers(Breaks(missing_key)), KeyError, "sample 5", "in missing_key"),
    # torch cannot make it again from its text, and says so by a RuntimeError.
    "an error of one's own": (lambda: workers(Breaks(own_error)), RuntimeError, "5: unreadable", "in own_error"),
    "in collate_fn": (
        lambda: workers(collate_fn=collate_badly),
        TypeError,
        "these samples do not fit together",
        "in collate_badly",
    ),
    "persistent": (lambda: workers(Breaks(), persistent=True), ValueError, "sample 5 is unreadable", "in broken"),
}


@pytest.mark.parametrize(("make", "kind", "text", "frame"), ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("how", ["fit", "fit on several", "fit with validation", "validate", "predict"])
def test_an_error_in_a_worker_comes_with_the_workers_traceback_and_everybody_hears_of_it(
    tmp_path: Path, how: str, make: Any, kind: type[Exception], text: str, frame: str
) -> None:
    hears = Hears()
    trainer, module, loader = trainer_in(tmp_path, hears), Remembers(), make()
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: trainer.fit(module, loader),
        "fit on several": lambda: trainer.fit(module, {"good": workers(), "bad": loader}),
        "fit with validation": lambda: trainer.fit(module, workers(), loader),
        "validate": lambda: trainer.validate(module, loader, verbose=False),
        "predict": lambda: trainer.predict(module, loader),
    }
    with pytest.raises(kind) as caught:
        calls[how]()
    message = str(caught.value)
    assert text in message
    assert "in DataLoader worker process" in message
    assert "Original Traceback" in message
    assert frame in message
    assert hears.heard == [caught.value]
    assert multiprocessing.active_children() == []


def test_an_error_in_collate_fn_without_workers_is_itself(tmp_path: Path) -> None:
    hears = Hears()
    loader = workers(collate_fn=collate_badly, num_workers=0, multiprocessing_context=None)
    with pytest.raises(TypeError, match=r"^these samples do not fit together$") as caught:
        trainer_in(tmp_path, hears).fit(Remembers(), loader)
    assert hears.heard == [caught.value]


def dies(index: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize("how", ["fit", "fit on several", "validate"])
def test_a_worker_that_the_system_kills_ends_the_run_with_its_number_and_the_signal(
    tmp_path: Path, how: str, persistent: bool
) -> None:
    hears = Hears()
    trainer, module, loader = trainer_in(tmp_path, hears), Remembers(), workers(Breaks(dies), persistent=persistent)
    calls: dict[str, Callable[[], Any]] = {
        "fit": lambda: trainer.fit(module, loader),
        "fit on several": lambda: trainer.fit(module, [workers(), loader]),
        "validate": lambda: trainer.validate(module, loader, verbose=False),
    }
    killed = r"DataLoader worker \(pid.* (is killed by signal: Killed|exited unexpectedly)"
    with pytest.raises(RuntimeError, match=killed):
        calls[how]()
    assert len(hears.heard) == 1
    assert multiprocessing.active_children() == []


def test_a_run_goes_on_after_one_that_failed_in_a_worker(tmp_path: Path) -> None:
    trainer, module = trainer_in(tmp_path, max_epochs=1), Remembers()
    with pytest.raises(ValueError, match="unreadable"):
        trainer.fit(module, workers(Breaks()))
    module = Remembers()
    trainer.fit(module, workers())
    assert trainer.global_step == COUNT // 2
