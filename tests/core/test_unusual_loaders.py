"""Training on loaders and samplers that torch did not write: whatever can be iterated, and lengths that are untrue."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, Sampler

from hookloop import Callback, LightningModule, Order

from .fitting import Rows, equal, loss_of, network, samples, trainer_in

COUNT = 5
"""Batches that there are, of two samples each."""

BATCHES = list(DataLoader(samples(COUNT), batch_size=2))


class Learner(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.marks: list[str] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.marks.append(f"t{int(batch[0][0])}")
        self.log("loss", loss := loss_of(self.net, batch))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.marks.append("v")

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)


def trained_plainly(windows: list[list[int]], epochs: int = 1) -> dict[str, Tensor]:
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(epochs):
        for window in windows:
            optimizer.zero_grad()
            for index in window:
                loss = loss_of(net, BATCHES[index])
                (loss / len(window) if len(window) > 1 else loss).backward()
            optimizer.step()
    return net.state_dict()


def assert_close(one: dict[str, Any], other: dict[str, Any]) -> None:
    for key in other:
        torch.testing.assert_close(one[key], other[key])


# Whatever can be iterated


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(BATCHES)


class Measured(Stream):
    def __len__(self) -> int:
        return COUNT


class Lies:
    """Says another number of batches than there are."""

    def __init__(self, promised: int) -> None:
        self.promised = promised

    def __len__(self) -> int:
        return self.promised

    def __iter__(self) -> Iterator[Any]:
        return iter(BATCHES)


class Generates:
    """Begins anew each time, by a generator function."""

    def __iter__(self) -> Iterator[Any]:
        yield from BATCHES


class OldStyle:
    def __getitem__(self, index: int) -> Any:
        return BATCHES[index]


# What to pass, and the length that the trainer tells; None: there is none.
KINDS: dict[str, tuple[Callable[[], Any], int | None]] = {
    "a DataLoader": (lambda: DataLoader(samples(COUNT), batch_size=2), COUNT),
    "a DataLoader of a stream": (lambda: DataLoader(Stream(), batch_size=None), None),
    "a DataLoader of a stream with a length": (lambda: DataLoader(Measured(), batch_size=None), COUNT),
    "a stream": (Stream, None),
    "a stream with a length": (Measured, COUNT),
    "a deque": (lambda: deque(BATCHES), COUNT),
    "an object with a generator function": (Generates, None),
    "an object with indices": (OldStyle, None),
    "one that promises too much": (lambda: Lies(COUNT + 3), COUNT + 3),
    "one without batches of torch": (lambda: DataLoader(BATCHES, batch_size=None), COUNT),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("make", "length"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_anything_that_can_be_iterated_is_trained_on(
    tmp_path: Path, accumulate: int, make: Any, length: int | None
) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, make(), [BATCHES[:1]])
    epoch = [f"t{index}" for index in range(COUNT)]
    assert module.marks == [*epoch, "v", *epoch, "v"]
    assert trainer.num_training_batches == (math.inf if length is None else length)
    windows = [[0], [1], [2], [3], [4]] if accumulate == 1 else [[0, 1], [2, 3], [4]]
    assert trainer.global_step == 2 * len(windows)
    assert_close(module.net.state_dict(), trained_plainly(windows, epochs=2))


def test_a_generator_is_gone_through_once(tmp_path: Path) -> None:
    module = Learner()
    trainer_in(tmp_path, max_epochs=1).fit(module, (batch for batch in BATCHES))
    assert equal(module.net.state_dict(), trained_plainly([[index] for index in range(COUNT)]))


@pytest.mark.parametrize("kind", [list, tuple, range])
def test_numbers_are_batches_too(tmp_path: Path, kind: Any) -> None:
    seen: list[int] = []

    class Sees(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            seen.append(batch)
            return next(self.net.parameters()).sum()

    trainer_in(tmp_path, max_epochs=1).fit(Sees(), kind(3) if kind is range else kind([0, 1, 2]))
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("promised", [1, 3])
def test_a_length_that_is_too_small_is_a_limit(tmp_path: Path, promised: int) -> None:
    module = Learner()
    trainer_in(tmp_path, max_epochs=1).fit(module, Lies(promised))
    assert module.marks == [f"t{index}" for index in range(promised)]


@pytest.mark.parametrize("error", [TypeError, NotImplementedError])
def test_a_length_that_is_refused_is_unknown(tmp_path: Path, error: type[Exception]) -> None:
    class Refuses(Lies):
        def __len__(self) -> int:
            raise error("no length")

    module, trainer = Learner(), trainer_in(tmp_path, max_epochs=1)
    trainer.fit(module, Refuses(0))
    assert (len(module.marks), trainer.num_training_batches) == (COUNT, math.inf)


def test_another_error_of_a_length_reaches_the_user_and_everybody_else(tmp_path: Path) -> None:
    heard: list[BaseException] = []

    class Hears(Callback):
        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            heard.append(exception)

    class Breaks(Lies):
        def __len__(self) -> int:
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        trainer_in(tmp_path, Hears()).fit(Learner(), Breaks(0))
    assert heard == [caught.value]


# Samplers of one's own


class Endless(Sampler[int]):
    """Goes on for ever, and has no length."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield from range(2 * COUNT)


