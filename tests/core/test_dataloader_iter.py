"""Steps that fetch their batches themselves: `training_step(self, dataloader_iter)` and the three others."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from hookloop import Callback, LightningModule
from hookloop.errors import HookError, MisconfigurationError
from hookloop.loaders.combined import CombinedLoader

from .fitting import Saves, equal, loader, loss_of, network, samples, sgd, trainer_in

COUNT = 5
"""Batches of an epoch."""


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(loader(COUNT))


def streamed() -> DataLoader[Any]:
    return DataLoader(Stream(), batch_size=None)


def loaded() -> DataLoader[Any]:
    return loader(COUNT)


class Fetches(LightningModule):
    """Takes `at_once` batches in each step, and adds up their losses."""

    def __init__(self, at_once: int = 1) -> None:
        super().__init__()
        self.net = network()
        self.at_once = at_once
        self.fetched: list[tuple[int, int, int]] = []
        self.hooks: list[tuple[str, int, int]] = []

    def take(self, dataloader_iter: Any) -> Tensor:
        losses = []
        for _ in range(self.at_once):
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            self.fetched.append((int(batch[0][0]), batch_idx, dataloader_idx))
            losses.append(loss_of(self.net, batch))
        return torch.stack(losses).sum()

    def training_step(self, dataloader_iter: Any) -> Tensor:
        return self.take(dataloader_iter)

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.hooks.append(("start", int(batch[0][0]), batch_idx))

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.hooks.append(("end", int(batch[0][0]), batch_idx))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return sgd(self.parameters())


def trained_plainly(windows: list[list[list[int]]], epochs: int = 1) -> dict[str, Tensor]:
    """Steps of windows of groups of batches: the losses of a group are added up, those of a window averaged."""
    net = network()
    optimizer = sgd(net.parameters())
    batches = list(loader(COUNT))
    for _ in range(epochs):
        for window in windows:
            optimizer.zero_grad()
            for group in window:
                loss = torch.stack([loss_of(net, batches[index]) for index in group]).sum()
                (loss / len(window) if len(window) > 1 else loss).backward()
            optimizer.step()
    return net.state_dict()


@pytest.mark.parametrize("make", [loaded, streamed])
def test_one_batch_in_each_step_trains_as_if_the_step_got_it(tmp_path: Path, make: Any) -> None:
    module = Fetches()
    trainer = trainer_in(tmp_path, max_epochs=2)
    trainer.fit(module, make())
    assert module.fetched == [(index, index, 0) for index in range(COUNT)] * 2
    assert module.hooks == [(when, index, index) for index in range(COUNT) for when in ("start", "end")] * 2
    assert trainer.global_step == 2 * COUNT
    assert equal(module.net.state_dict(), trained_plainly([[[index]] for index in range(COUNT)], epochs=2))


@pytest.mark.parametrize("make", [loaded, streamed])
def test_accumulation_ends_its_last_window_with_the_data(tmp_path: Path, make: Any) -> None:
    module = Fetches()
    trainer = trainer_in(tmp_path, max_epochs=1, accumulate_grad_batches=2)
    trainer.fit(module, make())
    assert trainer.global_step == 3
    expected = trained_plainly([[[0], [1]], [[2], [3]], [[4]]])
    for ours, plain in zip(module.net.state_dict().values(), expected.values(), strict=True):
        torch.testing.assert_close(ours, plain)


def test_the_hooks_after_a_step_get_the_batch_that_it_fetched_last(tmp_path: Path) -> None:
    module = Fetches(at_once=2)
    batches: list[int] = []

    class Counts(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            batches.append(trainer.batch_idx)

    trainer = trainer_in(tmp_path, Counts(), max_epochs=1, limit_train_batches=4)
    trainer.fit(module, loaded())
    assert module.hooks == [("start", 0, 0), ("end", 1, 1), ("start", 2, 2), ("end", 3, 3)]
    assert batches == [2, 4]
    assert equal(module.net.state_dict(), trained_plainly([[[0, 1]], [[2, 3]]]))


@pytest.mark.parametrize("make", [loaded, streamed])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_a_step_that_asks_for_more_than_there_is_ends_the_epoch_without_a_step(
    tmp_path: Path, make: Any, accumulate: int
) -> None:
    module = Fetches(at_once=2)
    trainer = trainer_in(tmp_path, max_epochs=2, accumulate_grad_batches=accumulate)
    trainer.fit(module, make())
    assert module.fetched == [(index, index, 0) for index in range(COUNT)] * 2
    # The two full pairs are trained on, in the windows that they fill; the last batch alone is not.
    windows = {1: [[[0, 1]], [[2, 3]]], 2: [[[0, 1], [2, 3]]], 3: [[[0, 1], [2, 3]]]}[accumulate]
    assert trainer.global_step == 2 * len(windows)
    expected = trained_plainly(windows, epochs=2)
    for ours, plain in zip(module.net.state_dict().values(), expected.values(), strict=True):
        torch.testing.assert_close(ours, plain)
    assert trainer.current_epoch == 2


def test_the_iterator_tells_how_far_it_is_and_is_the_same_in_every_step(tmp_path: Path) -> None:
    told: list[tuple[int, int | None, bool]] = []
    iterators = set()

    class Asks(Fetches):
        def training_step(self, dataloader_iter: Any) -> Tensor:
            iterators.add(id(dataloader_iter))
            assert iter(dataloader_iter) is dataloader_iter
            loss = self.take(dataloader_iter)
            told.append((dataloader_iter.fetched, dataloader_iter.length, dataloader_iter.done))
            return loss

    trainer_in(tmp_path, max_epochs=2).fit(Asks(), loaded())
    assert told == [(count, COUNT, count == COUNT) for count in range(1, COUNT + 1)] * 2
    assert len(iterators) == 1
    told.clear()
    trainer_in(tmp_path, max_epochs=1).fit(Asks(), streamed())
    assert told == [(count, None, count == COUNT) for count in range(1, COUNT + 1)]


def test_a_step_that_fetches_nothing_is_told_to(tmp_path: Path) -> None:
    class Idle(Fetches):
        def training_step(self, dataloader_iter: Any) -> Tensor:
            return next(iter(self.net.parameters())).sum()

    message = r"A step with dataloader_iter took no batch.*next\(dataloader_iter\)"
    with pytest.raises(MisconfigurationError, match=message):
        trainer_in(tmp_path, max_epochs=1).fit(Idle(), loaded())


def test_another_stop_iteration_of_a_step_is_not_taken_for_the_end(tmp_path: Path) -> None:
    class Stops(Fetches):
        def training_step(self, dataloader_iter: Any) -> Tensor:
            self.take(dataloader_iter)
            raise StopIteration("of something else")

    with pytest.raises(StopIteration, match="of something else"):
        trainer_in(tmp_path, max_epochs=1).fit(Stops(), loaded())


def test_batches_are_left_where_they_are(tmp_path: Path) -> None:
    class Moves(Fetches):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            raise AssertionError("the step moves its batches itself")

    trainer_in(tmp_path, max_epochs=1).fit(Moves(), loaded())


def test_on_train_batch_start_may_end_the_epoch(tmp_path: Path) -> None:
    class Skips(Fetches):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            return -1 if batch_idx == 2 else None

    module = Skips()
    trainer_in(tmp_path, max_epochs=2).fit(module, loaded())
    assert module.fetched == [(0, 0, 0), (1, 1, 0)] * 2


def test_several_loaders_come_as_the_combination_that_they_are(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Both(Fetches):
        def training_step(self, dataloader_iter: Any) -> Tensor:
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            seen.append((int(batch["a"][0][0]), int(batch["b"][0][0]), batch_idx, dataloader_idx))
            return loss_of(self.net, batch["a"])

        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None: ...

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...

    trainer_in(tmp_path, max_epochs=1).fit(Both(), {"a": loader(3), "b": loader(2)})
    assert seen == [(0, 0, 0, 0), (1, 1, 1, 0), (2, 0, 2, 0)]


@pytest.mark.parametrize("after", [1, 2])
@pytest.mark.parametrize("at_once", [1, 2])
def test_a_resumed_run_repeats_no_batch(tmp_path: Path, at_once: int, after: int) -> None:
    whole, path = Fetches(at_once), tmp_path / "middle.ckpt"
    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=after), max_epochs=2).fit(whole, loaded())
    resumed = Fetches(at_once)
    trainer_in(tmp_path, max_epochs=2).fit(resumed, loaded(), ckpt_path=path)
    assert resumed.fetched == whole.fetched[after * at_once :]
    assert equal(resumed.net.state_dict(), whole.net.state_dict())


def test_manual_optimization_fetches_too(tmp_path: Path) -> None:
    class Manual(Fetches):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, dataloader_iter: Any) -> None:  # type: ignore[override]
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.take(dataloader_iter).backward()
            optimizer.step()

    module = Manual()
    trainer_in(tmp_path, max_epochs=1).fit(module, loaded())
    assert equal(module.net.state_dict(), trained_plainly([[[index]] for index in range(COUNT)]))


def test_values_that_are_logged_have_the_size_of_the_batch(tmp_path: Path) -> None:
    class Logs(Fetches):
        def training_step(self, dataloader_iter: Any) -> Tensor:
            batch, _, _ = next(dataloader_iter)
            self.log("mean", batch[0].float().mean(), on_epoch=True)
            return loss_of(self.net, batch)

    trainer = trainer_in(tmp_path, max_epochs=1)
    # Batches of three and of one: indices 0, 0, 1 and 1.
    trainer.fit(Logs(), DataLoader(samples(2), batch_size=3))
    assert trainer.callback_metrics["mean_epoch"].item() == pytest.approx((3 * (1 / 3) + 1 * 1) / 4)


# Evaluation and prediction


class Evaluates(Fetches):
    def __init__(self, at_once: int = 1) -> None:
        super().__init__(at_once)
        self.hooked: list[tuple[Any, ...]] = []

    def validation_step(self, dataloader_iter: Any) -> None:
        self.log("value", self.take(dataloader_iter))

    def test_step(self, dataloader_iter: Any) -> None:
        self.log("value", self.take(dataloader_iter))

    def predict_step(self, dataloader_iter: Any) -> float:
        return float(self.take(dataloader_iter))

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.hooked.append(("start", int(batch[0][0]), batch_idx, dataloader_idx))

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.hooked.append(("end", int(batch[0][0]), batch_idx, dataloader_idx))

    on_test_batch_start = on_predict_batch_start = on_validation_batch_start
    on_test_batch_end = on_predict_batch_end = on_validation_batch_end


def losses(*batches: int) -> list[float]:
    net, data = network(), list(loader(COUNT))
    return [loss_of(net, data[index]).item() for index in batches]


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_evaluation_fetches_from_one_loader_after_the_other(tmp_path: Path, entry_point: str) -> None:
    module = Evaluates()
    loaders = [loader(COUNT), loader(2)]
    verbose = {} if entry_point == "predict" else {"verbose": False}
    kind = {"validate": "val"}.get(entry_point, entry_point)
    trainer = trainer_in(tmp_path, **{f"limit_{kind}_batches": 3})
    result = getattr(trainer, entry_point)(module, loaders, **verbose)
    expected = [(0, 0, 0), (1, 1, 0), (2, 2, 0), (0, 0, 1), (1, 1, 1)]
    assert module.fetched == expected
    assert module.hooked == [(when, *one) for one in expected for when in ("start", "end")]
    first, second = losses(0, 1, 2), losses(0, 1)
    # `losses` works on the same samples in batches of their own loader.
    short = [loss_of(network(), batch).item() for batch in loader(2)]
    assert second != short
    if entry_point == "predict":
        assert result == [first, short]
    else:
        assert result == [
            {"value/dataloader_idx_0": pytest.approx(sum(first) / 3)},
            {"value/dataloader_idx_1": pytest.approx(sum(short) / 2)},
        ]


@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_an_evaluation_step_that_asks_for_more_than_there_is_ends_it(tmp_path: Path, entry_point: str) -> None:
    module = Evaluates(at_once=2)
    verbose = {} if entry_point == "predict" else {"verbose": False}
    result = getattr(trainer_in(tmp_path), entry_point)(module, loaded(), **verbose)
    pairs = [sum(losses(0, 1)), sum(losses(2, 3))]
    assert module.hooked == [
        ("start", 0, 0, 0),
        ("end", 1, 1, 0),
        ("start", 2, 2, 0),
        ("end", 3, 3, 0),
        ("start", 4, 4, 0),
    ]
    if entry_point == "predict":
        assert result == pytest.approx(pairs)
    else:
        assert result == [{"value": pytest.approx(sum(pairs) / 2)}]


def test_predictions_that_are_not_kept_are_not_returned(tmp_path: Path) -> None:
    module = Evaluates()
    assert trainer_in(tmp_path).predict(module, loaded(), return_predictions=False) is None
    assert len(module.fetched) == COUNT


def test_a_fit_validates_and_checks_its_sanity_by_fetching(tmp_path: Path) -> None:
    module = Evaluates()
    trainer = trainer_in(tmp_path, max_epochs=1, num_sanity_val_steps=1)
    trainer.fit(module, loaded(), loader(2))
    sanity, training, validation = module.fetched[:1], module.fetched[1:-2], module.fetched[-2:]
    assert sanity == [(0, 0, 0)]
    assert training == [(index, index, 0) for index in range(COUNT)]
    assert validation == [(0, 0, 0), (1, 1, 0)]


def test_a_combined_loader_in_evaluation_comes_together(tmp_path: Path) -> None:
    seen: list[Any] = []

    class Together(LightningModule):
        def validation_step(self, dataloader_iter: Any) -> None:
            batch, batch_idx, dataloader_idx = next(dataloader_iter)
            seen.append(([part if part is None else int(part[0][0]) for part in batch], batch_idx, dataloader_idx))

    given = CombinedLoader([loader(2), loader(3)], "max_size")
    trainer_in(tmp_path).validate(Together(), given, verbose=False)
    assert seen == [([0, 0], 0, 0), ([1, 1], 1, 0), ([None, 2], 2, 0)]


@pytest.mark.parametrize("count", [0, 3])
def test_an_empty_loader_is_no_step(tmp_path: Path, count: int) -> None:
    module = Evaluates()
    empty: DataLoader[Any] = DataLoader(TensorDataset(torch.zeros(0)))
    with pytest.warns(UserWarning, match="has no batch: it is passed over"):
        trainer_in(tmp_path).validate(module, [empty, loader(count)] if count else empty, verbose=False)
    assert module.fetched == [(index, index, 1) for index in range(count)]


# Signatures


def test_nothing_else_can_be_asked_for_beside_the_iterator(tmp_path: Path) -> None:
    class Too(Fetches):
        def training_step(self, dataloader_iter: Any, batch_idx: int) -> Tensor:  # type: ignore[override]
            raise AssertionError

    message = (
        r"Too\.training_step takes \(dataloader_iter, batch_idx\).*Define it as training_step\(self, dataloader_iter\)"
    )
    with pytest.raises(HookError, match=message):
        trainer_in(tmp_path).fit(Too(), loaded())


def test_an_endless_stream_is_ended_by_max_steps(tmp_path: Path) -> None:
    class Endless:
        def __iter__(self) -> Iterator[Any]:
            while True:
                yield from loader(COUNT)

    module = Fetches()
    trainer = trainer_in(tmp_path, max_epochs=-1, max_steps=7)
    trainer.fit(module, Endless())
    assert (trainer.global_step, len(module.fetched), trainer.num_training_batches) == (7, 7, math.inf)
