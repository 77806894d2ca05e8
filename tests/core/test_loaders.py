"""Where batches come from: who supplies the loaders, and how they are gone through, one batch after the other."""

import itertools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, DistributedSampler, IterableDataset, SequentialSampler

from hookloop import LightningDataModule, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.limits import Limits
from hookloop.loaders import Loaders, Source, iterate
from hookloop.loaders.iterate import keeps_its_length, length

from .recording import Batch, QuietModule, make_trainer

# Loaders of every kind. Each counts in `read` how many of its batches, which are numbers, were taken out.


class Numbers(Dataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        self.read += 1
        return index


class Stream(IterableDataset[int]):
    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            self.read += 1
            yield number


class Estimate(Stream):
    """Says how many there are, and may be wrong."""

    promised: int

    def __len__(self) -> int:
        return self.promised


class OldStyle:
    """Can be iterated by its indices alone, as before there were iterators."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.read = 0

    def __getitem__(self, index: int) -> int:
        if index >= self.count:
            raise IndexError(index)
        self.read += 1
        return index


def loader_of(dataset: Any) -> Any:
    return DataLoader(dataset, batch_size=None)


def estimate(count: int, promised: int) -> Estimate:
    made = Estimate(count)
    made.promised = promised
    return made


# A name, and from a number of batches to the loader and to whatever counts the reads, if anything does.
KINDS: dict[str, Callable[[int], tuple[Any, Any]]] = {
    "a DataLoader": lambda count: (lambda data: (loader_of(data), data))(Numbers(count)),
    "a DataLoader of a stream": lambda count: (lambda data: (loader_of(data), data))(Stream(count)),
    "a DataLoader of a stream with a length": lambda count: (lambda data: (loader_of(data), data))(
        estimate(count, count)
    ),
    "a list": lambda count: (list(range(count)), None),
    "a tuple": lambda count: (tuple(range(count)), None),
    "a range": lambda count: (range(count), None),
    "an iterable without a length": lambda count: (lambda data: (data, data))(Stream(count)),
    "an iterable with a length": lambda count: (lambda data: (data, data))(estimate(count, count)),
    "an object with indices": lambda count: (lambda data: (data, data))(OldStyle(count)),
    "a generator": lambda count: ((number for number in range(count)), None),
}
SURE = {"a DataLoader", "a list", "a tuple", "a range"}
WITHOUT_LENGTH = {"a DataLoader of a stream", "an iterable without a length", "an object with indices", "a generator"}


def taken(count: int, batches: float, skip: int) -> list[tuple[int, int, bool]]:
    """What is to come: index, batch, and whether it is the last one."""
    used = min(count, batches)
    return [(index, index, index == used - 1) for index in range(count) if skip <= index < used]


@pytest.mark.parametrize("kind", KINDS)
def test_batches_come_with_their_index_and_the_last_one_is_known(kind: str) -> None:
    for count, skip in itertools.product([0, 1, 2, 5], [0, 1, 2, 5, 7]):
        limits = [limit for limit in (0, 1, 2, 4, 5) if limit <= count]
        for batches in [*limits, math.inf] if kind in WITHOUT_LENGTH else [*limits, count]:
            loader, _ = KINDS[kind](count)
            assert list(iterate(loader, batches, skip)) == taken(count, batches, skip), (count, batches, skip)


@pytest.mark.parametrize("kind", KINDS)
def test_a_length_is_known_or_infinite(kind: str) -> None:
    loader, _ = KINDS[kind](3)
    assert length(loader) == (math.inf if kind in WITHOUT_LENGTH else 3)
    assert keeps_its_length(loader) is (kind in SURE)


def test_a_length_that_cannot_be_told_is_infinite() -> None:
    class Shy:
        def __len__(self) -> int:
            raise NotImplementedError

        def __iter__(self) -> Iterator[int]:
            return iter([0])

    assert length(Shy()) == math.inf


@pytest.mark.parametrize(("promised", "count"), [(5, 3), (3, 5), (3, 0), (0, 3)])
def test_a_promised_length_is_a_limit_and_the_last_batch_is_the_last_that_came(promised: int, count: int) -> None:
    for loader in (loader_of(estimate(count, promised)), estimate(count, promised)):
        assert list(iterate(loader, length(loader))) == taken(count, promised, 0)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind](0)[1] is not None])
@pytest.mark.parametrize("batches", [1, 3, 5])
def test_no_batch_too_many_is_read(kind: str, batches: int) -> None:
    loader, counter = KINDS[kind](5)
    ahead = 0 if kind in SURE else 1
    iterator = iterate(loader, batches)
    assert counter.read == 0
    for number, _ in enumerate(iterator, start=1):
        # To know that a batch is the last one, the next has to be seen, but never one behind the limit.
        assert counter.read == min(number + ahead, batches)
    assert counter.read == batches


@pytest.mark.parametrize("kind", ["a DataLoader of a stream", "an iterable without a length", "a generator"])
def test_a_loader_without_a_length_is_read_one_batch_ahead_and_no_more(kind: str) -> None:
    loader, counter = KINDS[kind](5)
    for number, (_, _, is_last) in enumerate(iterate(loader, math.inf), start=1):
        assert is_last is (number == 5)
        assert counter is None or counter.read == min(number + 1, 5)


def test_batches_that_are_skipped_are_read_and_left_out() -> None:
    data = Numbers(5)
    assert next(iter(iterate(loader_of(data), 5, skip=3))) == (3, 3, False)
    assert data.read == 4


def test_none_is_a_batch_like_any_other() -> None:
    assert list(iterate([None, None], 2)) == [(0, None, False), (1, None, True)]
    assert list(iterate(iter([None, None]), math.inf)) == [(0, None, False), (1, None, True)]


@pytest.mark.parametrize("kind", ["a DataLoader", "an iterable without a length"])
def test_an_error_of_a_loader_reaches_the_user_where_it_happens(kind: str) -> None:
    class Breaks(Numbers):
        def __getitem__(self, index: int) -> int:
            if index == 2:
                raise RuntimeError("unreadable")
            return super().__getitem__(index)

    def stream() -> Iterator[int]:
        yield 0
        yield 1
        raise RuntimeError("unreadable")

    sure = kind == "a DataLoader"
    iterator = iterate(loader_of(Breaks(5)), 5) if sure else iterate(stream(), math.inf)
    # Where one batch is read ahead, the error comes in place of the batch before.
    assert [next(iterator)[0] for _ in range(2 if sure else 1)] == ([0, 1] if sure else [0])
    with pytest.raises(RuntimeError, match="unreadable"):
        next(iterator)


# Who supplies them

STAGES = ["train", "val", "test", "predict"]


class HasAll(LightningModule):
    def train_dataloader(self) -> Any:
        return ["module train"]

    def val_dataloader(self) -> Any:
        return ["module val"]

    def test_dataloader(self) -> Any:
        return ["module test"]

    def predict_dataloader(self) -> Any:
        return ["module predict"]


class DataHasAll(LightningDataModule):
    def train_dataloader(self) -> Any:
        return ["data train"]

    def val_dataloader(self) -> Any:
        return ["data val"]

    def test_dataloader(self) -> Any:
        return ["data test"]

    def predict_dataloader(self) -> Any:
        return ["data predict"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("given", "data", "module", "supplied"),
    [
        (["given"], DataHasAll(), HasAll(), ["given"]),
        (["given"], None, LightningModule(), ["given"]),
        (None, DataHasAll(), HasAll(), ["data {}"]),
        (None, DataHasAll(), LightningModule(), ["data {}"]),
        (None, LightningDataModule(), HasAll(), ["module {}"]),
        (None, None, HasAll(), ["module {}"]),
    ],
    ids=["all", "given alone", "data and module", "data alone", "empty data and module", "module alone"],
)
def test_what_was_passed_goes_before_the_datamodules_and_that_before_the_modules(
    stage: str, given: Any, data: Any, module: Any, supplied: list[str]
) -> None:
    source = Source.of(stage, given, data, module)
    assert source.exists
    assert source.load(stage) == [text.format(stage) for text in supplied]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("data", [None, LightningDataModule()], ids=["no datamodule", "an empty datamodule"])
def test_where_nobody_supplies_loaders_the_error_says_who_may(stage: str, data: Any) -> None:
    source = Source.of(stage, None, data, LightningModule())
    assert not source.exists
    message = (
        f"There is no {stage} dataloader. Pass one to the Trainer's entry point, or define {stage}_dataloader() on the "
        "module or the datamodule."
    )
    with pytest.raises(MisconfigurationError) as caught:
        source.load(stage)
    assert str(caught.value) == message


def test_an_empty_list_of_loaders_that_was_passed_is_what_was_passed() -> None:
    source = Source.of("val", [], DataHasAll(), HasAll())
    assert source.exists
    assert source.load("val") == []


def test_a_method_of_an_instance_supplies_loaders_too() -> None:
    for owner, arguments in (
        (LightningDataModule(), lambda owner: (owner, LightningModule())),
        (LightningModule(), lambda owner: (None, owner)),
    ):
        owner.train_dataloader = lambda: ["own"]  # type: ignore[method-assign]
        assert Source.of("train", None, *arguments(owner)).load("train") == ["own"]


def test_loaders_are_asked_for_when_they_are_needed_and_not_before() -> None:
    class Asked(LightningModule):
        times = 0

        def val_dataloader(self) -> Any:
            self.times += 1
            return [[1], [2]]

    module = Asked()
    source = Source.of("val", None, None, module)
    assert (source.exists, module.times) == (True, 0)
    source.load("val")
    assert module.times == 1


@pytest.mark.parametrize(
    ("given", "data", "module", "who"),
    [
        (5, None, HasAll(), "The train dataloaders that were passed gave 5 (int)"),
        (None, type("Data", (LightningDataModule,), {"train_dataloader": lambda self: 7})(), HasAll(),
         "Data.train_dataloader() gave 7 (int)"),
        (None, None, type("Model", (LightningModule,), {"train_dataloader": lambda self: None})(),
         "Model.train_dataloader() gave None (NoneType)"),
        ([[1], object], None, HasAll(), "gave <class 'object'> (type)"),
        (DataLoader, None, HasAll(), "gave <class 'torch.utils.data.dataloader.DataLoader'> (type)"),
    ],
    ids=["passed", "datamodule", "module", "one of several", "a class"],
)  # fmt: skip
def test_what_cannot_be_iterated_is_refused_with_who_supplied_it(given: Any, data: Any, module: Any, who: str) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        Source.of("train", given, data, module).load("train")
    assert who in str(caught.value)
    assert str(caught.value).endswith(
        "which cannot be iterated. A DataLoader or any other iterable of batches is needed."
    )


# The loaders of a run


def loaders_of(module: LightningModule, **limits: Any) -> Loaders:
    return Loaders({stage: Source.of(stage, None, None, module) for stage in STAGES}, Limits(**limits))


class Supplies(LightningModule):
    """Remembers how often it was asked."""

    def __init__(self, **loaders: Any) -> None:
        super().__init__()
        self.loaders, self.asked = loaders, dict.fromkeys(STAGES, 0)

    def give(self, stage: str) -> Any:
        self.asked[stage] += 1
        return self.loaders[stage]

    def train_dataloader(self) -> Any:
        return self.give("train")

    def val_dataloader(self) -> Any:
        return self.give("val")

    def test_dataloader(self) -> Any:
        return self.give("test")

    def predict_dataloader(self) -> Any:
        return self.give("predict")


def test_loaders_are_asked_for_once_and_counted() -> None:
    training, one, two = loader_of(Numbers(8)), loader_of(Numbers(3)), loader_of(Stream(4))
    module = Supplies(train=training, val=[one, two], test=one)
    loaders = loaders_of(module, limit_train_batches=0.5, num_sanity_val_steps=2)
    assert loaders.training_batches == 0
    assert loaders.sanity_batches() == []
    for _ in range(2):
        assert loaders.training() is training
        assert loaders.evaluation("val") == [one, two]
        assert loaders.evaluation("test") == [one]
    assert module.asked == {"train": 1, "val": 1, "test": 1, "predict": 0}
    assert loaders.training_batches == 4
    assert loaders.batches == {"train": [4], "val": [3, math.inf], "test": [3]}
    assert loaders.given == {"train": training, "val": [one, two], "test": one}
    assert loaders.sanity_batches() == [2, 2]


@pytest.mark.parametrize(
    ("arguments", "sanity"),
    [
        ({"num_sanity_val_steps": 0}, [0, 0]),
        ({"num_sanity_val_steps": 1}, [1, 1]),
        ({"num_sanity_val_steps": 4}, [3, 4]),
        ({"num_sanity_val_steps": -1}, [3, 5]),
        ({"num_sanity_val_steps": 4, "limit_val_batches": 2}, [2, 2]),
        ({"num_sanity_val_steps": -1, "limit_val_batches": 4}, [3, 4]),
    ],
    ids=repr,
)
def test_the_sanity_check_uses_no_more_than_validation(arguments: dict[str, Any], sanity: list[int]) -> None:
    loaders = loaders_of(Supplies(val=[[0] * 3, [0] * 5]), **arguments)
    loaders.evaluation("val")
    assert loaders.sanity_batches() == sanity


def test_an_empty_loader_is_told_of_unless_the_limit_says_so() -> None:
    loaders = loaders_of(Supplies(train=loader_of(Numbers(0)), val=[[0], []]))
    with pytest.warns(UserWarning, match=r"^The training dataloader has no batch: this fit does nothing\.$"):
        loaders.training()
    with pytest.warns(UserWarning, match=r"^The val dataloader 1 has no batch: it is passed over\.$"):
        loaders.evaluation("val")


@pytest.mark.filterwarnings("error")
def test_an_empty_loader_that_the_limit_makes_empty_is_no_news() -> None:
    none = {"limit_train_batches": 0, "limit_val_batches": 0.0}
    loaders = loaders_of(Supplies(train=loader_of(Numbers(3)), val=[[0], []]), **none)
    loaders.training()
    loaders.evaluation("val")
    assert loaders.batches == {"train": [0], "val": [0, 0]}


@pytest.mark.parametrize("limit", [0, 0.0, 1, 1.0])
def test_whether_there_is_validation_is_known_without_asking_for_the_loader(limit: float) -> None:
    module = Supplies(val=[0])
    assert loaders_of(module, limit_val_batches=limit).validates is (limit != 0)
    assert not loaders_of(LightningModule(), limit_val_batches=limit).validates
    assert module.asked["val"] == 0


def test_a_fit_asks_for_each_loader_once(tmp_path: Path) -> None:
    asked: list[str] = []

    class Asked(QuietModule):
        def train_dataloader(self) -> Any:
            asked.append("train")
            return super().train_dataloader()

        def val_dataloader(self) -> Any:
            asked.append("val")
            return super().val_dataloader()

    make_trainer(tmp_path, [], max_epochs=3).fit(Asked())
    # The sanity check comes first.
    assert asked == ["val", "train"]


# Samplers that shuffle by epoch


class Tells(SequentialSampler):
    """Writes down which epoch it was told."""

    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


class TellsInBatches(BatchSampler):
    """A sampler of batches that is told by itself, too."""

    def __init__(self, sampler: Any) -> None:
        super().__init__(sampler, batch_size=2, drop_last=False)
        self.told: list[int] = []

    def set_epoch(self, epoch: int) -> None:
        self.told.append(epoch)


class OwnLoader:
    """No DataLoader, but it has a sampler."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Batch]:
        return ([torch.ones(1, 2)] for _ in self.sampler)


class Vectors(Dataset[Batch]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Batch:
        return [torch.full((2,), float(index))]


@pytest.mark.parametrize(
    "make",
    [
        lambda sampler: DataLoader(Vectors(), sampler=sampler, batch_size=2),
        lambda sampler: DataLoader(Vectors(), batch_sampler=BatchSampler(sampler, 2, drop_last=False)),
        lambda sampler: DataLoader(Vectors(), sampler=sampler, batch_size=None),
        OwnLoader,
    ],
    ids=["a sampler", "a sampler of a batch sampler", "a sampler without batches", "a loader of one's own"],
)
def test_a_sampler_is_told_each_epoch_once_before_it_begins(make: Callable[[Any], Any], tmp_path: Path) -> None:
    sampler = Tells(4)
    told_in_time: list[list[int]] = []

    class Looks(QuietModule):
        def on_train_epoch_start(self) -> None:
            told_in_time.append(list(sampler.told))

    trainer, module = make_trainer(tmp_path, [], max_epochs=2, limit_val_batches=0), Looks()
    loader = make(sampler)
    trainer.fit(module, loader)
    assert sampler.told == [0, 1]
    assert told_in_time == [[0], [0, 1]]
    trainer.max_epochs = 3
    trainer.fit(module, loader)
    assert sampler.told == [0, 1, 2]


def test_both_a_batch_sampler_and_the_sampler_inside_are_told(tmp_path: Path) -> None:
    inside = Tells(4)
    batches = TellsInBatches(inside)
    trainer = make_trainer(tmp_path, [], max_epochs=2, limit_val_batches=0)
    trainer.fit(QuietModule(), DataLoader(Vectors(), batch_sampler=batches))
    assert (batches.told, inside.told) == ([0, 1], [0, 1])


def test_a_distributed_sampler_shuffles_anew_in_each_epoch(tmp_path: Path) -> None:
    seen: list[float] = []

    class Looks(QuietModule):
        def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
            seen.extend(batch[0][:, 0].tolist())

    sampler: DistributedSampler[Any] = DistributedSampler(Vectors(), num_replicas=1, rank=0, seed=3)
    loader = DataLoader(Vectors(), sampler=sampler, batch_size=2)
    make_trainer(tmp_path, [], max_epochs=3, limit_val_batches=0).fit(Looks(), loader)
    expected = []
    for epoch in range(3):
        # As torch documents it: a permutation that is drawn from seed + epoch.
        generator = torch.Generator().manual_seed(3 + epoch)
        expected += torch.randperm(4, generator=generator).tolist()
    assert seen == [float(index) for index in expected]
    assert len({tuple(seen[start : start + 4]) for start in (0, 4, 8)}) > 1