class EndlessBatches(Sampler[list[int]]):
    def __iter__(self) -> Iterator[list[int]]:
        while True:
            yield from ([2 * index, 2 * index + 1] for index in range(COUNT))


class Backwards(Sampler[list[int]]):
    """A batch sampler with a length and without a base class of torch's beyond Sampler."""

    def __len__(self) -> int:
        return COUNT

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[2 * index, 2 * index + 1] for index in reversed(range(COUNT))])


class Unmeasured(Sampler[int]):
    """Ends, and does not say where."""

    def __iter__(self) -> Iterator[int]:
        return iter(range(2 * COUNT))


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataLoader(samples(COUNT), sampler=Endless(), batch_size=2),
        lambda: DataLoader(samples(COUNT), batch_sampler=EndlessBatches()),
        lambda: DataLoader(samples(COUNT), batch_sampler=BatchSampler(Endless(), 2, drop_last=False)),
    ],
    ids=["a sampler", "a batch sampler", "a sampler in a batch sampler"],
)
def test_an_endless_sampler_is_ended_by_max_steps_or_by_a_limit(tmp_path: Path, make: Any) -> None:
    module, trainer = Learner(), trainer_in(tmp_path, max_epochs=-1, max_steps=7)
    trainer.fit(module, make())
    assert module.marks == [f"t{index % COUNT}" for index in range(7)]
    assert (trainer.global_step, trainer.num_training_batches) == (7, math.inf)
    module, trainer = Learner(), trainer_in(tmp_path, max_epochs=2, limit_train_batches=3)
    trainer.fit(module, make(), [BATCHES[:1]])
    assert module.marks == ["t0", "t1", "t2", "v"] * 2
    assert trainer.num_training_batches == 3


def test_a_batch_sampler_of_ones_own_decides_what_a_batch_is(tmp_path: Path) -> None:
    module, trainer = Learner(), trainer_in(tmp_path, max_epochs=2, accumulate_grad_batches=2)
    trainer.fit(module, DataLoader(samples(COUNT), batch_sampler=Backwards()))
    assert module.marks == [f"t{index}" for index in (4, 3, 2, 1, 0)] * 2
    assert equal(module.net.state_dict(), trained_plainly([[4, 3], [2, 1], [0]], epochs=2))


@pytest.mark.parametrize("limit", [1.0, 9])
def test_the_last_batch_of_a_sampler_without_a_length_is_known(tmp_path: Path, limit: Any) -> None:
    last: list[bool] = []

    class Looks(Learner):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            last.append(self.trainer.is_last_batch)

    loader = DataLoader(samples(COUNT), sampler=Unmeasured(), batch_size=2)
    module = Looks()
    trainer_in(tmp_path, max_epochs=1, limit_train_batches=limit).fit(module, loader, [BATCHES[:1]])
    assert last == [False] * (COUNT - 1) + [True]
    assert module.marks[-1] == "v"


# A sampler that promises more than comes


class Promises(Sampler[int]):
    def __init__(self, samples: int = 20) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples

    def __iter__(self) -> Iterator[int]:
        return iter(range(2 * COUNT))


