"""`BatchSizeFinder`: the size that it finds fits, for a whole epoch with validation, and nothing else has changed."""

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningDataModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyModule
from hookloop.testing.equality import difference
from hookloop_callbacks_tuning import BatchSizeFinder
from hookloop_callbacks_tuning.memory_budget import memory_budget
from hookloop_callbacks_tuning.search import largest_by_halving, largest_power

SAMPLES = 64


class Limited(TinyModule):
    """Raises torch's error above so many samples, which validation has more room for or less."""

    def __init__(self, fits: int = 20, validation_fits: int = 1000, batch_size: int = 4) -> None:
        super().__init__()
        self.fits, self.validation_fits, self.batch_size = fits, validation_fits, batch_size

    def allocate(self, batch: Tensor, fits: int) -> None:
        TRIED.append(len(batch))
        if len(batch) > fits:
            self.leftover = torch.ones(len(batch))
            HELD.append(weakref.ref(self.leftover))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    def loader(self) -> Any:
        values = torch.randn(SAMPLES, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(Rows(values), batch_size=self.batch_size, shuffle=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.allocate(batch, self.fits)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.allocate(batch, self.validation_fits)
        return super().validation_step(batch, batch_idx)

    def predict_step(self, batch: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Any:
        self.allocate(batch, self.fits)
        return super().predict_step(batch, batch_idx)

    test_step = validation_step
    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


class Rows(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        return self.tensors[0][index]


TRIED: list[int] = []
HELD: list[Any] = []


@pytest.fixture(autouse=True)
def anew() -> None:
    TRIED.clear()
    HELD.clear()


def trainer_in(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 1, "logger": False, "registered_callbacks": False, "accelerator": "cpu"}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**given, **arguments})


@pytest.mark.parametrize(
    ("mode", "margin", "fits", "expected"),
    [
        ("power", 0.0, 20, 16),
        ("power", 0.25, 20, 12),
        ("binsearch", 0.0, 20, 20),
        ("binsearch", 0.0, 16, 16),
        ("binsearch", 0.05, 20, 19),
        ("power", 0.0, 3, 2),
        ("binsearch", 0.0, 1000, 64),
    ],
)
def test_it_finds_the_largest_size_that_fits_and_trains_a_whole_epoch_with_it(
    mode: Any, margin: float, fits: int, expected: int, tmp_path: Path
) -> None:
    module, finder = Limited(fits), BatchSizeFinder(mode, margin=margin)
    trainer = trainer_in(tmp_path, finder)
    trainer.fit(module)

    assert finder.optimal_batch_size == module.batch_size == expected
    assert trainer.train_dataloader.batch_size == expected
    assert trainer.global_step == -(-SAMPLES // expected)


def test_validation_has_to_fit_too(tmp_path: Path) -> None:
    finder = BatchSizeFinder("binsearch", margin=0)
    trainer_in(tmp_path, finder).fit(Limited(fits=40, validation_fits=10))
    assert finder.optimal_batch_size == 10


def test_no_size_above_the_largest_is_tried(tmp_path: Path) -> None:
    finder = BatchSizeFinder("binsearch", margin=0, init_val=3, max_val=10)
    trainer_in(tmp_path, finder).fit(Limited(1000))
    assert finder.optimal_batch_size == 10
    assert max(TRIED) == 10


def test_so_many_sizes_are_tried_at_most(tmp_path: Path) -> None:
    finder = BatchSizeFinder(margin=0, max_trials=3)
    trainer_in(tmp_path, finder).fit(Limited(1000))
    assert finder.optimal_batch_size == 8


@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_a_size_is_found_for_other_entry_points_and_used_at_once(entry: str, tmp_path: Path) -> None:
    finder = BatchSizeFinder("binsearch", margin=0)
    module = Limited(fits=12, validation_fits=12)
    result = getattr(trainer_in(tmp_path, finder), entry)(module)

    assert finder.optimal_batch_size == module.batch_size == 12
    assert TRIED[-6:] == [12, 12, 12, 12, 12, 4]
    plain = getattr(trainer_in(tmp_path), entry)(Limited(100, 100, batch_size=12))
    assert difference(result, plain) is None


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_it_finds_sizes_in_the_stages_that_were_chosen_alone(entry: str, tmp_path: Path) -> None:
    finder = BatchSizeFinder(stages=[one for one in ("fit", "validate", "test", "predict") if one != entry])
    module = Limited()
    getattr(trainer_in(tmp_path, finder), entry)(module)
    assert finder.optimal_batch_size is None
    assert module.batch_size == 4


def test_nothing_is_set_but_the_size_and_the_run_is_that_of_a_model_which_had_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("found", "given")]
    torch.manual_seed(1)
    found = Limited(20)
    trainer_in(folders[0], BatchSizeFinder(), logger=True, log_every_n_steps=1).fit(found)
    torch.manual_seed(1)
    given = Limited(1000, batch_size=found.batch_size)
    trainer_in(folders[1], logger=True, log_every_n_steps=1).fit(given)

    assert difference(found.state_dict(), given.state_dict()) is None
    files = [{str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*.*")} for folder in folders]
    assert files[0] == files[1]


def test_what_failed_holds_no_memory_afterwards(tmp_path: Path) -> None:
    trainer_in(tmp_path, BatchSizeFinder("binsearch")).fit(Limited(20))
    gc.collect()
    assert HELD
    assert all(one() is None for one in HELD)


def test_another_exception_is_raised_and_leaves_everything_as_it_was(tmp_path: Path) -> None:
    class Fails(Limited):
        def allocate(self, batch: Tensor, fits: int) -> None:
            if len(batch) == 8:
                raise RuntimeError("out of ink")

    module = Fails()
    before, random = {name: one.clone() for name, one in module.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(RuntimeError, match="out of ink"):
        trainer_in(tmp_path, BatchSizeFinder()).fit(module)
    assert difference(dict(module.state_dict()), before) is None
    assert torch.equal(torch.get_rng_state(), random)
    assert module.batch_size == 4
    assert list(tmp_path.iterdir()) == []


def test_the_attribute_may_be_the_datamodules(tmp_path: Path) -> None:
    class Data(LightningDataModule):
        size = 2

        def train_dataloader(self) -> Any:
            return DataLoader(Rows(torch.ones(SAMPLES, 4)), batch_size=self.size)

    data = Data()
    module = TinyModule()
    trainer_in(tmp_path, BatchSizeFinder(batch_arg_name="size", margin=0, max_val=16)).fit(module, datamodule=data)
    assert data.size == 16


def test_on_the_cpu_a_budget_says_what_fits(tmp_path: Path) -> None:
    class Hungry(Limited):
        def allocate(self, batch: Tensor, fits: int) -> None:
            TRIED.append(len(batch))
            self.leftover = torch.ones(len(batch) * 2**21)  # 8 MiB for each sample

    module, finder = Hungry(), BatchSizeFinder(margin=0, steps_per_trial=1, max_memory=200 * 2**20, max_trials=7)
    trainer_in(tmp_path, finder, limit_train_batches=1, limit_val_batches=1).fit(module)
    assert finder.optimal_batch_size in (8, 16)
    assert max(TRIED) in (16, 32)


def test_a_budget_that_is_kept_is_not_exceeded() -> None:
    with memory_budget(2**40) as budget:
        torch.ones(2**20)
    assert not budget.exceeded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_real_limit_of_a_device_is_found_and_a_whole_epoch_trains(tmp_path: Path) -> None:
    class Large(Limited):
        def allocate(self, batch: Tensor, fits: int) -> None:
            share = torch.cuda.mem_get_info()[1] // 20
            self.leftover = torch.empty(len(batch) * share, dtype=torch.uint8, device=batch.device)

    finder = BatchSizeFinder("binsearch", margin=0.1)
    trainer_in(tmp_path, finder, accelerator="cuda").fit(Large())
    assert finder.optimal_batch_size is not None
    assert 4 <= finder.optimal_batch_size < 20


def test_a_resumed_run_keeps_its_size(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, BatchSizeFinder(margin=0))
    trainer.fit(Limited(20))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    TRIED.clear()
    module, finder = Limited(20), BatchSizeFinder(margin=0)
    trainer_in(tmp_path, finder, max_epochs=2).fit(module, ckpt_path=tmp_path / "one.ckpt")

    assert module.batch_size == finder.optimal_batch_size == 16
    assert set(TRIED) == {16}


def test_a_trial_run_finds_none(tmp_path: Path) -> None:
    module = Limited()
    with pytest.warns(UserWarning, match="BatchSizeFinder does nothing in a trial run"):
        trainer_in(tmp_path, BatchSizeFinder(), fast_dev_run=True).fit(module)
    assert module.batch_size == 4


# what it cannot do


def test_if_not_even_one_sample_fits_it_says_so_and_sets_nothing(tmp_path: Path) -> None:
    module = Limited(0)
    with pytest.raises(
        MisconfigurationError, match="no batch size that fits, beginning with 2: OutOfMemoryError: CUDA"
    ):
        trainer_in(tmp_path, BatchSizeFinder()).fit(module)
    assert module.batch_size == 4


def test_loaders_that_do_not_follow_the_attribute_are_an_error(tmp_path: Path) -> None:
    module = Limited()
    expected = "has set 'batch_size' to 2, and the training DataLoader has a batch size of 4. Make it from that attribu"
    with pytest.raises(MisconfigurationError, match=expected):
        trainer_in(tmp_path, BatchSizeFinder()).fit(module, module.loader())
    assert module.batch_size == 4


def test_several_loaders_are_an_error(tmp_path: Path) -> None:
    class Two(Limited):
        def train_dataloader(self) -> Any:
            return [self.loader(), self.loader()]

    with pytest.raises(MisconfigurationError, match="needs one training DataLoader, and there is a list"):
        trainer_in(tmp_path, BatchSizeFinder()).fit(Two())


def test_an_attribute_that_nobody_has_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"is to set 'size', and neither Limited, nor its hparams, .* \(batch_a"
    ):
        trainer_in(tmp_path, BatchSizeFinder(batch_arg_name="size")).fit(Limited())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "linear"}, r"mode='linear'\) must be one of 'power', 'binsearch'"),
        ({"steps_per_trial": 0}, r"steps_per_trial=0\) must be a whole number of at least 1"),
        ({"init_val": 1.5}, r"init_val=1.5\) must be a whole number"),
        ({"max_trials": True}, r"max_trials=True\) must be a whole number"),
        ({"max_val": 0}, r"max_val=0\) must be a whole number"),
        ({"init_val": 9, "max_val": 8}, "begin with a smaller size"),
        ({"margin": 1}, r"margin=1\) must be a number from 0 and below 1"),
        ({"batch_arg_name": ""}, r"batch_arg_name=''\) must be the name of an attribute"),
        ({"stages": "fit"}, r"stages='fit'\) must be some of 'fit', 'validate', 'test', 'predict'"),
        ({"stages": ["train"]}, r"stages=\['train'\]\) must be some of"),
        ({"max_memory": 0}, r"max_memory=0\) must be a whole number"),
    ],
)
def test_an_argument_that_is_wrong_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        BatchSizeFinder(**arguments)


@pytest.mark.parametrize("limit", range(1, 40))
@pytest.mark.parametrize("first", [1, 2, 7, 30])
def test_the_search_finds_the_limit_itself_or_a_power_below_it(limit: int, first: int) -> None:
    assert largest_by_halving(lambda size: size <= limit, first, 1000, 50) == limit
    power = largest_power(lambda size: size <= limit, first, 1000, 50)
    assert power <= limit < 2 * power + 1


def test_a_search_in_which_nothing_works_finds_nothing() -> None:
    assert largest_power(lambda size: False, 8, 100, 50) == largest_by_halving(lambda size: False, 8, 100, 50) == 0
