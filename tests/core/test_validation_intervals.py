"""After which batches a fit validates: every form of val_check_interval with every form of check_val_every_n_epoch."""

from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from hookloop import Callback, LightningModule
from hookloop.errors import MisconfigurationError
from hookloop.loops import validation_plan
from hookloop.view import TrainerView

from .fitting import Batch, Regression, Saves, loader, trainer_in


class Validated(Callback):
    """The batches of the whole fit after which validation ran."""

    def __init__(self) -> None:
        self.batches = 0
        self.after: list[int] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.batches += 1

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self.after.append(self.batches)


def validations(tmp_path: Path, batches: int, epochs: int, **arguments: Any) -> list[int]:
    """After which batches, counted through all epochs, a fit validates."""
    validated = Validated()
    trainer_in(tmp_path, validated, max_epochs=epochs, **arguments).fit(Regression(), loader(batches), loader(1))
    assert validated.batches == batches * epochs
    return validated.after


def expected(batches: int, epochs: int, interval: int | float, every: int | None) -> list[int]:
    """The same, by the words of the documentation: counted out, batch by batch."""
    after = []
    for epoch in range(epochs):
        if every is not None and (epoch + 1) % every:
            continue
        for batch in range(1, batches + 1):
            done = epoch * batches + batch
            if every is None:
                due = done % interval == 0
            elif isinstance(interval, int):
                due = batch % interval == 0
            elif interval == 1.0:
                due = batch == batches
            else:
                # The share of an epoch in whole batches, one at least. Fraction: no float rounds it.
                due = batch % max(1, int(Fraction(str(interval)) * batches)) == 0
            if due:
                after.append(done)
    return after


EVERY_INTERVAL: list[tuple[int, int, int | float, int | None, list[int]]] = [
    # batches, epochs, val_check_interval, check_val_every_n_epoch, after which batches
    (4, 2, 1.0, 1, [4, 8]),
    (4, 3, 1.0, 2, [8]),
    (4, 3, 1.0, 4, []),
    (4, 2, 0.5, 1, [2, 4, 6, 8]),
    (4, 2, 0.25, 2, [5, 6, 7, 8]),
    (5, 1, 0.5, 1, [2, 4]),
    (3, 1, 0.1, 1, [1, 2, 3]),
    (10, 1, 0.3, 1, [3, 6, 9]),
    (10, 1, 0.99, 1, [9]),
    (4, 2, 1, 1, [1, 2, 3, 4, 5, 6, 7, 8]),
    (4, 2, 3, 1, [3, 7]),
    (4, 2, 4, 1, [4, 8]),
    (4, 4, 3, 2, [7, 15]),
    (4, 3, 3, None, [3, 6, 9, 12]),
    (4, 3, 5, None, [5, 10]),
    (4, 3, 12, None, [12]),
    (4, 3, 13, None, []),
]


@pytest.mark.parametrize(("batches", "epochs", "interval", "every", "after"), EVERY_INTERVAL)
def test_validation_runs_after_these_batches_and_no_others(
    batches: int, epochs: int, interval: int | float, every: int | None, after: list[int], tmp_path: Path
) -> None:
    arguments = {"val_check_interval": interval, "check_val_every_n_epoch": every}
    assert expected(batches, epochs, interval, every) == after
    assert validations(tmp_path, batches, epochs, **arguments) == after


SHARES = st.decimals(min_value="0.01", max_value="1", places=2).map(float)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    batches=st.integers(1, 9),
    epochs=st.integers(1, 4),
    interval=st.integers(1, 9) | SHARES,
    every=st.none() | st.integers(1, 3),
)
def test_any_interval_validates_where_the_words_of_the_documentation_say(
    batches: int, epochs: int, interval: int | float, every: int | None, tmp_path: Path
) -> None:
    arguments = {"val_check_interval": interval, "check_val_every_n_epoch": every}
    if every is None and isinstance(interval, float):
        with pytest.raises(MisconfigurationError, match="fraction of an epoch, and check_val_every_n_epoch=None"):
            trainer_in(tmp_path, **arguments)
    elif every is not None and isinstance(interval, int) and interval > batches:
        with pytest.raises(MisconfigurationError, match="longer than the training epoch"):
            validations(tmp_path, batches, epochs, **arguments)
    else:
        assert validations(tmp_path, batches, epochs, **arguments) == expected(batches, epochs, interval, every)


def test_numbers_of_numpy_are_intervals(tmp_path: Path) -> None:
    assert validations(tmp_path, 4, 1, val_check_interval=np.int64(2)) == [2, 4]
    assert validations(tmp_path, 10, 1, val_check_interval=np.float32(0.7)) == [7]


class Stream(IterableDataset[Batch]):
    def __iter__(self) -> Iterator[Batch]:
        yield from loader(5)


@pytest.mark.parametrize(
    ("interval", "every", "after"), [(1.0, 1, [5, 10]), (2, 1, [2, 4, 7, 9]), (2, None, [2, 4, 6, 8, 10])]
)
def test_a_stream_validates_at_its_end_or_by_batches(
    interval: int | float, every: int | None, after: list[int], tmp_path: Path
) -> None:
    validated = Validated()
    trainer = trainer_in(tmp_path, validated, val_check_interval=interval, check_val_every_n_epoch=every)
    trainer.fit(Regression(), DataLoader(Stream(), batch_size=None), loader(1))
    assert validated.after == after


