"""A datamodule's settings and state in checkpoints, load_from_checkpoint, and from_datasets."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, RandomSampler, SequentialSampler, TensorDataset

from hookloop import LightningDataModule
from hookloop.errors import CheckpointError, MisconfigurationTypeError

from .fitting import Regression, loader, samples, trainer_in


class Data(LightningDataModule):
    def __init__(self, folder: Path, batch_size: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.seen = 0

    def train_dataloader(self) -> DataLoader[Any]:
        self.seen += 1
        return DataLoader(samples(), batch_size=self.hparams.batch_size)

    def state_dict(self) -> dict[str, Any]:
        return {"seen": self.seen}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seen = state_dict["seen"]


def saved(data: LightningDataModule, folder: Path) -> Path:
    trainer = trainer_in(folder, max_epochs=1)
    trainer.fit(Regression(), datamodule=data)
    trainer.save_checkpoint(folder / "file.ckpt")
    return folder / "file.ckpt"


# load_from_checkpoint


def test_it_is_made_again_with_its_arguments_and_its_state(tmp_path: Path) -> None:
    path = saved(Data(Path("a"), 5), tmp_path)
    loaded = Data.load_from_checkpoint(path)
    assert loaded.hparams == {"folder": Path("a"), "batch_size": 5}
    assert loaded.seen == 1
    assert loaded.trainer is None
    assert Data.load_from_checkpoint(str(path), batch_size=3).hparams == {"folder": Path("a"), "batch_size": 3}
    with path.open("rb") as file:
        assert Data.load_from_checkpoint(file, map_location="cpu").seen == 1


def test_a_hparams_file_takes_the_place_of_its_settings(tmp_path: Path) -> None:
    path = saved(Data(Path("a")), tmp_path)
    (tmp_path / "h.yaml").write_text("folder: b\nbatch_size: 7\n")
    assert Data.load_from_checkpoint(path, hparams_file=tmp_path / "h.yaml").hparams == {"folder": "b", "batch_size": 7}


def test_a_fit_that_resumes_gives_it_its_state_back(tmp_path: Path) -> None:
    path = saved(Data(Path("a")), tmp_path)
    other = Data(Path("a"))
    trainer_in(tmp_path).fit(Regression(), datamodule=other, ckpt_path=path)
    assert other.seen == 2


def test_the_state_in_lightnings_place_is_found(tmp_path: Path) -> None:
    checkpoint = {"state_dict": {}, "Data": {"seen": 9}, "datamodule_hyper_parameters": {"folder": "a"}}
    torch.save(checkpoint, tmp_path / "file.ckpt")
    assert Data.load_from_checkpoint(tmp_path / "file.ckpt").seen == 9


def test_a_checkpoint_of_a_run_without_it_names_what_is_missing(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, max_epochs=1)
    trainer.fit(Regression(), loader())
    trainer.save_checkpoint(tmp_path / "file.ckpt")
    message = r"Data\.__init__ needs folder, and the checkpoint has no hyperparameters\. Pass what is missing"
    with pytest.raises(CheckpointError, match=message):
        Data.load_from_checkpoint(tmp_path / "file.ckpt")
    assert Data.load_from_checkpoint(tmp_path / "file.ckpt", folder=Path("b")).seen == 0


def test_on_an_instance_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationTypeError, match=r"Data\.load_from_checkpoint was called on an instance"):
        Data(Path("a")).load_from_checkpoint(saved(Data(Path("a")), tmp_path))


def test_what_no_file_can_hold_of_it_is_left_out_and_asked_for(tmp_path: Path) -> None:
    data = Data(Path("a"))
    data.hparams["transform"] = lambda sample: sample
    with pytest.warns(
        UserWarning, match=r'(?s)Data: hparams\["transform"\] is a function, .*Data\.load_from_checkpoint'
    ):
        path = saved(data, tmp_path)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["datamodule_hyper_parameters"] == {"folder": "a", "batch_size": 2}
    assert list(checkpoint["datamodule_hyper_parameters_left_out"]) == ["transform"]
    # The constructor does not take it, so it is not missed.
    assert Data.load_from_checkpoint(path).hparams.folder == Path("a")


def test_a_helper_may_have_any_private_name(tmp_path: Path) -> None:
    # None of these is looked at as if it were hookloop's own.
    names = ("_take", "_settings", "_from_object", "_warn", "_frozen", "_loaders")
    helped = type("Helped", (Data,), {name: lambda self, a, b, c, d: None for name in names})
    assert Data.load_from_checkpoint(saved(helped(Path("a")), tmp_path)).hparams.folder == Path("a")


# from_datasets


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(samples())


class Indexed:
    """A dataset of another library: a length, and items by index."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Any:
        return samples()[index]


