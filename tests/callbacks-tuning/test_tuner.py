"""`Tuner`: the finders' functions before a run, with Lightning's arguments; nothing is trained or left behind."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import hookloop.tuner
from hookloop import Callback, LambdaCallback, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyModule
from hookloop.testing.equality import difference
from hookloop_callbacks_tuning import BatchSizeFinder, LearningRateFinder, Tuner


class Rows(TensorDataset):
    def __getitem__(self, index: int) -> Any:
        return self.tensors[0][index]


class Sized(TinyModule):
    """Fits up to twelve samples into its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size, self.lr = 4, 0.5

    def loader(self) -> Any:
        values = torch.randn(48, 4, generator=torch.Generator().manual_seed(1))
        return DataLoader(Rows(values), batch_size=self.batch_size)

    def loss(self, batch: Any) -> Any:
        if len(batch) > 12:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().loss(batch)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self.loss(batch)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    train_dataloader = val_dataloader = test_dataloader = predict_dataloader = loader


def trainer_in(folder: Path, *callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 1, "registered_callbacks": False, "accelerator": "cpu"}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **{**given, **arguments})


def test_it_finds_a_size_and_a_rate_and_then_the_trainer_trains_with_them(tmp_path: Path) -> None:
    heard: list[str] = []
    listens = LambdaCallback(on_train_batch_end=lambda *arguments: heard.append("batch"))
    trainer, module = trainer_in(tmp_path, listens), Sized()
    before = {name: one.clone() for name, one in module.state_dict().items()}
    random = torch.get_rng_state()
    tuner = hookloop.tuner.Tuner(trainer)

    assert tuner.scale_batch_size(module, mode="binsearch", margin=0.0) == module.batch_size == 12
    curve = tuner.lr_find(module, min_lr=1e-4, num_training=40)
    assert curve is not None
    assert module.lr == curve.suggestion() != 0.5
    assert difference(dict(module.state_dict()), before) is None
    assert torch.equal(torch.get_rng_state(), random)
    assert (heard, trainer.global_step, list(trainer.callbacks), trainer.interrupted) == ([], 0, [listens], False)
    assert [type(one).__name__ for one in trainer.loggers] == ["CSVLogger"]
    assert list(tmp_path.iterdir()) == []

    trainer.fit(module)
    assert (len(heard), trainer.global_step) == (4, 4)
    assert trainer.optimizers[0].param_groups[0]["lr"] == module.lr


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_it_finds_a_size_for_other_entry_points(method: Any, tmp_path: Path) -> None:
    module = Sized()
    assert Tuner(trainer_in(tmp_path)).scale_batch_size(module, method=method, margin=0.25) == 6 == module.batch_size


@pytest.mark.parametrize("fails", [False, True])
def test_the_trainer_has_its_callbacks_back_whatever_happens(fails: bool, tmp_path: Path) -> None:
    class Fails(Sized):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise LookupError("out of ink")

    own = LambdaCallback()
    trainer = trainer_in(tmp_path, own)
    with pytest.raises(LookupError if fails else MisconfigurationError):
        Tuner(trainer).lr_find(Fails(), attr_name="" if fails else "pace")
    assert list(trainer.callbacks) == [own]
    assert [type(one).__name__ for one in trainer.loggers] == ["CSVLogger"]


def test_a_trial_run_finds_nothing(tmp_path: Path) -> None:
    tuner = Tuner(trainer_in(tmp_path, fast_dev_run=True))
    with pytest.warns(UserWarning, match="does nothing in a trial run"):
        assert tuner.lr_find(Sized()) is None
    with pytest.warns(UserWarning, match="does nothing in a trial run"):
        assert tuner.scale_batch_size(Sized()) is None


def test_what_cannot_be_meant_is_an_error(tmp_path: Path) -> None:
    tuner, module = Tuner(trainer_in(tmp_path)), Sized()
    loader: Any = module.loader()
    with pytest.raises(MisconfigurationError, match=r"needs a hookloop.Trainer"):
        Tuner("trainer")  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match=r"lr_find\(method='test'\) must be 'fit'"):
        tuner.lr_find(module, method="test")  # type: ignore[arg-type]
    with pytest.raises(MisconfigurationError, match="method='train' must be 'fit', 'validate', 'test' or 'predict'"):
        tuner.scale_batch_size(module, method="train")  # type: ignore[arg-type]
    with pytest.raises(
        MisconfigurationError, match=r"With method='fit', pass train_dataloaders and val_d.*not dataload"
    ):
        tuner.lr_find(module, dataloaders=loader)
    with pytest.raises(MisconfigurationError, match=r"With method='test', pass dataloaders, and not val_dataloaders"):
        tuner.scale_batch_size(module, val_dataloaders=loader, method="test")
    for finder, use in ((LearningRateFinder(), tuner.lr_find), (BatchSizeFinder(), tuner.scale_batch_size)):
        tuner = Tuner(trainer_in(tmp_path, finder))
        with pytest.raises(
            MisconfigurationError, match=f"The Trainer has a {type(finder).__name__}, which finds by its"
        ):
            getattr(tuner, use.__name__)(module)