# By the clock


class Clock:
    """A clock that a test sets: it stands still until somebody says that time has passed."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(validation_plan, "monotonic", clock)
    return clock


class Slow(Regression):
    """Every training batch takes a minute, every validation three, and the end of an epoch half of one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.clock.seconds += 60
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        self.clock.seconds += 180

    def on_train_epoch_end(self) -> None:
        self.clock.seconds += 30


BY_THE_CLOCK: list[tuple[Any, int | None, list[int]]] = [
    # Three epochs of four batches: 1 2 3 4 . 5 6 7 8 . 9 10 11 12 minutes, half a minute at each dot.
    ("00:00:01:00", 1, list(range(1, 13))),
    ("00:00:02:00", 1, [2, 4, 6, 8, 10, 12]),
    (timedelta(minutes=3), 1, [3, 6, 9, 12]),
    # Half a minute passed between batch 4 and batch 5: one and a half, two and a half, three and a half.
    ({"minutes": 3, "seconds": 30}, 1, [4, 7, 10]),
    ({"seconds": 150}, 1, [3, 5, 8, 10]),
    ("00:00:05:00", None, [5, 10]),
    # Not in the first epoch and not in the third; the clock goes on.
    ("00:00:03:00", 2, [5, 8]),
    ("00:00:20:00", 1, []),
    ("01:00:00:00", 1, []),
]


@pytest.mark.parametrize(("interval", "every", "after"), BY_THE_CLOCK, ids=repr)
def test_validation_runs_after_the_first_batch_that_ends_when_the_time_is_over(
    interval: Any, every: int | None, after: list[int], clock: Clock, tmp_path: Path
) -> None:
    validated = Validated()
    trainer = trainer_in(tmp_path, validated, max_epochs=3, val_check_interval=interval, check_val_every_n_epoch=every)
    trainer.fit(Slow(clock), loader(4), loader(1))
    assert validated.after == after


def test_a_time_needs_no_length_of_the_loader(clock: Clock, tmp_path: Path) -> None:
    validated = Validated()
    trainer = trainer_in(tmp_path, validated, val_check_interval="00:00:03:00", check_val_every_n_epoch=None)
    trainer.fit(Slow(clock), DataLoader(Stream(), batch_size=None), loader(1))
    assert validated.after == [3, 6, 9]


def test_the_real_clock_validates_after_every_batch_or_never(tmp_path: Path) -> None:
    assert validations(tmp_path, 3, 2, val_check_interval=timedelta(microseconds=1)) == [1, 2, 3, 4, 5, 6]
    assert validations(tmp_path, 3, 2, val_check_interval=timedelta(days=1)) == []


def test_a_stop_that_is_asked_for_ends_with_a_validation_whatever_the_clock_says(clock: Clock, tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_batch_end(self, trainer: TrainerView, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == 2

    validated = Validated()
    trainer = trainer_in(tmp_path, validated, Stops(), val_check_interval="00:01:00:00")
    trainer.fit(Slow(clock), loader(4), loader(1))
    assert validated.after == [2]


def test_the_time_since_the_last_validation_survives_a_resume(clock: Clock, tmp_path: Path) -> None:
    # Interrupted every four minutes, a run that validates every five would never do so, did it forget the time.
    path = tmp_path / "a.ckpt"
    first = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=4), max_epochs=1, val_check_interval="00:00:05:00")
    first.fit(Slow(clock), loader(6), loader(1))
    assert torch.load(path, weights_only=True)["progress"]["unvalidated_ms"] == 240_000

    clock.seconds = 7.0  # another process, another beginning of time
    validated = Validated()
    resumed = trainer_in(tmp_path, validated, max_epochs=1, val_check_interval="00:00:05:00")
    resumed.fit(Slow(clock), loader(6), loader(1), ckpt_path=path)
    # The first batch of the resumed run is the fifth minute.
    assert (validated.batches, validated.after) == (2, [1])


def test_a_checkpoint_that_validation_saved_begins_a_new_interval(clock: Clock, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    trainer = trainer_in(tmp_path, Saves("on_validation_end", path), max_epochs=1, val_check_interval="00:00:03:00")
    trainer.fit(Slow(clock), loader(4), loader(1))
    assert torch.load(path, weights_only=True)["progress"]["unvalidated_ms"] == 0


def test_a_validation_that_was_due_when_the_checkpoint_was_saved_runs_after_the_resume(
    clock: Clock, tmp_path: Path
) -> None:
    path = tmp_path / "a.ckpt"
    # Saved by a callback of Order LAST after the third batch, right before the validation.
    first = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=3), max_epochs=1, val_check_interval="00:00:03:00")
    first.fit(Slow(clock), loader(4), loader(1))
    validated = Validated()
    resumed = trainer_in(tmp_path, validated, max_epochs=1, val_check_interval="00:00:03:00")
    resumed.fit(Slow(clock), loader(4), loader(1), ckpt_path=path)
    assert (validated.batches, validated.after) == (1, [0])


def test_a_trial_run_validates_once_and_looks_at_no_clock(clock: Clock, tmp_path: Path) -> None:
    validated = Validated()
    trainer = trainer_in(tmp_path, validated, fast_dev_run=2, val_check_interval="00:00:01:00")
    trainer.fit(Slow(clock), loader(4), loader(1))
    assert validated.after == [2]