def test_each_stage_has_a_loader_over_its_dataset() -> None:
    dataset, other = samples(), Indexed()
    data = LightningDataModule.from_datasets(dataset, other, None, Stream(), batch_size=4)  # type: ignore[arg-type]
    train, val, predict = data.train_dataloader(), data.val_dataloader(), data.predict_dataloader()
    assert (train.dataset, train.batch_size, train.num_workers) == (dataset, 4, 0)
    assert (val.dataset, val.batch_size) == (other, 4)
    assert isinstance(train.sampler, RandomSampler)
    assert isinstance(val.sampler, SequentialSampler)
    assert predict.batch_size == 4
    assert data.test_dataloader() is None


def test_an_iterable_training_set_is_not_shuffled() -> None:
    batches = list(LightningDataModule.from_datasets(Stream(), batch_size=5).train_dataloader())
    assert [batch[0].tolist() for batch in batches] == [[0, 0, 1, 1, 2], [2, 3, 3, 4, 4]]


def test_several_datasets_become_several_loaders() -> None:
    sets = [samples(2), samples(3)]
    data = LightningDataModule.from_datasets(
        train_dataset={"a": sets[0], "b": sets[1]},
        val_dataset=sets,
        test_dataset=tuple(sets),
        batch_size=2,
    )
    assert {key: len(one) for key, one in data.train_dataloader().items()} == {"a": 2, "b": 3}
    assert [len(one) for one in data.val_dataloader()] == [2, 3]
    assert [len(one) for one in data.test_dataloader()] == [2, 3]


def test_workers_are_those_that_were_asked_for() -> None:
    assert LightningDataModule.from_datasets(samples(), num_workers=2).train_dataloader().num_workers == 2


def test_the_constructor_gets_what_it_takes() -> None:
    class Sized(LightningDataModule):
        def __init__(self, name: str, batch_size: int) -> None:
            super().__init__()
            self.save_hyperparameters()

    class Open(LightningDataModule):
        def __init__(self, **settings: Any) -> None:
            super().__init__()
            self.save_hyperparameters()

    assert Sized.from_datasets(samples(), batch_size=4, name="a").hparams == {"name": "a", "batch_size": 4}
    assert Open.from_datasets(samples(), name="a").hparams == {"batch_size": 1, "num_workers": 0, "name": "a"}
    assert type(Sized.from_datasets(samples(), name="a")) is Sized


def test_a_run_goes_over_it(tmp_path: Path) -> None:
    module = Regression()
    data = LightningDataModule.from_datasets(Stream(), samples(), batch_size=2)
    trainer_in(tmp_path, max_epochs=1).fit(module, datamodule=data)
    assert module.marks == ["t0", "t1", "t2", "t3", "t4", "v0", "v1", "v2", "v3", "v4"]


def test_it_can_be_pickled() -> None:
    data = LightningDataModule.from_datasets(TensorDataset(torch.arange(3)), batch_size=3)
    copied = pickle.loads(pickle.dumps(data))
    assert sorted(next(iter(copied.train_dataloader()))[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        (3, r"train_dataset=3\) got a int"),
        ("folder", r"train_dataset='folder'\) got a str"),
        ([samples(), 4], r"train_dataset\[1\]=4\) got a int"),
        ({"a": [None]}, r"train_dataset\['a'\]\[0\]=None\) got a NoneType"),
        (Stream, r"train_dataset=<class .*\) got the class Stream"),
    ],
    ids=["int", "str", "in a list", "in a dict", "class"],
)
def test_what_is_no_dataset_is_refused(given: Any, what: str) -> None:
    with pytest.raises(MisconfigurationTypeError, match=rf"from_datasets\({what}, and a dataset is needed: a torch"):
        LightningDataModule.from_datasets(given)
