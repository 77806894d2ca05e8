"""A LightningDataModule by itself, in a run, and copied."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from hookloop import LightningDataModule
from hookloop.errors import MisconfigurationError

from .recording import QuietDataModule, QuietModule, Trace, loader, make_trainer


class Data(LightningDataModule):
    """Two batches for training, and a word about when it knew its trainer."""

    def __init__(self) -> None:
        super().__init__()
        self.knew: list[tuple[str, bool]] = []

    def note(self, hook: str) -> None:
        self.knew.append((hook, self.trainer is not None))

    def prepare_data(self) -> None:
        self.note("prepare_data")

    def setup(self, stage: str) -> None:
        self.note(f"setup {stage}")

    def train_dataloader(self) -> DataLoader[Any]:
        self.note("train_dataloader")
        return loader(2)

    def teardown(self, stage: str) -> None:
        self.note(f"teardown {stage}")


def test_everything_is_there_and_does_nothing() -> None:
    data = LightningDataModule()
    assert data.trainer is None
    assert [data.prepare_data(), data.setup("fit"), data.teardown("fit")] == [None, None, None]  # type: ignore[func-returns-value]
    loaders = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader(), data.predict_dataloader()]
    assert loaders == [None, None, None, None]
    assert data.state_dict() == {}
    batch = [torch.ones(1)]
    assert data.on_before_batch_transfer(batch, 0) is batch
    assert data.on_after_batch_transfer(batch, 0) is batch
    assert data.transfer_batch_to_device(batch, torch.device("meta"), 0)[0].device == torch.device("meta")


def test_it_knows_its_trainer_from_the_first_hook_on(tmp_path: Path) -> None:
    data = Data()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(QuietModule(), datamodule=data)
    hooks = ["prepare_data", "setup fit", "train_dataloader", "teardown fit"]
    assert data.knew == [(hook, True) for hook in hooks]
    assert data.trainer is trainer
    assert trainer.datamodule is data


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_it_may_stand_in_the_place_of_the_loaders(entry: str, tmp_path: Path) -> None:
    data = QuietDataModule(Trace())
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    getattr(trainer, entry)(QuietModule(), data)
    assert trainer.datamodule is data


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_loaders_and_a_datamodule_are_one_too_many(entry: str, tmp_path: Path) -> None:
    message = rf"trainer\.{entry}\(\) got loaders and a datamodule\. Pass one or the other\."
    with pytest.raises(MisconfigurationError, match=message):
        getattr(make_trainer(tmp_path, []), entry)(QuietModule(), loader(1), datamodule=Data())


def test_a_class_of_a_datamodule_is_refused_with_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"class Data was passed as a datamodule.*instance.*Data\(\.\.\.\)"):
        make_trainer(tmp_path, []).fit(QuietModule(), datamodule=Data)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [[1], QuietModule()], ids=["a list", "a module"])
def test_what_is_no_datamodule_is_refused(given: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationError, match=r"(?s)datamodule=.* is no LightningDataModule"):
        make_trainer(tmp_path, []).fit(QuietModule(), datamodule=given)


@pytest.mark.parametrize(
    "make",
    [copy.copy, copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_a_copy_of_one_that_was_in_a_run_belongs_to_no_trainer(make: Any, tmp_path: Path) -> None:
    data = Data()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(QuietModule(), datamodule=data)
    copied = make(data)
    assert copied.trainer is None
    assert copied.knew == data.knew
    other = make_trainer(tmp_path, [], max_epochs=1)
    other.fit(QuietModule(), datamodule=copied)
    assert copied.trainer is other
    assert data.trainer is trainer
