"""`Trainer(overfit_batches=...)`: the same few batches in every epoch."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.loaders.combined import CombinedLoader

from .fitting import trainer_in

COUNT = 8

NUMBERS = TensorDataset(torch.arange(COUNT))
OTHERS = TensorDataset(torch.arange(100, 100 + COUNT))

SHUFFLING = r"overfit_batches=.* uses the same batches in every epoch, and the {} dataloader has a sampler that may"


class Looks(LightningModule):
    """Writes down the numbers of each epoch, and those of each validation."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[list[Any]] = []
        self.validations: list[list[int]] = []

    def on_train_epoch_start(self) -> None:
        self.epochs.append([])

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        flat = [part[0].tolist() for part in (batch if isinstance(batch[0], list) else [batch])]
        self.epochs[-1].append(flat if len(flat) > 1 else flat[0])
        return torch.zeros((), requires_grad=True)

    def on_validation_epoch_start(self) -> None:
        self.validations.append([])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validations[-1] += batch[0].tolist()

    def test_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.validations[-1] += batch[0].tolist()

    def on_test_epoch_start(self) -> None:
        self.validations.append([])

    def configure_optimizers(self) -> None: ...


pytestmark = pytest.mark.filterwarnings("ignore:Looks.configure_optimizers:UserWarning")


def shuffled(dataset: Dataset[Any] = NUMBERS, **arguments: Any) -> DataLoader[Any]:
    return DataLoader(dataset, **({"batch_size": 2, "shuffle": True} | arguments))


@pytest.mark.parametrize(
    ("overfit", "batches"), [(1, 1), (3, 3), (0.5, 2), (0.25, 1), (1.0, 4), (7, 4)], ids=lambda value: repr(value)
)
def test_the_first_batches_come_in_every_epoch_in_their_order(tmp_path: Path, overfit: Any, batches: int) -> None:
    module, trainer = Looks(), trainer_in(tmp_path, max_epochs=3, overfit_batches=overfit)
    with pytest.warns(UserWarning, match=SHUFFLING.format("train")):
        trainer.fit(module, shuffled(), DataLoader(OTHERS, batch_size=2))
    expected = [[2 * index, 2 * index + 1] for index in range(batches)]
    assert module.epochs == [expected] * 3
    # Validation uses its own loader, and as much of it.
    assert module.validations == [[100 + index for index in range(2 * batches)]] * 3
    assert (trainer.num_training_batches, trainer.num_val_batches) == (batches, [batches])
    assert trainer.overfit_batches == overfit


def test_validation_that_shuffles_is_put_in_order_too(tmp_path: Path) -> None:
    module = Looks()
    with pytest.warns(UserWarning, match=SHUFFLING.format("val")):
        trainer_in(tmp_path, overfit_batches=2).fit(module, DataLoader(NUMBERS, batch_size=2), shuffled(OTHERS))
    assert module.validations == [[100, 101, 102, 103]] * 2


@pytest.mark.filterwarnings("error:overfit_batches:UserWarning")
def test_a_loader_that_does_not_shuffle_is_used_as_it_is_without_a_word(tmp_path: Path) -> None:
    module, loader = Looks(), DataLoader(NUMBERS, batch_size=2)
    trainer = trainer_in(tmp_path, overfit_batches=1)
    trainer.fit(module, loader)
    assert module.epochs == [[[0, 1]]] * 2
    assert trainer.train_dataloader is loader


