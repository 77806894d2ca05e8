"""How far a fit goes: combinations of limits, stops and second fits, against a model that counts on its fingers."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset

from hookloop import Callback, LightningDataModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

from .fitting import Batch, Regression, loader, trainer_in


@dataclass
class Counted:
    """What happened: the batches of each epoch, optimizer steps, epochs that began."""

    batches: list[tuple[int, int]]
    steps: int = 0
    epochs: int = 0
    stop: bool = False

    def go_on(
        self, length: int, window: int, max_epochs: int, max_steps: int, min_epochs: int, min_steps: int, stop_at: int
    ) -> None:
        """A fit by the words of the documentation. `stop_at`: somebody asks to stop after so many batches in all."""

        def over() -> bool:
            return (max_steps != -1 and self.steps >= max_steps) or self.may_stop(min_epochs, min_steps)

        while not over() and (max_epochs == -1 or self.epochs < max_epochs):
            in_window = 0
            for batch in range(length):
                self.batches.append((self.epochs, batch))
                in_window += 1
                if in_window == window or batch == length - 1:
                    self.steps += 1
                    in_window = 0
                self.stop = self.stop or len(self.batches) == stop_at
                if over():
                    break
            self.epochs += 1

    def may_stop(self, min_epochs: int, min_steps: int) -> bool:
        return self.stop and self.epochs >= min_epochs and self.steps >= min_steps


@pytest.mark.parametrize(("hook", "epochs"), [("on_train_start", 0), ("on_train_epoch_start", 1)])
def test_a_wish_to_stop_before_the_first_batch_is_obeyed_before_it(hook: str, epochs: int, tmp_path: Path) -> None:
    class Stops(Callback):
        pass

    setattr(Stops, hook, lambda self, trainer, pl_module: setattr(trainer, "should_stop", True))
    trainer, module = trainer_in(tmp_path, Stops()), Regression()
    trainer.fit(module, loader(), loader())
    assert module.marks == []
    assert (trainer.current_epoch, trainer.global_step) == (epochs, 0)


class Watches(Callback):
    """Writes down the batches, and asks to stop."""

    def __init__(self, stop_at: int) -> None:
        self.stop_at = stop_at
        self.batches: list[tuple[int, int]] = []

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append((trainer.current_epoch, batch_idx))
        if len(self.batches) == self.stop_at:
            trainer.should_stop = True


def limits() -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries(
        {
            "max_epochs": st.integers(-1, 4),
            "max_steps": st.integers(-1, 9),
            "min_epochs": st.integers(0, 3),
            "min_steps": st.integers(0, 8),
        }
    )


def fits(arguments: dict[str, int]) -> bool:
    """Whether these limits do not contradict each other, and end a fit."""
    max_epochs, max_steps = arguments["max_epochs"], arguments["max_steps"]
    return (
        (max_epochs, max_steps) != (-1, -1)
        and (max_epochs == -1 or arguments["min_epochs"] <= max_epochs)
        and (max_steps == -1 or arguments["min_steps"] <= max_steps)
    )


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arguments=limits(), length=st.integers(1, 5), window=st.integers(1, 4), stop_at=st.integers(0, 12))
def test_a_fit_goes_exactly_as_far_as_its_limits_let_it(
    arguments: dict[str, int], length: int, window: int, stop_at: int, tmp_path: Path
) -> None:
    assume(fits(arguments))
    expected = Counted([])
    expected.go_on(length, window, stop_at=stop_at, **arguments)
    watches = Watches(stop_at)
    trainer = trainer_in(tmp_path, watches, accumulate_grad_batches=window, **arguments)
    trainer.fit(Regression(), loader(length))
    assert watches.batches == expected.batches
    assert (trainer.global_step, trainer.current_epoch) == (expected.steps, expected.epochs)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(1, 4), epochs=st.lists(st.integers(1, 6), min_size=2, max_size=4), window=st.integers(1, 3))
def test_fits_with_raised_limits_are_one_fit_with_the_last_limit(
    length: int, epochs: list[int], window: int, tmp_path: Path
) -> None:
    epochs = sorted(set(epochs))
    watches, module = Watches(0), Regression()
    trainer = trainer_in(tmp_path, watches, accumulate_grad_batches=window, max_epochs=epochs[0])
    for max_epochs in epochs:
        trainer.max_epochs = max_epochs
        trainer.fit(module, loader(length))
    whole = Regression()
    once = trainer_in(tmp_path, accumulate_grad_batches=window, max_epochs=epochs[-1])
    once.fit(whole, loader(length))
    assert watches.batches == [(epoch, batch) for epoch in range(epochs[-1]) for batch in range(length)]
    assert (trainer.global_step, trainer.current_epoch) == (once.global_step, once.current_epoch)


def test_a_step_limit_can_be_raised_too(tmp_path: Path) -> None:
    watches, module = Watches(0), Regression()
    trainer = trainer_in(tmp_path, watches, max_epochs=-1, max_steps=2)
    trainer.fit(module, loader(3))
    trainer.max_steps = 5
    trainer.fit(module, loader(3))
    # The first fit ended inside an epoch, and with it the epoch: the second one begins the next.
    assert watches.batches == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert (trainer.global_step, trainer.current_epoch) == (5, 2)


def test_another_module_begins_anew(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, max_epochs=2)
    trainer.fit(Regression(), loader(3))
    trainer.fit(Regression(), loader(2))
    assert (trainer.global_step, trainer.current_epoch) == (4, 2)


# How many steps there will be


class Asks(Regression):
    """Asks in configure_optimizers, before anybody needed the loader."""

    estimate: float = -1

    def configure_optimizers(self) -> Any:
        assert self.trainer.num_training_batches == 0
        self.estimate = self.trainer.estimated_stepping_batches
        assert self.trainer.num_training_batches != 0
        return super().configure_optimizers()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(1, 7),
    window=st.integers(1, 4),
    max_epochs=st.integers(1, 4),
    max_steps=st.integers(1, 12) | st.just(-1),
    limit=st.just(1.0) | st.integers(1, 8),
)
def test_the_estimate_is_the_number_of_steps_that_are_taken(
    length: int, window: int, max_epochs: int, max_steps: int, limit: int | float, tmp_path: Path
) -> None:
    module = Asks()
    trainer = trainer_in(
        tmp_path,
        max_epochs=max_epochs,
        max_steps=max_steps,
        accumulate_grad_batches=window,
        limit_train_batches=limit,
    )
    trainer.fit(module, loader(length))
    assert module.estimate == trainer.global_step == trainer.estimated_stepping_batches


class Stream(IterableDataset[Batch]):
    def __iter__(self) -> Iterator[Batch]:
        yield from loader(4)


@pytest.mark.parametrize(
    ("arguments", "estimate", "steps"),
    [
        ({"max_epochs": 2}, math.inf, 8),
        ({"max_epochs": 2, "max_steps": 3}, 3, 3),
        ({"max_epochs": -1, "max_steps": 6}, 6, 6),
        # A limit is no length: there may be fewer.
        ({"max_epochs": 2, "limit_train_batches": 3}, 6, 6),
    ],
)
def test_the_steps_of_a_stream_are_known_by_its_limits_alone(
    arguments: dict[str, int], estimate: float, steps: int, tmp_path: Path
) -> None:
    module = Asks()
    trainer = trainer_in(tmp_path, **arguments)
    trainer.fit(module, DataLoader(Stream(), batch_size=None))
    assert (module.estimate, trainer.global_step) == (estimate, steps)


def test_the_loader_of_a_datamodule_is_asked_for_once_for_the_estimate_and_the_fit(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        asked = 0

        def train_dataloader(self) -> Any:
            self.asked += 1
            return loader(5)

    data, module = Data(), Asks()
    trainer_in(tmp_path, accumulate_grad_batches=2).fit(module, datamodule=data)
    assert (module.estimate, data.asked) == (6, 1)


def test_a_schedule_over_the_estimated_steps_ends_exactly_with_the_fit(tmp_path: Path) -> None:
    class Warms(Asks):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=int(self.estimate))
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    module = Warms()
    trainer_in(tmp_path, max_epochs=3, accumulate_grad_batches=2).fit(module, loader(5))
    assert module.schedule.last_epoch == 9
    assert module.schedule.get_last_lr() == [0.0]


def test_the_estimate_without_a_run_says_what_it_needs() -> None:
    with pytest.raises(MisconfigurationError, match="estimated_stepping_batches needs a module: call fit"):
        _ = Trainer(registered_callbacks=False).estimated_stepping_batches


# Where gradients are off


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize("entry_point", ["validate", "test", "predict"])
def test_inference_mode_is_on_in_evaluation_if_it_was_asked_for_and_gradients_never_are(
    inference: bool, entry_point: str, tmp_path: Path
) -> None:
    seen: set[tuple[bool, bool]] = set()

    class Looks(Regression):
        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            seen.add((torch.is_inference_mode_enabled(), torch.is_grad_enabled()))

        test_step = validation_step
        predict_step = validation_step  # type: ignore[assignment]

    trainer = trainer_in(tmp_path, inference_mode=inference)
    getattr(trainer, entry_point)(Looks(), loader(1))
    assert seen == {(inference, False)}


def test_validation_inside_a_fit_is_never_in_inference_mode_so_that_nothing_of_it_can_reach_training(
    tmp_path: Path,
) -> None:
    class Keeps(Regression):
        kept: torch.Tensor | None = None

        def validation_step(self, batch: Batch, batch_idx: int) -> None:
            assert (torch.is_inference_mode_enabled(), torch.is_grad_enabled()) == (False, False)
            self.kept = batch[1] * 1

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss = super().training_step(batch, batch_idx)
            # Autograd refuses tensors of inference mode here.
            return loss if self.kept is None else loss + self.net(self.kept).mean()

    module = Keeps()
    trainer_in(tmp_path, max_epochs=2, inference_mode=True).fit(module, loader(2), loader(1))
    assert module.kept is not None
