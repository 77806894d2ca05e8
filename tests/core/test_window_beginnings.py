"""What is kept of a window's beginning: a save in the middle of it writes what a save right before it has written."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from hookloop import Callback, LightningModule, Order
from hookloop.run.random_marks import RandomMarks, told
from hookloop.view import TrainerView

from .fitting import Batch, equal, samples, trainer_in

BATCHES = 8
OF_A_WINDOW = ("callback_metrics", "logged", "random_state", "loaders", "asked_to_stop", "state_dict")
"""Entries of a checkpoint that a window's beginning decides; weights are the same all through it."""


@pytest.fixture(autouse=True)
def generators() -> Iterator[None]:
    """Every generator is afterwards what it was before."""
    python, numpy, own = random.getstate(), np.random.get_state(legacy=False), vars(np.random)["get_bit_generator"]()
    yield
    random.setstate(python)
    vars(np.random)["set_bit_generator"](own)
    np.random.set_state(numpy)


class Sum:
    """A metric object: a total in place, a list that is added to, and a number."""

    def __init__(self) -> None:
        self.total, self.seen, self.count = torch.zeros(()), list[Tensor](), 0

    def update(self, value: Tensor) -> None:
        self.total += value
        self.seen.append(value)
        self.count += 1

    def compute(self) -> Tensor:
        return self.total / max(self.count, 1)

    def reset(self) -> None:
        self.total, self.seen, self.count = torch.zeros(()), [], 0


class SumModule(nn.Module, Sum):
    """The same as a module, as torchmetrics' are."""

    def __init__(self) -> None:
        nn.Module.__init__(self)
        Sum.__init__(self)

    def forward(self, x: Tensor) -> Tensor:
        return x  # it may stand among layers

    update, compute, reset = Sum.update, Sum.compute, Sum.reset


class Plain(LightningModule):
    """Counts its batches, and leaves to others what else happens in one."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
        self.batch = -1

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.batch += 1
        loss = functional.mse_loss(self.net(batch[1]), batch[2])
        self.each(self.batch, loss)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val", functional.mse_loss(self.net(batch[1]), batch[2]))

    def each(self, number: int, loss: Tensor) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net.parameters(), lr=0.05)


class Draws(Plain):
    def each(self, number: int, loss: Tensor) -> None:
        draws: list[Callable[[], Any]] = [
            lambda: None,
            random.random,
            lambda: random.gauss(0, 1),
            np.random.rand,
            np.random.randn,
            lambda: torch.rand(()),
            np.random.randn,
            lambda: random.gauss(0, 1),
        ]
        draws[number % len(draws)]()


class OnlyDropout(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.net.insert(2, nn.Dropout(0.5))


class Logs(Plain):
    def each(self, number: int, loss: Tensor) -> None:
        value = loss.detach().clone()
        self.log("mean", value, on_step=True, on_epoch=True, prog_bar=True)
        self.log("largest", value, on_epoch=True, reduce_fx="max")
        self.log("count", float(number), on_epoch=True, reduce_fx="sum")
        if number > 2:
            self.log("late", value, on_step=False, on_epoch=True)
        value += 1


class Metrics(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = Sum(), SumModule()
        self.net.inner = Sum()  # type: ignore[assignment]

    def each(self, number: int, loss: Tensor) -> None:
        if number == 3:
            self.one = Sum()
        if number == 5:
            self.other, self.net.inner = SumModule(), Sum()  # type: ignore[assignment]
        for name, metric in (("one", self.one), ("other", self.other), ("inner", self.net.inner)):
            assert isinstance(metric, Sum)
            metric.update(loss.detach())
            self.log(name, metric, on_epoch=True)


class LateMetrics(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.one: Sum | None = None

    def each(self, number: int, loss: Tensor) -> None:
        if number == 2:
            self.one = Sum()
        if number == 4:
            self.net.inner = SumModule()
        for name, metric in (("one", self.one), ("inner", getattr(self.net, "inner", None))):
            if metric is not None:
                metric.update(loss.detach())
                self.log(name, metric, on_epoch=True)


class Normalized(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.Sequential(nn.BatchNorm1d(4)))
        self.register_buffer("last", torch.zeros(()))

    def each(self, number: int, loss: Tensor) -> None:
        self.last = loss.detach() if number % 3 else loss.detach().double()


class OtherBuffers(Plain):
    """Gets buffers, and parts with buffers, deep inside of it, in the middle of an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.net.insert(1, nn.Sequential(nn.BatchNorm1d(4), nn.Identity()))

    def each(self, number: int, loss: Tensor) -> None:
        inner = self.net[1]
        assert isinstance(inner, nn.Sequential)
        if number == 2:
            inner[0] = nn.BatchNorm1d(4)  # in the place of another one
        if number == 3:
            inner[1].register_buffer("late", torch.zeros(2))  # by a part that had none
        if number > 3:
            inner[1].late += 1  # type: ignore[operator, assignment]
        if number == 5:
            inner.add_module("more", nn.BatchNorm1d(4))


class Stops(Plain):
    def each(self, number: int, loss: Tensor) -> None:
        self.trainer.should_stop = number == 3


MODULES = [Plain, Draws, OnlyDropout, Logs, Metrics, LateMetrics, Normalized, OtherBuffers, Stops]


class ByHand(Draws):
    """Steps after every second batch, and adds gradients up until then."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Batch, batch_idx: int) -> None:  # type: ignore[override]
        loss = super().training_step(batch, batch_idx)
        self.manual_backward(loss)
        if batch_idx % 2:
            optimizer: Any = self.optimizers()
            optimizer.step()
            optimizer.zero_grad()


class Tally(Callback):
    """A state that changes in place."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, trainer: TrainerView, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(batch_idx)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


