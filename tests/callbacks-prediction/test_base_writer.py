"""`BasePredictionWriter`: when it writes, what it gets, and that indices match predictions one to one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from hookloop import LightningModule
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_prediction import BasePredictionWriter, WriteInterval
from predicting import Classifier, Runs, Samples, Stream, in_batches, plainly


class Keeps(BasePredictionWriter):
    """Keeps what it is given to write."""

    def __init__(self, write_interval: Any = "batch") -> None:
        super().__init__(write_interval)
        self.batches: list[tuple[Any, ...]] = []
        self.epochs: list[tuple[Any, Any]] = []

    def write_on_batch_end(
        self,
        trainer: Any,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        self.batches.append((prediction, batch_indices, batch, batch_idx, dataloader_idx))

    def write_on_epoch_end(
        self, trainer: Any, pl_module: LightningModule, predictions: Any, batch_indices: Any
    ) -> None:
        self.epochs.append((predictions, batch_indices))


@pytest.mark.parametrize(
    ("interval", "batches", "epochs"), [("batch", 4, 0), ("epoch", 0, 1), ("batch_and_epoch", 4, 1)]
)
def test_the_interval_says_when_it_writes(interval: str, batches: int, epochs: int, runs: Runs) -> None:
    writer = Keeps(interval)
    runs.predict(writer, in_batches(7))

    assert (len(writer.batches), len(writer.epochs)) == (batches, epochs)
    assert writer.interval is WriteInterval(interval)
    assert writer.interval == interval


def test_a_batch_is_written_with_its_samples_and_its_place(runs: Runs) -> None:
    writer = Keeps()
    runs.predict(writer, in_batches(5))
    expected = plainly(Classifier(), Samples(5))[0]

    assert [one[1] for one in writer.batches] == [[0, 1], [2, 3], [4]]
    assert [one[3:] for one in writer.batches] == [(0, 0), (1, 0), (2, 0)]
    for prediction, indices, batch, *_ in writer.batches:
        assert torch.equal(prediction, expected[indices])
        assert torch.equal(batch, Samples(5).values[indices])


@pytest.mark.parametrize("workers", [0, 2])
def test_flat_indices_match_the_predictions_one_to_one_shuffled_and_from_workers(workers: int, runs: Runs) -> None:
    writer = Keeps("epoch")
    runs.predict(writer, in_batches(9, shuffle=True, num_workers=workers))
    ((predictions, indices),) = writer.epochs
    expected = plainly(Classifier(), Samples(9))[0]

    assert len(predictions) == len(indices) == 5
    assert sorted(index for batch in indices for index in batch) == list(range(9))
    for prediction, batch in zip(predictions, indices, strict=True):
        assert torch.equal(prediction, expected[batch])


def test_several_loaders_have_a_list_each(runs: Runs) -> None:
    writer = Keeps("batch_and_epoch")
    runs.predict(writer, [in_batches(4), DataLoader(Samples(3, seed=5), batch_size=3)])
    ((predictions, indices),) = writer.epochs
    expected = plainly(Classifier(), Samples(4), Samples(3, seed=5))

    assert indices == [[[0, 1], [2, 3]], [[0, 1, 2]]]
    assert [one[3:] for one in writer.batches] == [(0, 0), (1, 0), (0, 1)]
    for of_loader, whole in zip(predictions, expected, strict=True):
        assert torch.equal(torch.cat(of_loader), whole)


def test_where_nobody_can_tell_the_samples_there_is_none_for_each_prediction(runs: Runs) -> None:
    writer = Keeps("batch_and_epoch")
    runs.predict(writer, DataLoader(Stream(5), batch_size=2))

    assert writer.epochs[0][1] == [None, None, None]
    assert [one[1] for one in writer.batches] == [None, None, None]


@pytest.mark.parametrize("keep", [True, False])
def test_it_gets_all_predictions_whether_they_are_returned_or_not(keep: bool, runs: Runs) -> None:
    writer = Keeps("epoch")
    returned = runs.predict(writer, in_batches(6), keep=keep)

    assert len(writer.epochs[0][0]) == 3
    if keep:
        for one, other in zip(writer.epochs[0][0], returned, strict=True):
            assert torch.equal(one, other)


def test_it_writes_in_predict_iter_too(runs: Runs) -> None:
    writer = Keeps("batch_and_epoch")
    yielded = list(runs.trainer(writer).predict_iter(Classifier(), in_batches(6)))

    assert writer.epochs[0][1] == [[0, 1], [2, 3], [4, 5]]
    for one, other in zip(writer.epochs[0][0], yielded, strict=True):
        assert torch.equal(one, other)


def test_a_second_prediction_begins_anew_and_nothing_of_the_first_is_kept(runs: Runs) -> None:
    writer = Keeps("epoch")
    runs.predict(writer, in_batches(6))
    runs.predict(writer, in_batches(4))

    assert [indices for _, indices in writer.epochs] == [[[0, 1], [2, 3], [4, 5]], [[0, 1], [2, 3]]]
    assert not any(value for name, value in vars(writer).items() if name in ("_predictions", "_samples"))


@pytest.mark.parametrize("given", ["step", None, 3])
def test_an_interval_that_is_none_is_an_error(given: Any) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"Keeps\(write_interval=.*must be one of 'batch', 'epoch', 'batch_"
    ):
        Keeps(given)


def test_a_method_that_the_interval_needs_has_to_be_there(runs: Runs) -> None:
    class Half(BasePredictionWriter):
        def write_on_batch_end(self, *arguments: Any) -> None:
            pass

    runs.predict(Half("batch"), in_batches(2))
    with pytest.raises(
        MisconfigurationError, match=r"Half does not define write_on_epoch_end\(\), which write_interval"
    ):
        runs.predict(Half("epoch"), in_batches(2))


class Fetches(Classifier):
    def predict_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        answer: Tensor = self.net(next(dataloader_iter)[0])
        return answer

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.net(batch).sum()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_a_step_that_fetches_its_batches_is_refused_in_a_prediction_alone(runs: Runs) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"Fetches.predict_step takes a dataloader_iter, so nobody can tell"
    ):
        runs.predict(Keeps(), in_batches(2), Fetches())
    runs.trainer(Keeps(), max_epochs=1).fit(Fetches(), in_batches(2))
