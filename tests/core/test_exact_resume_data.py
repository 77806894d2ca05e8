"""A resumed run gets the batches that the uninterrupted one got from there on, random augmentation included."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset, IterableDataset

from hookloop import Callback, LightningModule, Order
from hookloop.errors import CheckpointError
from hookloop.utilities import CombinedLoader
from hookloop.view import TrainerView

from .fitting import assert_same_training, trainer_in
from .interrupted import Case, assert_goes_on, run

SAMPLES = 10


class Augmented(Dataset[Tensor]):
    """Each sample: its index, and a draw from each global generator. What is read in this process is written down."""

    def __init__(self, samples: int = SAMPLES) -> None:
        self.samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Tensor:
        self.read.append(index)
        return torch.tensor([index, torch.rand(()).item(), random.random(), numpy.random.rand()])


class Learns(LightningModule):
    """Learns from whatever tensors are in a batch, drops out, and keeps the batches that it got."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(7)
            self.net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))
        self.got: list[Any] = []

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.got.append((batch_idx, plain(batch)))
        loss: Tensor = sum((self.net(part).square().mean() for part in tensors(batch)), start=torch.zeros(()))
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.got.append(("val", batch_idx, plain(batch)))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.01)
        total = self.trainer.estimated_stepping_batches
        if total == float("inf"):
            return optimizer
        scheduler = OneCycleLR(optimizer, max_lr=0.1, total_steps=int(total))
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


def tensors(batch: Any) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch.reshape(-1, 4)
    elif isinstance(batch, dict):
        for part in batch.values():
            yield from tensors(part)
    elif isinstance(batch, list | tuple):
        for part in batch:
            yield from tensors(part)


def plain(batch: Any) -> Any:
    return [part.tolist() for part in tensors(batch)]


class SavesAll(Callback):
    """Saves whenever a training step, a validation or an epoch is over."""

    order = Order.LAST

    def __init__(self, folder: Path, module: Learns) -> None:
        self.folder, self.module = folder, module
        self.moments: list[tuple[Path, int]] = []

    def save(self, trainer: TrainerView, *args: Any) -> None:
        path = self.folder / f"{len(self.moments)}.ckpt"
        trainer.save_checkpoint(path)
        self.moments.append((path, len(self.module.got)))

    on_train_batch_end = on_validation_end = on_train_epoch_end = save  # type: ignore[assignment]


def shuffled() -> Any:
    return DataLoader(Augmented(), batch_size=2, shuffle=True)


def in_order() -> Any:
    return DataLoader(Augmented(), batch_size=3)


def with_a_generator() -> Any:
    return DataLoader(Augmented(), batch_size=2, shuffle=True, generator=torch.Generator().manual_seed(11))


def with_workers() -> Any:
    return DataLoader(Augmented(), batch_size=2, shuffle=True, num_workers=2)


def with_persistent_workers() -> Any:
    return DataLoader(Augmented(), batch_size=2, shuffle=True, num_workers=2, persistent_workers=True)


def a_dict() -> Any:
    short = DataLoader(Augmented(4), batch_size=2, shuffle=True)
    return {"long": shuffled(), "short": short}


def of_mode(mode: Any) -> Callable[[], Any]:
    def make() -> Any:
        short = DataLoader(Augmented(5), batch_size=2, shuffle=True)
        return CombinedLoader([short, shuffled(), with_a_generator()], mode)

    make.__name__ = mode
    return make


def samplers_of_their_own() -> Any:
    return CombinedLoader({"a": with_a_generator(), "b": [in_order(), shuffled()]}, "min_size")


KINDS = [
    shuffled,
    in_order,
    with_a_generator,
    with_workers,
    with_persistent_workers,
    a_dict,
    of_mode("max_size_cycle"),
    of_mode("max_size"),
    of_mode("min_size"),
    of_mode("sequential"),
    samplers_of_their_own,
]


@pytest.mark.parametrize("make", KINDS, ids=lambda make: make.__name__)
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_batches_and_weights_are_those_of_the_uninterrupted_run(make: Callable[[], Any], tmp_path: Path) -> None:
    validation = with_workers if make is with_workers else in_order
    module = Learns()
    saver = SavesAll(tmp_path, module)
    straight = trainer_in(tmp_path, saver, val_check_interval=2)
    seed(3)
    straight.fit(module, make(), validation())
    assert len(saver.moments) >= 8

    # With workers each resume starts processes: every third moment will do.
    for number, (path, got) in list(enumerate(saver.moments))[:: 3 if "workers" in make.__name__ else 1]:
        seed(100 + number)
        again = Learns()
        resumed = trainer_in(tmp_path, val_check_interval=2)
        resumed.fit(again, make(), validation(), ckpt_path=path)
        assert again.got == module.got[got:], path
        assert_same_training(resumed, straight)


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_loader_that_an_epoch_does_not_come_to_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    arguments = {"max_epochs": 3, "max_steps": 8, "limit_train_batches": 0.7}
    case = Case(loader="sequential", batches=3, arguments=arguments)
    straight = run(case, tmp_path / "straight", turns=lambda number: number > 4, hooks=("on_train_batch_end",))
    assert len(straight.moments) == 3
    for moment in straight.moments:
        assert_goes_on(straight, moment, run(case, tmp_path / "resumed", ckpt_path=moment.path, seed=100))