def promising() -> DataLoader[Any]:
    return DataLoader(samples(COUNT), sampler=Promises(), batch_size=2)


@pytest.mark.parametrize(
    ("accumulate", "windows"),
    [(1, [[0], [1], [2], [3], [4]]), (2, [[0, 1], [2, 3], [4]]), (3, [[0, 1, 2], [3, 4]]), (7, [[0, 1, 2, 3, 4]])],
)
def test_the_last_window_is_stepped_although_more_batches_were_promised(
    tmp_path: Path, accumulate: int, windows: list[list[int]]
) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, promising())
    assert trainer.num_training_batches == 10
    assert trainer.global_step == 2 * len(windows)
    # Its losses were divided by the window's full size, and the gradients are rescaled.
    assert_close(module.net.state_dict(), trained_plainly(windows, epochs=2))


def test_an_optimizer_step_of_the_users_own_takes_that_step_too(tmp_path: Path) -> None:
    steps: list[int] = []

    class Own(Learner):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any) -> None:  # type: ignore[override]
            steps.append(batch_idx)
            optimizer.step(closure=optimizer_closure)

    module = Own()
    trainer = trainer_in(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(module, promising())
    assert (steps, trainer.global_step) == ([1, 3, 4], 3)
    assert_close(module.net.state_dict(), trained_plainly([[0, 1], [2, 3], [4]]))


def test_validation_at_the_end_of_the_epoch_runs_although_more_batches_were_promised(tmp_path: Path) -> None:
    module = Learner()
    trainer_in(tmp_path, max_epochs=2).fit(module, promising(), [BATCHES[:1]])
    assert module.marks == ["t0", "t1", "t2", "t3", "t4", "v"] * 2


def test_validation_by_batches_runs_no_second_time(tmp_path: Path) -> None:
    module = Learner()
    trainer_in(tmp_path, max_epochs=1, val_check_interval=5).fit(module, promising(), [BATCHES[:1]])
    assert module.marks == ["t0", "t1", "t2", "t3", "t4", "v"]


def test_schedulers_loggers_and_hooks_see_the_late_step(tmp_path: Path) -> None:
    events: list[str] = []

    class Schedules(Learner):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=1.0)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    class Hears(Callback):
        order = Order.LAST

        def on_before_optimizer_step(self, *args: Any) -> None:
            events.append("step")

        def on_train_batch_end(self, *args: Any) -> None:
            events.append("batch")

        def on_train_epoch_end(self, *args: Any) -> None:
            events.append("epoch")

    rows = Rows()
    settings = {"accumulate_grad_batches": 2, "logger": rows, "log_every_n_steps": 1}
    trainer = trainer_in(tmp_path, Hears(), max_epochs=1, **settings)
    trainer.fit(Schedules(), promising())
    assert events == ["batch", "step", "batch", "batch", "step", "batch", "batch", "step", "epoch"]
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.5**3
    assert [step for step, row in rows.rows if "loss" in row] == [0, 1, 2]


def test_an_empty_window_is_not_stepped(tmp_path: Path) -> None:
    module = Learner()
    trainer = trainer_in(tmp_path, max_epochs=1, accumulate_grad_batches=5)
    trainer.fit(module, promising())
    assert trainer.global_step == 1


@pytest.mark.parametrize("collection", ["one", "several"])
def test_batches_that_teach_nothing_are_left_out_of_the_mean_of_their_window(tmp_path: Path, collection: str) -> None:
    class Picky(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            batch = batch if collection == "one" else batch["a"]
            return None if batch_idx == 1 else loss_of(self.net, batch)

    module = Picky()
    loader: Iterable[Any] = DataLoader(samples(COUNT), batch_size=2)
    trainer = trainer_in(tmp_path, max_epochs=1, accumulate_grad_batches=1)
    with pytest.warns(UserWarning, match="training_step returned None: nothing is learned from this batch"):
        trainer.fit(module, loader if collection == "one" else {"a": loader, "b": [0, 1]})
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for index, batch in enumerate(BATCHES):
        optimizer.zero_grad()
        if index != 1:
            loss_of(net, batch).backward()
        optimizer.step()  # without gradients torch leaves the weights alone
    assert equal(module.net.state_dict(), net.state_dict())
