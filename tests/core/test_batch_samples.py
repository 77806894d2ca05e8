"""`trainer.follow_samples` and `trainer.batch_samples`: which samples a predict batch holds, and where to begin."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError


class Numbers(Dataset[int]):
    """Sample i is i; notes what is read in this process."""

    def __init__(self, samples: int) -> None:
        self.samples = samples
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> int:
        self.read.append(index)
        return index


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(7))


class Echo(LightningModule):
    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return batch


class Follows(Callback):
    """Notes for each batch: loader, index, what the batch holds, its samples."""

    def __init__(self, begins: tuple[int, ...] = ()) -> None:
        self.begins = begins
        self.batches: list[tuple[int, int, list[int], list[int] | None]] = []
        self.left_out: list[tuple[int, int, list[int]]] = []

    @property
    def state_key(self) -> str:
        return f"Follows{self.begins}"

    def on_predict_start(self, trainer: Any, pl_module: LightningModule) -> None:
        trainer.follow_samples(self.begins, lambda *place: self.left_out.append(place))

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self.batches.append((dataloader_idx, batch_idx, outputs.tolist(), trainer.batch_samples))


def predict(folder: Path, loaders: Any, *follows: Callback, keep: bool = False, **arguments: Any) -> Any:
    trainer = Trainer(
        callbacks=list(follows),
        logger=False,
        registered_callbacks=False,
        accelerator="cpu",
        default_root_dir=folder,
        **arguments,
    )
    return trainer.predict(Echo(), loaders, return_predictions=keep)


def loaders() -> dict[str, DataLoader[int]]:
    data = Numbers(7)
    generator = torch.Generator().manual_seed(3)
    return {
        "in order": DataLoader(data, batch_size=2),
        "shuffled": DataLoader(data, batch_size=2, shuffle=True, generator=generator),
        "without the last": DataLoader(data, batch_size=2, drop_last=True),
        "of a batch sampler": DataLoader(data, batch_sampler=BatchSampler([6, 5, 4, 1], batch_size=3, drop_last=False)),
        "of two workers": DataLoader(data, batch_size=2, num_workers=2),
    }


@pytest.mark.parametrize("name", list(loaders()))
def test_the_samples_of_each_batch_are_those_that_it_holds(name: str, tmp_path: Path) -> None:
    follows, loader = Follows(), loaders()[name]
    predict(tmp_path, loader, follows)

    assert len(follows.batches) == len(loader)
    assert all(held == samples for _, _, held, samples in follows.batches)


def test_a_loader_without_batches_tells_the_one_sample(tmp_path: Path) -> None:
    follows = Follows()
    predict(tmp_path, DataLoader(Numbers(3), batch_size=None, collate_fn=torch.tensor), follows)

    assert [samples for *_, samples in follows.batches] == [[0], [1], [2]]


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(Stream(), batch_size=2),
        [torch.tensor([0, 1]), torch.tensor([2])],
        DataLoader(Numbers(4), batch_size=2, num_workers=1, in_order=False),
    ],
    ids=["iterable dataset", "list of batches", "out of order"],
)
def test_where_nobody_can_tell_there_are_none(loader: Any, tmp_path: Path) -> None:
    follows = Follows()
    predict(tmp_path, loader, follows)

    assert follows.batches
    assert all(samples is None for *_, samples in follows.batches)


def test_batches_of_no_use_are_left_out_unread(tmp_path: Path) -> None:
    data, follows = Numbers(7), Follows((2,))
    predict(tmp_path, DataLoader(data, batch_size=2), follows)

    assert follows.batches == [(0, 2, [4, 5], [4, 5]), (0, 3, [6], [6])]
    assert follows.left_out == [(0, 0, [0, 1]), (0, 1, [2, 3])]
    assert data.read == [4, 5, 6]


def test_each_of_several_loaders_begins_where_it_should(tmp_path: Path) -> None:
    follows = Follows((2, 1))
    predict(tmp_path, [DataLoader(Numbers(4), batch_size=2), DataLoader(Numbers(4), batch_size=2)], follows)

    assert follows.batches == [(1, 1, [2, 3], [2, 3])]
    assert follows.left_out == [(1, 0, [0, 1])]  # of the first loader nothing is drawn


@pytest.mark.parametrize("begin", [1, 5])
def test_a_stream_is_read_and_its_batches_left_out(begin: int, tmp_path: Path) -> None:
    follows = Follows((begin,))
    predict(tmp_path, DataLoader(Stream(), batch_size=2), follows)

    expected = [(0, index, list(range(2 * index, min(2 * index + 2, 7))), None) for index in range(begin, 4)]
    assert follows.batches == expected


def test_what_one_callback_needs_all_of_them_get(tmp_path: Path) -> None:
    late, early = Follows((3,)), Follows((1,))
    predict(tmp_path, DataLoader(Numbers(8), batch_size=2), late, early)

    assert late.batches == early.batches
    assert [index for _, index, *_ in late.batches] == [1, 2, 3]


def test_predictions_that_are_returned_are_complete(tmp_path: Path) -> None:
    returned = predict(tmp_path, DataLoader(Numbers(6), batch_size=2), Follows((2,)), keep=True)

    assert [one.tolist() for one in returned] == [[0, 1], [2, 3], [4, 5]]


def test_an_iterator_yields_all_predictions(tmp_path: Path) -> None:
    follows = Follows((2,))
    trainer = Trainer(callbacks=[follows], logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    yielded = list(trainer.predict_iter(Echo(), DataLoader(Numbers(6), batch_size=2)))

    assert [one.tolist() for one in yielded] == [[0, 1], [2, 3], [4, 5]]
    assert all(held == samples for _, _, held, samples in follows.batches)


def test_a_limit_counts_from_the_first_batch(tmp_path: Path) -> None:
    follows = Follows((1,))
    predict(tmp_path, DataLoader(Numbers(8), batch_size=2), follows, limit_predict_batches=3)

    assert [index for _, index, *_ in follows.batches] == [1, 2]


def test_outside_of_a_prediction_it_is_an_error(tmp_path: Path) -> None:
    trainer = Trainer(logger=False, registered_callbacks=False, default_root_dir=tmp_path)
    with pytest.raises(MisconfigurationError, match=r"follow_samples\(\) is for predictions: call it in on_predict_st"):
        trainer.follow_samples()
    assert trainer.batch_samples is None