def seed(number: int) -> None:
    torch.manual_seed(number)
    random.seed(number)
    numpy.random.seed(number)


@pytest.mark.parametrize("k", range(1, 5))
def test_samples_that_are_done_are_not_read_again(k: int, tmp_path: Path) -> None:
    module = Learns()
    saver = SavesAll(tmp_path, module)
    seed(3)
    first = Augmented()
    trainer_in(tmp_path, saver, max_epochs=1).fit(module, DataLoader(first, batch_size=2, shuffle=True))

    data = Augmented()
    trainer_in(tmp_path, max_epochs=1).fit(
        Learns(), DataLoader(data, batch_size=2, shuffle=True), ckpt_path=saver.moments[k - 1][0]
    )

    assert data.read == first.read[2 * k :]


class Stream(IterableDataset[Tensor]):
    """Has no length; draws nothing."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def __iter__(self) -> Iterator[Tensor]:
        for index in range(SAMPLES):
            self.read.append(index)
            yield torch.full((4,), float(index))


class Clock:
    """Stands in for time.monotonic: an hour passes between two looks."""

    def __init__(self) -> None:
        self.hours = 0

    def __call__(self) -> float:
        self.hours += 1
        return 3600.0 * self.hours


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_stream_is_read_and_left_out_up_to_the_position(workers: int, tmp_path: Path) -> None:
    def make() -> Any:
        return DataLoader(Stream(), batch_size=2, num_workers=workers)

    module = Learns()
    saver = SavesAll(tmp_path, module)
    straight = trainer_in(tmp_path, saver)
    seed(3)
    straight.fit(module, make())

    for number, (path, got) in list(enumerate(saver.moments))[:: 4 if workers else 1]:
        seed(100 + number)
        again = Learns()
        resumed = trainer_in(tmp_path)
        resumed.fit(again, make(), ckpt_path=path)
        assert again.got == module.got[got:], path
        assert_same_training(resumed, straight)


def test_reading_what_was_done_says_how_long_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Learns()
    saver = SavesAll(tmp_path, module)
    trainer_in(tmp_path, saver, max_epochs=1).fit(module, DataLoader(Stream(), batch_size=2))
    monkeypatch.setattr("hookloop.loaders.place.time.monotonic", Clock())

    with pytest.warns(
        UserWarning, match=r"3 batches that were done before were read and left out, which took 3600.0 s"
    ):
        trainer_in(tmp_path, max_epochs=1).fit(
            Learns(), DataLoader(Stream(), batch_size=2), ckpt_path=saver.moments[2][0]
        )


class Stateful:
    """A loader that knows where it is, as torchdata's StatefulDataLoader does; it has no length."""

    def __init__(self) -> None:
        self.next = 0
        self.read: list[int] = []

    def __iter__(self) -> Iterator[Tensor]:
        while self.next < SAMPLES // 2:
            self.read.append(self.next)
            self.next += 1
            yield torch.full((2, 4), float(self.next - 1))
        self.next = 0

    def state_dict(self) -> dict[str, Any]:
        return {"next": self.next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.next = state["next"]


@pytest.mark.filterwarnings("ignore:There is nothing to train")
def test_a_loader_that_knows_where_it_is_goes_on_there_and_reads_nothing_twice(tmp_path: Path) -> None:
    module = Learns()
    saver = SavesAll(tmp_path, module)
    straight = trainer_in(tmp_path, saver)
    seed(3)
    first = Stateful()
    straight.fit(module, first)
    assert first.read == [0, 1, 2, 3, 4] * 2

    for number, (path, got) in enumerate(saver.moments):
        seed(100 + number)
        again, loader = Learns(), Stateful()
        resumed = trainer_in(tmp_path)
        resumed.fit(again, loader, ckpt_path=path)
        assert again.got == module.got[got:], path
        assert loader.read == first.read[len(first.read) - len(again.got) :]
        assert_same_training(resumed, straight)


def test_another_number_of_loaders_is_an_error(tmp_path: Path) -> None:
    module = Learns()
    saver = SavesAll(tmp_path, module)
    trainer_in(tmp_path, saver).fit(module, a_dict())

    with pytest.raises(CheckpointError, match=r"saved with 2 training loader\(s\), and this run has 1"):
        trainer_in(tmp_path).fit(Learns(), in_order(), ckpt_path=saver.moments[0][0])


def test_what_the_user_passed_keeps_its_loaders(tmp_path: Path) -> None:
    combined = CombinedLoader([shuffled(), with_a_generator()], "min_size")
    before = list(combined.flattened)
    trainer = trainer_in(tmp_path, max_epochs=1)
    trainer.fit(Learns(), combined)
    assert all(one is other for one, other in zip(combined.flattened, before, strict=True))
    assert all(one is other for one, other in zip(trainer.train_dataloader, before, strict=True))