SAMPLERS = {
    "random": lambda: RandomSampler(NUMBERS),
    "a part": lambda: SubsetRandomSampler([7, 6, 5]),
    "weighted": lambda: WeightedRandomSampler([1.0] * COUNT, num_samples=3),
    "distributed": lambda: DistributedSampler(NUMBERS, num_replicas=1, rank=0),
    "a list": lambda: [7, 6, 5],
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("how", ["sampler", "batch_sampler", "without batches"])
def test_any_sampler_is_replaced_and_lengths_are_those_of_the_dataset(tmp_path: Path, make: Any, how: str) -> None:
    sampler = make()
    arguments: dict[str, dict[str, Any]] = {
        "sampler": {"sampler": sampler, "batch_size": 3, "drop_last": True},
        "batch_sampler": {"batch_sampler": BatchSampler(sampler, 3, drop_last=True)},
        "without batches": {"sampler": sampler, "batch_size": None},
    }
    loader: DataLoader[Any] = DataLoader(NUMBERS, **arguments[how])
    module, trainer = Looks(), trainer_in(tmp_path, overfit_batches=1.0)
    with pytest.warns(UserWarning, match="is replaced by one that does not"):
        trainer.fit(module, loader)
    in_order = list(range(COUNT)) if how == "without batches" else [[0, 1, 2], [3, 4, 5]]
    assert module.epochs == [in_order] * 2
    assert trainer.num_training_batches == len(in_order)
    # The user's own loader is as it was.
    assert loader.sampler is sampler or loader.batch_sampler.sampler is sampler  # type: ignore[union-attr]


class Buckets(Sampler[list[int]]):
    """A batch sampler of one's own, which draws new batches each time."""

    def __init__(self) -> None:
        self.times = 0

    def __len__(self) -> int:
        return 4

    def __iter__(self) -> Iterator[list[int]]:
        self.times += 1
        return iter(torch.randperm(COUNT).view(4, 2).tolist())


def test_a_batch_sampler_of_ones_own_is_asked_once_and_its_batches_are_repeated(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.randperm(COUNT).view(4, 2).tolist()[:2]
    torch.manual_seed(3)
    module, buckets = Looks(), Buckets()
    with pytest.warns(UserWarning, match=SHUFFLING.format("train")):
        trainer_in(tmp_path, overfit_batches=2, max_epochs=3).fit(module, DataLoader(NUMBERS, batch_sampler=buckets))
    assert module.epochs == [expected] * 3
    assert buckets.times == 1


def test_a_loader_of_ones_own_class_keeps_what_it_is(tmp_path: Path) -> None:
    class Named(DataLoader[Any]):
        def __init__(self, name: str) -> None:
            super().__init__(NUMBERS, batch_size=2, shuffle=True, collate_fn=self.collate)
            self.name = name

        def collate(self, samples: list[Any]) -> list[Tensor]:
            return [torch.stack([sample[0] for sample in samples]) + len(self.name)]

    module, trainer = Looks(), trainer_in(tmp_path, overfit_batches=1, max_epochs=1)
    with pytest.warns(UserWarning, match=SHUFFLING.format("train")):
        trainer.fit(module, Named("ten"))
    assert module.epochs == [[[3, 4]]]
    assert (type(trainer.train_dataloader), trainer.train_dataloader.name) == (Named, "ten")


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([[torch.tensor([index])] for index in range(5)])


@pytest.mark.filterwarnings("error:overfit_batches:UserWarning")
@pytest.mark.parametrize("loader", [DataLoader(Stream(), batch_size=None), Stream()], ids=["a DataLoader", "itself"])
def test_a_stream_comes_in_its_own_order(tmp_path: Path, loader: Any) -> None:
    module = Looks()
    trainer_in(tmp_path, overfit_batches=2).fit(module, loader)
    assert module.epochs == [[[0], [1]]] * 2


def test_a_fraction_of_a_stream_names_the_argument_that_was_passed(tmp_path: Path) -> None:
    message = r"overfit_batches=0\.5 is a fraction, and the train dataloader has no length.*overfit_batches=100"
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, overfit_batches=0.5).fit(Looks(), DataLoader(Stream(), batch_size=None))
    with pytest.raises(MisconfigurationError, match=r"overfit_batches=0\.1 of 4 batches is less than one batch"):
        trainer_in(tmp_path, overfit_batches=0.1).fit(Looks(), DataLoader(NUMBERS, batch_size=2))


def test_several_loaders_are_put_in_order_each(tmp_path: Path) -> None:
    module = Looks()
    given = CombinedLoader([shuffled(), DataLoader(OTHERS, batch_size=4)], "max_size_cycle")
    with pytest.warns(UserWarning, match=SHUFFLING.format("train")):
        trainer_in(tmp_path, overfit_batches=3).fit(module, given)
    one, other = [[0, 1], [2, 3], [4, 5]], [[100, 101, 102, 103], [104, 105, 106, 107]]
    assert module.epochs == [[[one[index], other[index % 2]] for index in range(3)]] * 2
    assert isinstance(given.flattened[0].sampler, RandomSampler)


def test_it_takes_the_place_of_other_limits_but_not_of_those_of_a_test(tmp_path: Path) -> None:
    module = Looks()
    limits = {"limit_train_batches": 3, "limit_val_batches": 3, "limit_test_batches": 2}
    trainer = trainer_in(tmp_path, overfit_batches=1, max_epochs=1, **limits)
    trainer.fit(module, DataLoader(NUMBERS, batch_size=2), DataLoader(OTHERS, batch_size=2))
    trainer.test(module, DataLoader(OTHERS, batch_size=2), verbose=False)
    assert (module.epochs, module.validations) == ([[[0, 1]]], [[100, 101], [100, 101, 102, 103]])


def test_a_trial_run_uses_as_many_batches_as_it_says(tmp_path: Path) -> None:
    module = Looks()
    trainer_in(tmp_path, overfit_batches=2, fast_dev_run=True).fit(module, DataLoader(NUMBERS, batch_size=2))
    assert module.epochs == [[[0, 1], [2, 3]]]


def test_it_works_with_workers(tmp_path: Path) -> None:
    module = Looks()
    with pytest.warns(UserWarning, match=SHUFFLING.format("train")):
        trainer_in(tmp_path, overfit_batches=2).fit(module, shuffled(num_workers=2, persistent_workers=True))
    assert module.epochs == [[[0, 1], [2, 3]]] * 2
