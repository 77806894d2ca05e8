"""When a fit begins, the settings of the module and of the datamodule go to every logger."""

from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import LightningDataModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger

from .fitting import Regression, Rows, loader, trainer_in


class Settings(Rows):
    """Keeps every dict of settings, and how many rows came before it."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Any] = []

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.got.append((params, len(self.rows)))


class Net(Regression):
    def __init__(self, settings: dict[str, Any], logged: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters(settings, logger=logged)


class Data(LightningDataModule):
    def __init__(self, settings: dict[str, Any], logged: bool = True) -> None:
        super().__init__()
        self.save_hyperparameters(settings, logger=logged)

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader()

    def predict_dataloader(self) -> Any:
        return loader()


def logged(module: Regression, datamodule: LightningDataModule, folder: Path) -> list[Any]:
    logger = Settings()
    trainer_in(folder, logger=logger, log_every_n_steps=1, max_epochs=1).fit(module, datamodule=datamodule)
    return logger.got


def test_both_are_merged_and_sent_once_before_the_first_row(tmp_path: Path) -> None:
    net, data = Net({"lr": 0.1, "seed": 1}), Data({"batch_size": 4, "seed": 1})
    assert logged(net, data, tmp_path) == [({"lr": 0.1, "seed": 1, "batch_size": 4}, 0)]


@pytest.mark.parametrize(
    ("of_module", "of_datamodule", "expected"),
    [
        (True, False, [({"lr": 0.1}, 0)]),
        (False, True, [({"size": 4}, 0)]),
        (False, False, []),
    ],
)
def test_what_was_saved_with_logger_false_is_left_out(
    of_module: bool, of_datamodule: bool, expected: list[Any], tmp_path: Path
) -> None:
    net, data = Net({"lr": 0.1}, logged=of_module), Data({"size": 4}, logged=of_datamodule)
    assert logged(net, data, tmp_path) == expected
    assert (net.hparams, data.hparams) == ({"lr": 0.1}, {"size": 4})


def test_without_settings_nothing_is_sent(tmp_path: Path) -> None:
    assert logged(Regression(), Data({}), tmp_path) == []


def test_loggers_get_what_was_saved_and_not_what_became_of_it(tmp_path: Path) -> None:
    net = Net({"lr": 0.1})
    net.hparams.lr = 0.5
    assert logged(net, Data({}), tmp_path) == [({"lr": 0.1}, 0)]


def test_what_setup_saves_is_sent_too(tmp_path: Path) -> None:
    class Counting(Data):
        def setup(self, stage: str) -> None:
            self.save_hyperparameters({"classes": 10})

    assert logged(Regression(), Counting({"size": 4}), tmp_path) == [({"size": 4, "classes": 10}, 0)]


def test_every_logger_gets_a_dict_of_its_own(tmp_path: Path) -> None:
    class Changing(Settings):
        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            super().log_hyperparams(dict(params))
            params.clear()

    first, second = Changing(), Changing()
    trainer_in(tmp_path, logger=[first, second], max_epochs=1).fit(Net({"lr": 0.1}), loader())
    assert first.got == second.got == [({"lr": 0.1}, 0)]


def test_only_a_fit_sends_them(tmp_path: Path) -> None:
    logger = Settings()
    trainer = trainer_in(tmp_path, logger=logger)
    net, data = Net({"lr": 0.1}), Data({})
    trainer.validate(net, datamodule=data, verbose=False)
    trainer.predict(net, datamodule=data)
    assert logger.got == []


def test_the_csv_logger_writes_them(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    trainer_in(tmp_path, logger=logger, max_epochs=1).fit(
        Net({"lr": 1e-3, "sizes": (1, 2), "folder": Path("a/b")}), datamodule=Data({"size": 4})
    )
    text = Path(logger.log_dir, "hparams.yaml").read_text()
    assert text == "lr: 0.001\nsizes:\n  - 1\n  - 2\nfolder: a/b\nsize: 4\n"


CONFLICT = (
    r"hparams\['lr'\] is 0\.1 in Net and .* in Untouched, and loggers get both under one name\. Give them the same "
    r"value, rename one, or leave one out: save_hyperparameters\(ignore=\.\.\.\) or \(logger=False\)\."
)


@pytest.mark.parametrize("other", [0.2, "0.1", torch.tensor(0.1)], ids=repr)
def test_one_name_with_two_values_is_refused_before_anything_is_set_up(other: Any, tmp_path: Path) -> None:
    class Untouched(Data):
        def prepare_data(self) -> None:
            raise AssertionError

    with pytest.raises(MisconfigurationError, match=CONFLICT):
        logged(Net({"lr": 0.1}), Untouched({"lr": other}), tmp_path)


@pytest.mark.parametrize("value", [0.1, float("nan"), torch.tensor([1, 2]), [Path("a")]], ids=repr)
def test_one_name_with_one_value_is_sent_once(value: Any, tmp_path: Path) -> None:
    ((settings, _),) = logged(Net({"x": value}), Data({"x": value}), tmp_path)
    assert list(settings) == ["x"]


def test_two_values_are_nobodys_concern_without_a_logger_or_if_one_is_not_logged(tmp_path: Path) -> None:
    trainer_in(tmp_path, max_epochs=1).fit(Net({"lr": 0.1}), datamodule=Data({"lr": 0.2}))
    net, data = Net({"lr": 0.1}), Data({"lr": 0.2}, logged=False)
    assert logged(net, data, tmp_path) == [({"lr": 0.1}, 0)]


def test_a_fast_dev_run_writes_no_settings(tmp_path: Path) -> None:
    trainer = Trainer(
        fast_dev_run=True, default_root_dir=tmp_path, enable_progress_bar=False, registered_callbacks=False
    )
    trainer.fit(Net({"lr": 0.1}), loader())
    assert list(tmp_path.iterdir()) == []
