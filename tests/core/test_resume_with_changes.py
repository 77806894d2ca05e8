"""Resuming with other data or arguments than before, going on after the end, and what a resume costs."""

import gc
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, TensorDataset

from hookloop import Callback, LightningDataModule, LightningModule
from hookloop.plugins import MixedPrecision
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, Saves, assert_same_training, equal, loader, samples, trainer_in

pytestmark = pytest.mark.filterwarnings("ignore:There is nothing to train")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Saved after the third batch of the second epoch."""
    path = tmp_path / "middle.ckpt"
    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=BATCHES + 3)).fit(Regression(), loader())
    return path


@pytest.mark.parametrize(
    ("make", "difference"),
    [
        (lambda: DataLoader(samples(), batch_size=1), "batches: 5 then, 10 now; batch size: 2 then, 1 now"),
        (lambda: loader(7), "batches: 5 then, 7 now; samples: 10 then, 14 now"),
        (
            lambda: DataLoader(samples(), batch_size=2, shuffle=True),
            "order by: SequentialSampler then, RandomSampler now",
        ),
        (lambda: DataLoader(samples(), batch_size=2, num_workers=1), "workers: none then, some now"),
        (lambda: loader(2), "batches: 5 then, 2 now; samples: 10 then, 4 now"),
    ],
    ids=["batch size", "length", "shuffle", "workers", "shorter than what is done"],
)
def test_other_data_is_told_and_the_run_goes_on(make: Any, difference: str, path: Path) -> None:
    resumed = trainer_in(path.parent)
    with pytest.warns(UserWarning, match=rf"training dataloader 0 is another one .*\({difference}"):
        resumed.fit(Regression(), make(), ckpt_path=path)
    assert resumed.current_epoch == 2


def test_another_accumulation_is_told_and_the_run_goes_on(path: Path) -> None:
    resumed = trainer_in(path.parent, accumulate_grad_batches=2)
    with pytest.warns(UserWarning, match=r"other arguments of the Trainer \(accumulate_grad_batches=1 then, 2 now\)"):
        resumed.fit(Regression(), loader(), ckpt_path=path)
    assert resumed.current_epoch == 2


def test_the_number_of_workers_does_not_matter(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    path = tmp_path / "model.ckpt"

    def data(workers: int) -> DataLoader[Any]:
        return DataLoader(samples(), batch_size=2, shuffle=True, num_workers=workers)

    torch.manual_seed(3)
    straight = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=BATCHES + 2))
    straight.fit(Regression(), data(1))
    resumed = trainer_in(tmp_path)
    resumed.fit(Regression(), data(2), ckpt_path=path)
    assert_same_training(straight, resumed)
    assert not [one for one in recwarn if "another one" in str(one.message)]


# ------------------------------------------------------------------------------------------------ after the end


def test_a_raised_limit_goes_on_and_repeats_no_epoch(tmp_path: Path) -> None:
    straight = trainer_in(tmp_path, max_epochs=4)
    torch.manual_seed(3)
    straight.fit(Regression(), DataLoader(samples(), batch_size=2, shuffle=True))

    first = trainer_in(tmp_path, max_epochs=2)
    torch.manual_seed(3)
    first.fit(Regression(), DataLoader(samples(), batch_size=2, shuffle=True))
    first.save_checkpoint(tmp_path / "ended.ckpt")
    resumed = trainer_in(tmp_path, max_epochs=4)
    resumed.fit(Regression(), DataLoader(samples(), batch_size=2, shuffle=True), ckpt_path=tmp_path / "ended.ckpt")
    assert_same_training(straight, resumed)


def test_fit_again_is_nothing_until_a_limit_is_raised(tmp_path: Path) -> None:
    trainer, module = trainer_in(tmp_path), Regression()
    trainer.fit(module, loader())
    done = len(module.marks)
    with pytest.warns(UserWarning, match="There is nothing to train: max_epochs=2 is reached"):
        trainer.fit(module, loader())
    assert len(module.marks) == done
    trainer.max_epochs = 3
    trainer.fit(module, loader())
    assert len(module.marks) == done + BATCHES
    assert trainer.current_epoch == 3


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_a_file_of_an_evaluation_after_a_fit_goes_on_from_the_end_of_that_fit(entry: str, tmp_path: Path) -> None:
    path = tmp_path / "evaluated.ckpt"
    hook = {"validate": "on_validation_end", "test": "on_test_end", "predict": "on_predict_end"}[entry]
    trainer, module = trainer_in(tmp_path, Saves(hook, path)), Regression()
    trainer.fit(module, loader())
    getattr(trainer, entry)(module, loader(1))
    resumed, straight = trainer_in(tmp_path, max_epochs=3), trainer_in(tmp_path, max_epochs=3)
    resumed.fit(Regression(), loader(), ckpt_path=path)
    straight.fit(Regression(), loader())
    assert_same_training(straight, resumed)


# ------------------------------------------------------------------------------------------------ more that is kept


class Windows(LightningDataModule):
    """Keeps a count of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.given = 0

    def train_dataloader(self) -> Any:
        return loader()

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        self.given += 1
        return [batch[0], batch[1] + 0.01 * self.given, batch[2]]

    def state_dict(self) -> dict[str, Any]:
        return {"given": self.given}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.given = state_dict["given"]


