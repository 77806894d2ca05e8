"""Every mistake that a user makes, as tables: what is passed, the error's type, and what its message must name.

All of them end in an error of hookloop's own that says what was given and what to do; nothing deep inside torch does.
The one exception is what happens in a DataLoader's worker: that has to be told as it happened there.
"""

import math
import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hookloop import Callback, LambdaCallback, LightningDataModule, LightningModule, Trainer
from hookloop.errors import (
    CheckpointError,
    HookError,
    HookloopError,
    MisconfigurationError,
    MisconfigurationTypeError,
)
from hookloop.loggers import CSVLogger
from hookloop.profilers import AdvancedProfiler, SimpleProfiler


class Model(LightningModule):
    """Learns one weight; what a case wants to be wrong is overridden."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return (self.weight * batch[0]).sum()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        return None

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Keeps(Callback):
    """Has a state."""

    def __init__(self, number: int) -> None:
        self.number = number

    def state_dict(self) -> dict[str, Any]:
        return {"number": self.number}


class InAWorker(Dataset[Tensor]):
    """Something happens to the worker that reads its second sample."""

    def __init__(self, happens: Callable[[], object]) -> None:
        self.happens = happens

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        if index == 1:
            self.happens()
        return torch.ones(1)


def unreadable() -> None:
    raise ValueError("an unreadable file")


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Endless(IterableDataset[Tensor]):
    def __iter__(self) -> Any:
        while True:
            yield torch.ones(1)


def data(batches: int = 2) -> DataLoader[Any]:
    return DataLoader(TensorDataset(torch.ones(batches, 1)))


def quiet(folder: Path, *callbacks: Any, **arguments: Any) -> Trainer:
    given = {"max_epochs": 1, "logger": False, "num_sanity_val_steps": 0, "registered_callbacks": False}
    return Trainer(callbacks=list(callbacks), default_root_dir=folder, **(given | arguments))


def with_methods(**methods: Any) -> Model:
    """A model with other methods of these names."""
    model: Model = type("Mistaken", (Model,), methods)()
    return model


# ---------------------------------------------------------------------------------------------- the Trainer's arguments

NAN, LOTS = math.nan, 10**400

ARGUMENTS: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"max_epochs": -2}, ("max_epochs=-2", "-1 means no limit")),
    ({"max_epochs": 1.5}, ("max_epochs=1.5", "whole number")),
    ({"max_epochs": "10"}, ("max_epochs='10'", "whole number")),
    ({"max_epochs": True}, ("max_epochs=True", "whole number")),
    ({"max_epochs": NAN}, ("max_epochs=nan", "whole number")),
    ({"max_steps": -2}, ("max_steps=-2", "-1 means no limit")),
    ({"max_steps": None}, ("max_steps=None", "whole number")),
    ({"min_epochs": -1}, ("min_epochs=-1", "at least 0")),
    ({"min_epochs": 3, "max_epochs": 2}, ("min_epochs=3", "max_epochs=2")),
    ({"min_steps": 9, "max_steps": 8}, ("min_steps=9", "max_steps=8")),
    ({"limit_train_batches": -1}, ("limit_train_batches=-1", "fraction")),
    ({"limit_train_batches": 1.5}, ("limit_train_batches=1.5", "between 0.0 and 1.0")),
    ({"limit_val_batches": NAN}, ("limit_val_batches=nan", "fraction")),
    ({"limit_test_batches": "half"}, ("limit_test_batches='half'", "fraction")),
    ({"limit_predict_batches": math.inf}, ("limit_predict_batches=inf", "fraction")),
    ({"overfit_batches": -1}, ("overfit_batches=-1", "fraction")),
    ({"overfit_batches": 1.5}, ("overfit_batches=1.5", "fraction")),
    ({"val_check_interval": 0}, ("val_check_interval=0", "at least 1")),
    ({"val_check_interval": 1.5}, ("val_check_interval=1.5", "fraction")),
    ({"val_check_interval": "soon"}, ("val_check_interval='soon'",)),
    ({"val_check_interval": 0.5, "check_val_every_n_epoch": None}, ("val_check_interval=0.5", "number of batches")),
    ({"check_val_every_n_epoch": 0}, ("check_val_every_n_epoch=0", "at least 1")),
    ({"reload_dataloaders_every_n_epochs": -1}, ("reload_dataloaders_every_n_epochs=-1", "at least 0")),
    ({"num_sanity_val_steps": -2}, ("num_sanity_val_steps=-2", "-1 runs all")),
    ({"accumulate_grad_batches": 0}, ("accumulate_grad_batches=0", "at least 1")),
    ({"accumulate_grad_batches": {0: 2}}, ("accumulate_grad_batches={0: 2}", "whole number")),
    ({"gradient_clip_val": -0.5}, ("gradient_clip_val=-0.5", "at least 0")),
    ({"gradient_clip_val": NAN}, ("gradient_clip_val=nan", "at least 0")),
    ({"gradient_clip_val": "1"}, ("gradient_clip_val='1'", "number")),
    ({"gradient_clip_algorithm": "max"}, ("gradient_clip_algorithm='max'", '"norm"', '"value"')),
    ({"log_every_n_steps": -1}, ("log_every_n_steps=-1", "at least 0")),
    ({"fast_dev_run": -1}, ("fast_dev_run=-1",)),
    ({"fast_dev_run": "yes"}, ("fast_dev_run='yes'",)),
    ({"accelerator": "abacus"}, ("accelerator='abacus'", '"cpu"')),
    ({"devices": 0}, ("devices=0",)),
    ({"devices": "several"}, ("devices='several'",)),
    ({"devices": 2, "accelerator": "cpu"}, ("2", "one")),
    ({"num_nodes": 0}, ("num_nodes=0",)),
    ({"num_nodes": 2}, ("num_nodes=2", "one")),
    ({"sync_batchnorm": True}, ("sync_batchnorm=True",)),
    ({"strategy": "teleport"}, ("strategy='teleport'", '"auto"')),
    ({"strategy": "ddp"}, ("strategy='ddp'", "today")),
    ({"precision": "8-true"}, ("precision='8-true'", '"32-true"')),
    ({"precision": 16.5}, ("precision=16.5", '"32-true"')),
    ({"plugins": object()}, ("plugins",)),
    ({"profiler": "stopwatch"}, ("profiler='stopwatch'", "'simple'")),
    ({"logger": 3}, ("3", "logger")),
    ({"logger": [CSVLogger]}, ("CSVLogger", "instance")),
    ({"default_root_dir": 3}, ("default_root_dir=3", "folder")),
    ({"enable_progress_bar": "yes"}, ("enable_progress_bar='yes'", "True, False, None")),
    ({"enable_progress_bar": True}, ("enable_progress_bar=True", "hookloop-callbacks-progress")),
    ({"enable_checkpointing": True}, ("enable_checkpointing=True", "hookloop-callbacks-checkpoint")),
    ({"inference_mode": None}, ("inference_mode=None", "True, False")),
    ({"deterministic": "maybe"}, ("deterministic='maybe'", '"warn"')),
    ({"benchmark": "yes"}, ("benchmark='yes'",)),
    ({"detect_anomaly": "yes"}, ("detect_anomaly='yes'",)),
    ({"use_distributed_sampler": "no"}, ("use_distributed_sampler='no'",)),
    ({"barebones": True, "profiler": "simple"}, ("barebones=True", "profiler='simple'")),
    ({"max_time": "tomorrow"}, ("max_time='tomorrow'",)),
    ({"max_time": "00:00:01:00"}, ("max_time", "hookloop-callbacks-monitoring")),
    ({"registered_callbacks": ["nobody"]}, ("nobody", "registered_callbacks")),
    ({"registered_callbacks": "all"}, ("registered_callbacks='all'",)),
    ({"callbacks": [object()]}, ("object", "Callback")),
    ({"callbacks": [Keeps]}, ("Keeps", "instance")),
    ({"callbacks": 3}, ("3", "Callback")),
    ({"callbacks": [Keeps(1), Keeps(2)]}, ("Keeps", "state_key")),
    ({"max_steps": torch.tensor([1, 2])}, ("max_steps=tensor", "Tensor", "numbers")),
    ({"callbacks": torch.tensor([1])}, ("callbacks=tensor", "Tensor")),
    ({"accelerator": numpy.array([1, 2])}, ("accelerator=array", "ndarray")),
    ({"gradient_clip_val": LOTS}, ("gradient_clip_val=1000", "number")),
    ({"devices": LOTS, "accelerator": "cpu"}, ("devices=1000", "more than")),
    ({"max_epoch": 3}, ("max_epoch", "max_epochs")),
    ({"gpus": 1}, ("gpus", "devices")),
]


@pytest.mark.parametrize(
    ("arguments", "names"), ARGUMENTS, ids=[f"{n}-{next(iter(given))}" for n, (given, _) in enumerate(ARGUMENTS)]
)
def test_an_argument_that_cannot_work_is_named_with_what_can(
    arguments: dict[str, Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    kwargs: dict[str, Any] = {"default_root_dir": tmp_path, "accelerator": "cpu"} | arguments

    with pytest.raises(MisconfigurationError) as raised:
        Trainer(**kwargs)

    assert [name for name in names if name not in str(raised.value)] == [], str(raised.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_where_there_is_none_is_told_what_there_is() -> None:
    with pytest.raises(MisconfigurationError, match=r'accelerator="?\'?cuda.*"?cpu'):
        Trainer(accelerator="cuda")


def test_an_absurd_limit_is_no_overflow(tmp_path: Path) -> None:
    trainer = quiet(tmp_path, max_epochs=LOTS, max_steps=3)
    trainer.fit(Model(), data())
    assert trainer.global_step == 3


def test_arguments_by_position_are_told_that_they_need_names() -> None:
    with pytest.raises(TypeError, match=r"max_epochs=|by name|keyword"):
        Trainer(3)  # type: ignore[call-arg]


# -------------------------------------------------------------------------------------------- what is run, and on what


@dataclass(frozen=True)
class Case:
    """A mistake: `make` runs into it."""

    name: str
    make: Callable[[Path], object]
    error: type[BaseException]
    names: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


CASES: list[Case] = []


def case(error: type[BaseException], *names: str) -> Callable[[Callable[[Path], object]], Callable[[Path], object]]:
    """Enter a function into the table under its name."""

    def enter(make: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES.append(Case(make.__name__, make, error, names))
        return make

    return enter


def fit(folder: Path, model: Any = None, train: Any = None, *callbacks: Any, val: Any = None, **arguments: Any) -> None:
    model = Model() if model is None else model
    quiet(folder, *callbacks, **arguments).fit(model, data() if train is None else train, val)


def returning(value: Any) -> Model:
    """A model whose configure_optimizers returns this, or what this function makes of the model."""
    return with_methods(configure_optimizers=lambda self: value(self) if callable(value) else value)


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.1)


@case(MisconfigurationError, "class Model", "instance")
def a_class_for_a_model(folder: Path) -> None:
    fit(folder, Model)


@case(MisconfigurationError, "Bare.__init__", "super().__init__()")
def a_model_that_is_not_initialized(folder: Path) -> None:
    fit(folder, type("Bare", (Model,), {"__init__": lambda self: None})())


@case(MisconfigurationError, "Linear", "LightningModule")
def a_plain_module(folder: Path) -> None:
    fit(folder, nn.Linear(1, 1))


@case(MisconfigurationError, "fit", "without a module")
def no_model(folder: Path) -> None:
    quiet(folder).fit(None)  # type: ignore[arg-type]


@case(MisconfigurationError, "Empty", "training_step")
def no_training_step(folder: Path) -> None:
    fit(folder, type("Empty", (LightningModule,), {"configure_optimizers": lambda self: None})())


@case(MisconfigurationError, "Empty", "configure_optimizers")
def no_configure_optimizers(folder: Path) -> None:
    fit(folder, type("Empty", (LightningModule,), {"training_step": lambda self, batch, batch_idx: None})())


@case(MisconfigurationError, "configure_optimizers", "'adam'", "an optimizer")
def an_optimizer_by_its_name(folder: Path) -> None:
    fit(folder, returning("adam"))


@case(MisconfigurationError, "the class SGD", "an optimizer")
def an_optimizers_class(folder: Path) -> None:
    fit(folder, returning([torch.optim.SGD]))


@case(MisconfigurationError, "lr_schedulers", "lr_scheduler")
def a_misspelt_key_of_the_optimizers_dict(folder: Path) -> None:
    fit(folder, returning(lambda model: {"optimizer": sgd(model), "lr_schedulers": None}))


@case(MisconfigurationError, "StepLR", "did not return")
def a_scheduler_without_its_optimizer(folder: Path) -> None:
    fit(folder, returning(lambda model: {"optimizer": sgd(model), "lr_scheduler": StepLR(sgd(model), 1)}))


@case(MisconfigurationError, "ReduceLROnPlateau", '"monitor"')
def a_plateau_scheduler_without_a_monitor(folder: Path) -> None:
    def configure(model: nn.Module) -> Any:
        optimizer = sgd(model)
        return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer)}

    fit(folder, returning(configure))


@case(MisconfigurationError, "interval='batch'", '"step"', '"epoch"')
def a_scheduler_per_batch(folder: Path) -> None:
    def configure(model: nn.Module) -> Any:
        optimizer = sgd(model)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1), "interval": "batch"}]

    fit(folder, returning(configure))


@case(MisconfigurationError, "frequency=0", "at least 1")
def a_scheduler_that_never_steps(folder: Path) -> None:
    def configure(model: nn.Module) -> Any:
        optimizer = sgd(model)
        return [optimizer], [{"scheduler": StepLR(optimizer, 1), "frequency": 0}]

    fit(folder, returning(configure))


@case(HookloopError, "'val_loss'", "'train_loss'")
def a_monitored_metric_that_was_never_logged(folder: Path) -> None:
    def configure(model: nn.Module) -> Any:
        optimizer = sgd(model)
        return {"optimizer": optimizer, "lr_scheduler": ReduceLROnPlateau(optimizer), "monitor": "val_loss"}

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("train_loss", 1.0, on_step=False, on_epoch=True)
        return self.weight.sum()

    fit(folder, with_methods(configure_optimizers=configure, training_step=step))


@case(MisconfigurationError, "2 optimizers", "automatic_optimization = False")
def two_optimizers_in_automatic_optimization(folder: Path) -> None:
    fit(folder, returning(lambda model: [sgd(model), sgd(model)]))


@case(MisconfigurationError, "LBFGS", "accumulate_grad_batches=2")
def lbfgs_with_accumulation(folder: Path) -> None:
    fit(folder, returning(lambda model: torch.optim.LBFGS(model.parameters())), accumulate_grad_batches=2)


@case(HookError, "on_train_batch_ends", "on_train_batch_end")
def a_misspelt_hook_of_a_callback(folder: Path) -> None:
    fit(folder, None, None, type("Typo", (Callback,), {"on_train_batch_ends": lambda self, *args: None})())


@case(HookError, "on_train_epoch_stop", "on_train_epoch")
def a_misspelt_hook_of_the_module(folder: Path) -> None:
    fit(folder, with_methods(on_train_epoch_stop=lambda self: None))


@case(HookError, "on_train_batch_end", "outputs, batch, batch_idx")
def a_hook_with_missing_parameters(folder: Path) -> None:
    fit(folder, None, None, type("Short", (Callback,), {"on_train_batch_end": lambda self, trainer: None})())


@case(HookError, "training_step", "batch, batch_idx")
def a_step_with_too_many_parameters(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, a, b, c, d, e: None))


@case(HookError, "on_exception", "Callback")
def a_hook_of_callbacks_on_the_module(folder: Path) -> None:
    fit(folder, with_methods(on_exception=lambda self, exception: None))


@case(MisconfigurationError, "training_step", "'0.5'", '"loss"')
def a_training_step_that_returns_a_string(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, batch_idx: "0.5"))


@case(MisconfigurationError, "training_step", "0.5", "tensor")
def a_training_step_that_returns_a_number(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, batch_idx: 0.5))


@case(MisconfigurationError, "'losses'", '"loss"')
def a_training_step_whose_dict_has_no_loss(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, batch_idx: {"losses": self.weight.sum()}))


@case(MisconfigurationError, "training_step", "(2,)", "mean()")
def a_loss_of_several_elements(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, batch_idx: self.weight * torch.ones(2)))


@case(MisconfigurationError, "training_step", "gradient")
def a_loss_without_gradient(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, batch_idx: self.weight.detach().sum()))


@case(HookloopError, "nan", "batch 1")
def a_loss_that_is_not_a_number_under_detect_anomaly(folder: Path) -> None:
    fit(
        folder,
        with_methods(training_step=lambda self, batch, i: self.weight.sum() * (math.nan if i else 1.0)),
        detect_anomaly=True,
    )


@case(MisconfigurationError, "train dataloader", "train_dataloader()")
def no_training_data(folder: Path) -> None:
    quiet(folder).fit(Model())


@case(MisconfigurationError, "3", "iterated")
def data_that_cannot_be_iterated(folder: Path) -> None:
    fit(folder, None, 3)


@case(MisconfigurationError, "DataLoader", "iterated")
def a_loaders_class(folder: Path) -> None:
    fit(folder, None, DataLoader)


@case(MisconfigurationError, "loaders and a datamodule")
def loaders_and_a_datamodule(folder: Path) -> None:
    quiet(folder).fit(Model(), data(), datamodule=LightningDataModule())


@case(MisconfigurationError, "Linear", "LightningDataModule")
def a_datamodule_that_is_none(folder: Path) -> None:
    quiet(folder).fit(Model(), datamodule=nn.Linear(1, 1))  # type: ignore[arg-type]


@case(MisconfigurationError, "epoch 1", "generator")
def a_generator_for_two_epochs(folder: Path) -> None:
    fit(folder, None, (batch for batch in data()), max_epochs=2)


@case(MisconfigurationError, "val_check_interval=5", "2")
def validation_after_more_batches_than_there_are(folder: Path) -> None:
    fit(folder, val_check_interval=5, val=data())


@case(MisconfigurationError, "limit_train_batches=0.5", "no length")
def a_fraction_of_data_without_a_length(folder: Path) -> None:
    fit(folder, None, DataLoader(Endless()), limit_train_batches=0.5)


@case(MisconfigurationError, "limit_train_batches=0.1", "less than one batch")
def a_fraction_that_leaves_nothing(folder: Path) -> None:
    fit(folder, limit_train_batches=0.1)


class Data(LightningDataModule):
    """Has data for training."""

    def train_dataloader(self) -> Any:
        return data()


@case(MisconfigurationError, "class Data", "Data(...)")
def a_datamodules_class(folder: Path) -> None:
    quiet(folder).fit(Model(), datamodule=Data)  # type: ignore[arg-type]


@case(MisconfigurationError, "class Data", "Data(...)")
def a_datamodules_class_in_place_of_loaders(folder: Path) -> None:
    fit(folder, None, Data)


@case(MisconfigurationError, "train_dataloaders=", "datamodule=", "one")
def two_datamodules(folder: Path) -> None:
    quiet(folder).fit(Model(), Data(), datamodule=Data())


def logging(*arguments: Any, hook: str = "training_step", **settings: Any) -> Model:
    """A model that logs this in a hook."""

    def log(self: Any, *args: Any) -> Any:
        self.log(*arguments, **settings)
        return self.weight.sum() if hook == "training_step" else None

    return with_methods(**{hook: log})


@case(MisconfigurationError, '"loss"', "(2,)")
def logging_several_elements(folder: Path) -> None:
    fit(folder, logging("loss", torch.ones(2)))


@case(MisconfigurationError, '"loss"', "'0.5'")
def logging_a_string(folder: Path) -> None:
    fit(folder, logging("loss", "0.5"))


@case(MisconfigurationError, '"loss"', "dict", "log_dict")
def logging_a_dict(folder: Path) -> None:
    fit(folder, logging("loss", {"a": 1.0}))


@case(MisconfigurationError, "on_fit_start", "log")
def logging_in_a_forbidden_hook(folder: Path) -> None:
    fit(folder, logging("loss", 1.0, hook="on_fit_start"))


@case(MisconfigurationError, "on_step", "on_epoch")
def logging_neither_the_step_nor_the_epoch(folder: Path) -> None:
    fit(folder, logging("loss", 1.0, on_step=False, on_epoch=False))


@case(MisconfigurationError, "median", "mean")
def logging_with_an_unknown_reduction(folder: Path) -> None:
    fit(folder, logging("loss", 1.0, on_epoch=True, reduce_fx="median"))


@case(MisconfigurationError, '"loss"', "prog_bar")
def logging_one_name_with_two_settings(folder: Path) -> None:
    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        self.log("loss", 1.0)
        self.log("loss", 1.0, prog_bar=True)
        return self.weight.sum()

    fit(folder, with_methods(training_step=step))


@case(MisconfigurationError, "type str", "batch_size=")
def a_batch_whose_size_cannot_be_told(folder: Path) -> None:
    words: Any = ["abc", "def"]
    fit(folder, logging("loss", 1.0, on_epoch=True), DataLoader(words, batch_size=None))


@case(MisconfigurationError, "dataloader_idx_0")
def a_suffix_that_is_written_by_hand(folder: Path) -> None:
    fit(folder, logging("loss/dataloader_idx_0", 1.0, hook="validation_step"), val=[data(), data()])


@case(MisconfigurationError, "forward", "predict_step")
def prediction_without_predict_step_or_forward(folder: Path) -> None:
    quiet(folder).predict(Model(), data())


@case(MisconfigurationError, "test_step")
def a_test_without_test_step(folder: Path) -> None:
    quiet(folder).test(Model(), data())


@case(MisconfigurationError, "validate", "Pass one")
def validation_before_anything_was_run(folder: Path) -> None:
    quiet(folder).validate()


@case(HookloopError, "Model", "Trainer")
def a_module_that_was_never_given_to_a_trainer(folder: Path) -> None:
    Model().trainer.global_step  # noqa: B018 - asking is the mistake


@case(MisconfigurationError, "fit()", "another Trainer")
def a_trainer_used_inside_its_own_hook(folder: Path) -> None:
    fit(
        folder,
        None,
        None,
        LambdaCallback(on_train_start=lambda trainer, module: trainer.fit(module, data())),
    )


@case(CheckpointError, "no_such.ckpt")
def a_checkpoint_that_is_not_there(folder: Path) -> None:
    quiet(folder).fit(Model(), data(), ckpt_path=folder / "no_such.ckpt")


@case(CheckpointError, "folder")
def a_folder_for_a_checkpoint(folder: Path) -> None:
    quiet(folder).fit(Model(), data(), ckpt_path=folder)


@case(CheckpointError, "garbage.ckpt")
def a_file_that_is_no_checkpoint(folder: Path) -> None:
    (folder / "garbage.ckpt").write_bytes(b"not a checkpoint")
    quiet(folder).fit(Model(), data(), ckpt_path=folder / "garbage.ckpt")


@case(CheckpointError, "weight", "bias")
def a_checkpoint_of_another_model(folder: Path) -> None:
    trainer = quiet(folder)
    trainer.fit(Model(), data())
    trainer.save_checkpoint(folder / "saved.ckpt")
    other = with_methods()
    other.bias = nn.Parameter(torch.zeros(3))
    quiet(folder).fit(other, data(), ckpt_path=folder / "saved.ckpt")


@case(MisconfigurationError, '"best"', "hookloop-callbacks-checkpoint")
def the_best_checkpoint_where_nobody_keeps_one(folder: Path) -> None:
    quiet(folder).fit(Model(), data(), ckpt_path="best")


@case(MisconfigurationError, "save_checkpoint")
def a_checkpoint_before_anything_was_run(folder: Path) -> None:
    quiet(folder).save_checkpoint(folder / "saved.ckpt")


@case(CheckpointError, "file", "saved.ckpt")
def a_checkpoint_below_a_file(folder: Path) -> None:
    trainer = quiet(folder)
    trainer.fit(Model(), data())
    (folder / "file").write_text("")
    trainer.save_checkpoint(folder / "file" / "saved.ckpt")


@case(MisconfigurationError, "file")
def a_folder_for_files_that_is_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    Trainer(default_root_dir=folder / "file", max_epochs=1, registered_callbacks=False).fit(Model(), data())


@case(MisconfigurationError, "cannot write", "dirpath=")
def a_folder_for_profiles_below_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    fit(folder, profiler=SimpleProfiler(dirpath=folder / "file" / "profiles"))


@case(MisconfigurationError, "cannot write", "dirpath=")
def a_folder_for_cprofiles_below_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    fit(folder, profiler=AdvancedProfiler(dirpath=folder / "file" / "profiles", dump_stats=True))


@case(CheckpointError, "no training state", "weights_only=True")
def resuming_from_a_checkpoint_of_lightning_that_holds_weights_alone(folder: Path) -> None:
    theirs = {"pytorch-lightning_version": "2.6.6", "epoch": 1, "global_step": 2, "state_dict": Model().state_dict()}
    torch.save(theirs, folder / "theirs.ckpt")
    quiet(folder).fit(Model(), data(), ckpt_path=folder / "theirs.ckpt")


@case(ValueError, "an unreadable file", "worker process 0", "in unreadable")
def a_dataset_that_raises_in_a_worker(folder: Path) -> None:
    fit(folder, None, DataLoader(InAWorker(unreadable), num_workers=1))


@case(RuntimeError, "DataLoader worker (pid")
def a_worker_that_the_system_kills(folder: Path) -> None:
    fit(folder, None, DataLoader(InAWorker(killed), num_workers=1))


@case(MisconfigurationError, "on_train_batch_ends")
def a_lambda_callback_of_no_hook(folder: Path) -> None:
    LambdaCallback(on_train_batch_ends=lambda *args: None)


@case(MisconfigurationError, "configure_callbacks", "Callback")
def a_module_that_brings_no_callbacks(folder: Path) -> None:
    fit(folder, with_methods(configure_callbacks=lambda self: [3]))


@case(HookloopError, "optimizer_step", "closure")
def an_optimizer_step_that_forgets_its_closure(folder: Path) -> None:
    fit(folder, with_methods(optimizer_step=lambda self, epoch, batch_idx, optimizer, optimizer_closure=None: None))


@case(MisconfigurationError, "ckpt_path=3", "path")
def a_number_for_a_checkpoint(folder: Path) -> None:
    quiet(folder).fit(Model(), data(), ckpt_path=3)  # type: ignore[arg-type]


@case(MisconfigurationError, "save_checkpoint(None)", "path")
def a_checkpoint_that_is_saved_nowhere(folder: Path) -> None:
    trainer = quiet(folder)
    trainer.fit(Model(), data())
    trainer.save_checkpoint(None)  # type: ignore[arg-type]


@case(MisconfigurationError, "log_dict", "float", "self.log(name, value)")
def a_number_for_log_dict(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda self, batch, i: self.log_dict(0.5)))


@case(MisconfigurationError, "['loss']", "string")
def logging_under_a_list(folder: Path) -> None:
    fit(folder, logging(["loss"], 0.5))


@case(HookError, "training_step", "self", "batch, batch_idx")
def a_step_without_self(folder: Path) -> None:
    fit(folder, with_methods(training_step=lambda: None))


@case(HookError, "on_train_start", "self, trainer, pl_module")
def a_hook_without_self(folder: Path) -> None:
    fit(folder, None, None, type("Selfless", (Callback,), {"on_train_start": lambda: None})())


@case(MisconfigurationError, "automatic_optimization='no'", "False")
def automatic_optimization_that_is_no_switch(folder: Path) -> None:
    Model().automatic_optimization = "no"  # type: ignore[assignment]


def by_hand(training_step: Callable[[Any, Any, int], Any], optimizers: int = 1) -> Model:
    """A model with manual optimization."""

    def configure(model: nn.Module) -> Any:
        return [sgd(model) for _ in range(optimizers)]

    return with_methods(training_step=training_step, configure_optimizers=configure, automatic_optimization=False)


@case(MisconfigurationError, "clip_gradients", "list", "each")
def clipping_several_optimizers_at_once(folder: Path) -> None:
    fit(folder, by_hand(lambda self, batch, i: self.clip_gradients(self.optimizers(), 0.5), optimizers=2))


@case(MisconfigurationError, "gradient_clip_algorithm=0", '"norm"')
def clipping_by_a_number(folder: Path) -> None:
    fit(folder, by_hand(lambda self, batch, i: self.clip_gradients(self.optimizers(), 0.5, 0)))


@case(MisconfigurationError, "strict='yes'", "True, False or None")
def strict_that_is_no_switch(folder: Path) -> None:
    Model.load_from_checkpoint(folder / "any.ckpt", strict="yes")  # type: ignore[arg-type]


@case(MisconfigurationError, "inference_mode", "inference_mode=False")
def a_fit_inside_a_validation(folder: Path) -> None:
    inside = LambdaCallback(on_validation_start=lambda trainer, module: fit(folder))
    quiet(folder, inside).validate(Model(), data())


@case(MisconfigurationError, "Model.weight", "inference_mode")
def a_model_that_was_made_in_inference_mode(folder: Path) -> None:
    with torch.inference_mode():
        model = Model()
    fit(folder, model)


@pytest.mark.parametrize("mistake", CASES, ids=str)
def test_a_mistake_is_named_with_what_to_do(mistake: Case, tmp_path: Path) -> None:
    with pytest.raises(mistake.error) as raised:
        mistake.make(tmp_path)

    message = str(raised.value)
    assert [name for name in mistake.names if name not in message] == [], message
    assert isinstance(raised.value, HookloopError) or "worker" in mistake.name
    assert multiprocessing.active_children() == []


def test_the_tables_hold_at_least_80_mistakes() -> None:
    assert len(ARGUMENTS) + len(CASES) >= 80
    assert issubclass(MisconfigurationTypeError, TypeError)