class Watch(Callback):
    """Saves right before each window, and in each of its batches, and compares."""

    order = Order.LAST

    def __init__(self, folder: Path, window: int, also: tuple[str, ...] = ()) -> None:
        self.path, self.window, self.entries = folder / "watch.ckpt", window, OF_A_WINDOW + also
        self.before: dict[str, Any] = {}
        self.compared = 0

    def saved(self, trainer: TrainerView) -> dict[str, Any]:
        trainer.save_checkpoint(self.path)
        entries: dict[str, Any] = torch.load(self.path, weights_only=True)
        return entries

    def on_train_epoch_start(self, trainer: TrainerView, pl_module: Any) -> None:
        self.before = self.saved(trainer)

    def on_after_backward(self, trainer: TrainerView, pl_module: Any) -> None:
        inside = self.saved(trainer)
        for name in self.entries:
            if name == "state_dict":  # of parts that are there no more, and those that have come since, nothing is kept
                same = {key for key, _ in pl_module.named_buffers() if key in self.before[name]}
                assert all(equal(inside[name][key], self.before[name][key]) for key in same), name
            else:
                assert equal(inside.get(name), self.before.get(name)), name
        self.compared += 1

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % self.window == 0:
            self.before = self.saved(trainer)


def shuffled(seed: int = 1) -> DataLoader[Any]:
    return DataLoader(samples(BATCHES), 2, shuffle=True, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("module", MODULES)
def test_a_save_inside_of_a_window_writes_what_a_save_before_it_wrote(
    module: Callable[[], Plain], window: int, tmp_path: Path
) -> None:
    watch = Watch(tmp_path, window, ("callbacks",) if window > 1 else ())
    trainer = trainer_in(tmp_path, Tally(), watch, accumulate_grad_batches=window)
    trainer.fit(module(), DataLoader(samples(9), 2, shuffle=True))

    assert watch.compared >= (4 if module is Stops else 18)


def test_gradients_that_are_added_up_by_hand_are_those_of_before(tmp_path: Path) -> None:
    watch = Watch(tmp_path, 1, ("gradients",))
    trainer_in(tmp_path, watch).fit(ByHand(), shuffled())

    assert watch.compared == 2 * BATCHES


LOADERS: dict[str, Callable[[], Any]] = {
    "own generator": shuffled,
    "sampler's generator": lambda: DataLoader(
        samples(BATCHES), 2, sampler=RandomSampler(samples(BATCHES), generator=torch.Generator().manual_seed(4))
    ),
    "several": lambda: {"a": shuffled(2), "b": DataLoader(TensorDataset(torch.ones(3, 1)), shuffle=True)},
}


class OfSeveral(Draws):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"] if isinstance(batch, dict) else batch, batch_idx)


@pytest.mark.parametrize("validations", [0, 1], ids=["never validated before", "sanity check"])
@pytest.mark.parametrize("kind", LOADERS)
def test_validation_loaders_that_come_inside_of_an_epoch_are_kept_too(
    kind: str, validations: int, tmp_path: Path
) -> None:
    watch = Watch(tmp_path, 1)
    trainer = trainer_in(tmp_path, watch, val_check_interval=3, num_sanity_val_steps=validations)
    # A validation comes between a batch's end and the next window: what was saved before is that of its end.
    vars(watch)["on_validation_end"] = lambda trainer, module: setattr(watch, "before", watch.saved(trainer))
    trainer.fit(OfSeveral(), LOADERS[kind](), shuffled(5))

    assert watch.compared == 2 * BATCHES


# Random states alone

DRAWS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "python": random.random,
    "python's normal": lambda: random.gauss(0, 1),
    "python's bytes": lambda: random.randbytes(9),
    "python seeded": lambda: random.seed(5),
    "numpy": np.random.rand,
    "numpy's normal": np.random.randn,
    "numpy's integers": lambda: np.random.randint(3),
    "numpy seeded": lambda: np.random.seed(5),
    "numpy twister": lambda: vars(np.random)["set_bit_generator"](np.random.MT19937(7)),
    "torch": lambda: torch.rand(()),
    "torch seeded": lambda: torch.manual_seed(5),
}


def states_now() -> dict[str, Any]:
    state: Any = np.random.get_state()
    name, keys, *others = state
    return {
        "python": random.getstate(),
        "torch": torch.get_rng_state(),
        "numpy": (name, torch.tensor(keys.tolist()), *others),
    }


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(st.lists(st.sampled_from(list(DRAWS)), max_size=12))
def test_a_mark_is_the_state_of_every_generator_whatever_was_drawn(names: list[str]) -> None:
    marks = RandomMarks()
    taken, expected = [marks.take()], [states_now()]
    for name in names:
        DRAWS[name]()
        expected.append(states_now())
        taken.append(marks.take())

    assert all(equal(told(mark), state) for mark, state in zip(taken, expected, strict=True))


def test_a_normal_number_that_is_put_back_alone_is_seen() -> None:
    np.random.randn()
    with_one_in_advance = np.random.get_state()
    np.random.randn()  # takes it; the generator behind it stays as it is
    marks = RandomMarks()
    marks.take()
    np.random.set_state(with_one_in_advance)

    assert told(marks.take())["numpy"][3] == 1


def test_nothing_is_taken_of_generators_from_which_nothing_was_drawn() -> None:
    marks = RandomMarks()
    np.random.seed(5)  # no normal number is drawn in advance
    first, second = marks.take(), marks.take()

    assert second[0] is first[0]
    assert second[2] is first[2]