@pytest.mark.parametrize("n", range(1, 2 * BATCHES))
def test_a_datamodule_goes_on_with_its_state(n: int, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    straight = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=n))
    straight.fit(Regression(), datamodule=Windows())
    resumed = trainer_in(tmp_path)
    resumed.fit(Regression(), datamodule=Windows(), ckpt_path=path)
    assert_same_training(straight, resumed)


@pytest.mark.parametrize("n", [1, 4, 7, 9])
def test_the_scale_of_losses_goes_on_as_it_was(n: int, tmp_path: Path) -> None:
    def precision() -> MixedPrecision:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**18, growth_interval=3)
        return MixedPrecision("16-mixed", "cpu", scaler=scaler)

    path = tmp_path / "model.ckpt"
    straight = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=n), plugins=precision())
    straight.fit(Regression(), loader())
    resumed = trainer_in(tmp_path, plugins=precision())
    resumed.fit(Regression(), loader(), ckpt_path=path)
    assert_same_training(straight, resumed)
    one, other = tmp_path / "one", tmp_path / "other"
    straight.save_checkpoint(one)
    resumed.save_checkpoint(other)
    states = [torch.load(file, weights_only=True)["precision"] for file in (one, other)]
    assert states[0]
    assert equal(states[0], states[1])


class Rounds(Sampler[int]):
    """Each round begins one sample later than the one before."""

    def __init__(self) -> None:
        self.rounds = 0

    def __len__(self) -> int:
        return 2 * BATCHES

    def __iter__(self) -> Any:
        self.rounds += 1
        return iter([(self.rounds + index) % len(self) for index in range(len(self))])

    def state_dict(self) -> dict[str, int]:
        return {"rounds": self.rounds}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self.rounds = state["rounds"]


@pytest.mark.parametrize("n", range(1, 3 * BATCHES))
def test_a_sampler_goes_on_with_its_own_state(n: int, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    straight, module = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=n), max_epochs=3), Regression()
    straight.fit(module, DataLoader(samples(), batch_size=2, sampler=Rounds()))
    again, resumed = Regression(), trainer_in(tmp_path, max_epochs=3)
    resumed.fit(again, DataLoader(samples(), batch_size=2, sampler=Rounds()), ckpt_path=path)
    assert again.marks == module.marks[n:]
    assert_same_training(straight, resumed)


# ------------------------------------------------------------------------------------------------ what a resume costs


class Counted(TensorDataset):
    """Writes each index that is read, in whichever process, into a file."""

    def __init__(self, log: Path) -> None:
        super().__init__(*samples(20).tensors)
        self.log = log

    def __getitem__(self, index: Any) -> Any:
        with self.log.open("a") as file:
            file.write(f"{index}\n")
        return super().__getitem__(index)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("k", [1, 10, 19])
def test_samples_that_are_done_are_read_by_nobody(k: int, workers: int, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"

    def data(name: str) -> DataLoader[Any]:
        return DataLoader(Counted(tmp_path / name), batch_size=2, shuffle=True, num_workers=workers)

    trainer_in(tmp_path, Saves("on_train_batch_end", path, n=k), max_epochs=1).fit(Regression(), data("first"))
    trainer_in(tmp_path, max_epochs=1).fit(Regression(), data("second"), ckpt_path=path)
    first, second = ((tmp_path / name).read_text().split() for name in ("first", "second"))
    assert len(first) == 40
    assert len(set(second)) == len(second) == 40 - 2 * k


def test_a_resumed_run_keeps_no_second_copy_of_the_checkpoint_s_tensors(path: Path) -> None:
    loaded: list[weakref.ref[Tensor]] = []

    class Watches(Callback):
        def on_load_checkpoint(
            self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]
        ) -> None:
            weights = list(checkpoint["state_dict"].values())
            moments = [state for one in checkpoint["optimizer_states"] for state in one["state"].values()]
            buffers = [value for state in moments for value in state.values() if isinstance(value, Tensor)]
            loaded.extend(weakref.ref(tensor) for tensor in [*weights, *buffers])

        def on_train_batch_end(self, *args: Any) -> None:
            gc.collect()
            alive.append(sum(one() is not None for one in loaded))

    alive: list[int] = []
    optimizers = 4  # torch's load_state_dict takes momentum buffers of the same device and dtype as they are
    trainer_in(path.parent, Watches()).fit(Regression(), loader(), ckpt_path=path)
    assert len(loaded) == 4 + optimizers
    assert alive
    assert max(alive) <= optimizers
