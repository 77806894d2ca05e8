"""The arguments of the Trainer: what each takes, what it refuses and in which words, and what a factory sees of it."""

import importlib
import inspect
import os
import re
import typing
from collections.abc import Iterator
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookloop import Callback, Trainer, TrainerOptions
from hookloop.accelerators import Accelerator, CPUAccelerator
from hookloop.checkpoint_io import TorchCheckpointIO
from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop.precision import DoublePrecision, HalfPrecision, Precision
from hookloop.profilers import Profiler, SimpleProfiler
from hookloop.strategies import SingleDeviceStrategy

from .installing import Site, installed_for_one_test

# A package that supplies one callback of every family that the Trainer has a switch for, and keeps what it was shown.
SUPPLIER = """
from hookloop import Callback

SEEN = []

class Bar(Callback):
    family = "progress_bar"

class Files(Callback):
    family = "checkpoint"

class Summary(Callback):
    family = "model_summary"

class Clock(Callback):
    family = "timer"

def make(options):
    SEEN.append(options)
    return [Bar(), Files(), Summary(), Clock()]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


@pytest.fixture
def supplier(site: Site) -> Any:
    """The module of the package, once it is installed."""
    site.install("supplier", factories={"everything": "supplier:make"}, modules={"supplier": SUPPLIER})
    return importlib.import_module("supplier")


def options_seen_by_a_factory(supplier: Any, **arguments: Any) -> TrainerOptions:
    supplier.SEEN.clear()
    Trainer(**arguments)
    (options,) = supplier.SEEN
    assert isinstance(options, TrainerOptions)
    return options


class Quiet(Callback):
    """A callback that does nothing."""


class Four(CPUAccelerator):
    """A CPU with four of itself, so that what `devices` means does not depend on the machine."""

    @staticmethod
    def name() -> str:
        return "four"

    @classmethod
    def device_count(cls) -> int:
        return 4


class Absent(CPUAccelerator):
    """What this machine lacks."""

    @staticmethod
    def name() -> str:
        return "absent"

    @staticmethod
    def is_available() -> bool:
        return False


QUIET, OTHER = Quiet(), Quiet()
ON_THE_CPU = SingleDeviceStrategy(torch.device("cpu"), CPUAccelerator(), precision_plugin=Precision("bf16-mixed"))

DEFAULTS: dict[str, Any] = {
    "max_epochs": None,
    "min_epochs": None,
    "max_steps": -1,
    "min_steps": None,
    "max_time": None,
    "accelerator": "auto",
    "devices": "auto",
    "strategy": "auto",
    "num_nodes": 1,
    "sync_batchnorm": False,
    "precision": None,
    "callbacks": None,
    "logger": None,
    "default_root_dir": None,
    "enable_checkpointing": None,
    "enable_progress_bar": None,
    "enable_model_summary": None,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
    "log_every_n_steps": 50,
    "limit_train_batches": 1.0,
    "limit_val_batches": 1.0,
    "limit_test_batches": 1.0,
    "limit_predict_batches": 1.0,
    "val_check_interval": 1.0,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 2,
    "fast_dev_run": False,
    "inference_mode": True,
    "deterministic": None,
    "benchmark": None,
    "detect_anomaly": False,
    "barebones": False,
    "overfit_batches": 0.0,
    "reload_dataloaders_every_n_epochs": 0,
    "use_distributed_sampler": True,
    "profiler": None,
    "plugins": None,
    "registered_callbacks": True,
    "on_interrupt": "raise",
}
"""Every argument with the default that Lightning's users know, or that DESIGN.md gives where it differs."""

ACCEPTED: dict[str, list[Any]] = {
    "max_epochs": [None, -1, 0, 1, 1000],
    "min_epochs": [None, 0, 1, 1000],
    "max_steps": [-1, 0, 1, 10**9],
    "min_steps": [None, 0, 1, 10**9],
    "max_time": [None, "00:00:01:00", timedelta(minutes=1), {"minutes": 1}],
    "accelerator": ["auto", "cpu", CPUAccelerator()],
    "devices": ["auto", 1, "1", [0], "0,"],
    "strategy": ["auto", "single_device", ON_THE_CPU],
    "num_nodes": [1, np.int64(1)],
    "sync_batchnorm": [False],
    "precision": [
        *(None, 16, 32, 64, "16", "32", "64", "bf16"),
        *("64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"),
    ],
    "callbacks": [None, QUIET, [], [QUIET], (QUIET, OTHER)],
    "logger": [None, True, False, CSVLogger("logs"), [], [CSVLogger("a"), CSVLogger("b")], (CSVLogger("c"),)],
    "default_root_dir": [None, "runs", Path("runs"), "~/runs"],
    "enable_checkpointing": [None, True, False],
    "enable_progress_bar": [None, True, False],
    "enable_model_summary": [None, True, False],
    "accumulate_grad_batches": [1, 2, 1000],
    "gradient_clip_val": [None, 0, 1, 0.5, float("inf")],
    "gradient_clip_algorithm": [None, "norm", "value"],
    "log_every_n_steps": [0, 1, 1000],
    "limit_train_batches": [0, 1, 1000, 0.0, 0.5, 1.0],
    "limit_val_batches": [0, 1, 1000, 0.0, 0.5, 1.0],
    "limit_test_batches": [0, 1, 1000, 0.0, 0.5, 1.0],
    "limit_predict_batches": [0, 1, 1000, 0.0, 0.5, 1.0],
    "val_check_interval": [1, 1000, 0.01, "00:00:10:00", timedelta(minutes=10), {"minutes": 10}, 1.0],
    "check_val_every_n_epoch": [1, 7],
    "num_sanity_val_steps": [-1, 0, 1, 1000],
    "fast_dev_run": [False, True, 0, 1, 7],
    "inference_mode": [True, False],
    "deterministic": [None, True, False, "warn"],
    "benchmark": [None, True, False],
    "detect_anomaly": [True, False],
    "barebones": [False],
    "overfit_batches": [0, 1, 1000, 0.0, 0.5, 1.0],
    "reload_dataloaders_every_n_epochs": [0, 1, 1000],
    "use_distributed_sampler": [True, False],
    "profiler": [None, "simple", "Simple", "advanced", "pytorch", Profiler(), SimpleProfiler()],
    "plugins": [None, DoublePrecision(), [HalfPrecision("bf16-true"), TorchCheckpointIO()], (TorchCheckpointIO(),), []],
    "registered_callbacks": [True, ["everything"], ("supplier",), ["Supplier", "everything"]],
    "on_interrupt": ["raise", "return"],
}
"""Values that each argument takes on its own. Those that leave the factories out (barebones=True, ...) come below."""

NOT_A_LIMIT = [-0.5, 1.5, -1, float("nan"), float("inf"), True, None, "half"]

REFUSED: list[tuple[str, list[Any], str]] = [
    ("max_epochs", [-2, 1.0, True, "3"], r"max_epochs={} must be a whole number of at least -1 \(-1 means no limit\)"),
    ("max_steps", [-2, 1.0, True, "3", None], r"max_steps={} must be a whole number of at least -1 \(-1 means"),
    ("min_epochs", [-1, 1.5, 0.0, True, False, ""], "min_epochs={} must be a whole number of at least 0"),
    ("min_steps", [-1, 1.5, 0.0, True, False, ""], "min_steps={} must be a whole number of at least 0"),
    (
        "max_time",
        ["00:00:01:00"],
        r"max_time={} needs a callback of family 'timer'.*pip install hookloop-callbacks-monitoring",
    ),
    (
        "max_time",
        ["01:00", "1:2:3", "soon", "", 60, 1.5, True, []],
        r'max_time={} .* is no length of time\. Write it as "DD:HH:MM:SS" .*"00:01:30:00", as a datetime.timedelta, or',
    ),
    ("max_time", [{"hour": 1}], r"max_time={} has 'hour', and a dict of time holds any of weeks, days, hours, minut"),
    ("max_time", [{}], "max_time={} is empty, and a dict of time holds any of weeks, days, hours"),
    ("max_time", [{"hours": "one"}, {"days": 10**10}], "max_time={} is no length of time: .*timedelta"),
    (
        "max_time",
        ["00:00:00:00", timedelta(0), timedelta(-1), {"hours": -1}],
        "max_time={} must be longer than no time",
    ),
    (
        "accelerator",
        ["tpu", "CPU", "", None, CPUAccelerator],
        r'accelerator={} is not known\. Use one of "auto", "cpu", "cuda", "gpu", or an Accelerator object',
    ),
    (
        "devices",
        [0, -2, [], [-1], [0, 0], "0,0", "two", "", 1.0, True, None, {0}, ["0"]],
        r'devices={} must be "auto", a number of devices of at least 1, -1 for all of them, or a list of distinct',
    ),
    (
        "strategy",
        ["ddp", "dp", "ddp_spawn", "ddp_find_unused_parameters_true", "fsdp", "deepspeed_stage_3", "model_parallel"],
        "strategy={} trains on several devices and is not supported yet: today hookloop trains on one",
    ),
    ("strategy", ["single", "single_devise"], 'strategy={} is not supported. Did you mean "single_device"'),
    ("num_nodes", [0, -1, True, 1.0, "1", None], "num_nodes={} must be a whole number of at least 1"),
    ("num_nodes", [2, 64], "num_nodes={} asks for {} machines, and today hookloop trains on one device of one machine"),
    ("sync_batchnorm", [1, "yes", None], "sync_batchnorm={} must be True or False"),
    ("sync_batchnorm", [True], "sync_batchnorm=True computes batch norm over .* today hookloop trains in one process"),
    ("deterministic", ["yes", 1, 0, "Warn"], 'deterministic={} must be True, False, "warn", or None to leave torch'),
    ("benchmark", ["yes", 1, 0], "benchmark={} must be one of True, False, None"),
    ("detect_anomaly", ["yes", 1, None], "detect_anomaly={} must be one of True, False"),
    (
        "strategy",
        ["xla", None, SingleDeviceStrategy],
        r'strategy={} is not supported\. Use "auto" or "single_device" \(one device\), or a Strategy object',
    ),
    (
        "precision",
        ["16-bit", "half", "", 8, 16.0, True, torch.float32, ["16-mixed"]],
        'precision={} is not known. Use one of "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed"',
    ),
    (
        "callbacks",
        [Quiet],
        r"callbacks holds the class Quiet where an instance is needed: write Quiet\(\.\.\.\)",
    ),
    ("callbacks", [[QUIET, 3]], r"callbacks holds 3 \(int\), which is no Callback.*hookloop\.LambdaCallback"),
    ("callbacks", ["bar"], r"callbacks holds 'b' \(str\), which is no Callback"),
    ("callbacks", [[QUIET, QUIET]], "The same Quiet object is in the callbacks twice"),
    ("logger", ["csv", 1, {}, [None]], r"logger=.* is no logger: it lacks log_metrics.*Pass True, False, a Logger or"),
    ("logger", [CSVLogger, [CSVLogger]], r"logger=CSVLogger is a class; pass an instance of it: CSVLogger\(\.\.\.\)"),
    ("default_root_dir", [5, ["runs"]], "default_root_dir={}.*path"),
    ("enable_checkpointing", ["no", 1, 0], "enable_checkpointing={}.*True.*False.*None"),
    ("enable_progress_bar", ["no", 1, 0], "enable_progress_bar={}.*True.*False.*None"),
    ("enable_model_summary", ["no", 1, 0], "enable_model_summary={}.*True.*False.*None"),
    ("enable_checkpointing", [True], "enable_checkpointing=True needs .*pip install hookloop-callbacks-checkpoint"),
    ("enable_progress_bar", [True], "enable_progress_bar=True needs .*pip install hookloop-callbacks-progress"),
    ("enable_model_summary", [True], "enable_model_summary=True needs .*pip install hookloop-callbacks-progress"),
    ("accumulate_grad_batches", [0, 1.0, True, {0: 2}, None], "accumulate_grad_batches={} must be a whole number of"),
    (
        "gradient_clip_val",
        [-1, float("nan"), True, "1", torch.ones(())],
        "gradient_clip_val={} must be a number of at least 0, or None for no clipping",
    ),
    (
        "gradient_clip_algorithm",
        ["median", "Norm", "", 2],
        r'gradient_clip_algorithm={} is not known\. Use "norm" \(total norm\) or "value" \(each element\)',
    ),
    ("log_every_n_steps", [-1, 1.0, True, None], r"log_every_n_steps={} must be a whole number of at least 0 \(0 logs"),
    (
        "limit_train_batches",
        NOT_A_LIMIT,
        "limit_train_batches={} must be a whole number of batches of at least 0, or a",
    ),
    ("limit_val_batches", NOT_A_LIMIT, "limit_val_batches={} must be a whole number of batches of at least 0, or a"),
    ("limit_test_batches", NOT_A_LIMIT, "limit_test_batches={} must be a whole number of batches of at least 0, or a"),
    ("limit_predict_batches", NOT_A_LIMIT, "limit_predict_batches={} must be a whole number of batches of at least 0"),
    (
        "val_check_interval",
        [*NOT_A_LIMIT, 0, 0.0, torch.ones(())],
        "val_check_interval={} must be a whole number of batches of at least 1, or a fraction between 0.0 and 1.0, or "
        'a time such as "00:00:10:00"',
    ),
    (
        "val_check_interval",
        ["10:00", "0:0:0:x", "1:2:3:4:5"],
        "val_check_interval={} .str. is no length of time. Write",
    ),
    ("val_check_interval", ["00:00:00:00", timedelta(0)], "val_check_interval={} must be longer than no time at all"),
    (
        "val_check_interval",
        [{"epochs": 1}],
        "val_check_interval={} has 'epochs', and a dict of time holds any of weeks",
    ),
    ("check_val_every_n_epoch", [0, -1, 1.0, True], r"check_val_every_n_epoch={} must be a whole number of at least 1"),
    ("num_sanity_val_steps", [-2, 1.0, True, None], r"num_sanity_val_steps={} must be a whole number of at least -1"),
    ("fast_dev_run", [-1, 1.0, "yes", None], r"fast_dev_run={} must be a whole number of at least 0 \(True runs one"),
    ("inference_mode", ["no", 1, None], "inference_mode={}.*True.*False"),
    ("barebones", ["no", 1, None], "barebones={}.*True.*False"),
    (
        "overfit_batches",
        NOT_A_LIMIT,
        "overfit_batches={} must be a whole number of batches of at least 0, or a fraction",
    ),
    (
        "reload_dataloaders_every_n_epochs",
        [-1, 1.0, True, None],
        r"reload_dataloaders_every_n_epochs={} must be a whole number of at least 0 \(0 asks for the loaders once\)",
    ),
    ("use_distributed_sampler", ["no", 1, None], "use_distributed_sampler={}.*True.*False"),
    ("plugins", ["bf16-mixed", 16, True, ["x"], [None]], r"plugins holds .* which is no plugin\. Pass a Precision"),
    (
        "profiler",
        ["cprofile", True, SimpleProfiler],
        r"profiler={} is not known\. Use None, 'simple', 'advanced', 'pytorch', or a hookloop\.profilers\.Profiler obj",
    ),
    (
        "profiler",
        ["xla", "XLA"],
        r"profiler={} is for TPUs, which hookloop does not train on\. Use None, 'simple', 'adv",
    ),
    (
        "registered_callbacks",
        ["everything", 1, [3], None],
        "registered_callbacks={} must be True, False, or a list of names of entry points or distributions",
    ),
    ("on_interrupt", ["ignore", True, None, 3], r"on_interrupt={} must be one of 'raise', 'return'\."),
    ("registered_callbacks", [["nobody"]], "registered_callbacks names 'nobody', which no installed package registers"),
]
"""What each argument refuses on its own, and the message; {} stands for the value as it was given."""

CONTRADICTIONS: list[tuple[dict[str, Any], str]] = [
    ({"max_epochs": 1, "min_epochs": 2}, "min_epochs=2 is larger than max_epochs=1: raise max_epochs or lower min_ep"),
    ({"max_steps": 1, "min_steps": 2}, "min_steps=2 is larger than max_steps=1: raise max_steps or lower min_steps"),
    (
        {"check_val_every_n_epoch": None},
        "val_check_interval=1.0 is a fraction of an epoch, and check_val_every_n_epoch=None.*a number of batches",
    ),
    ({"check_val_every_n_epoch": None, "val_check_interval": 0.5}, "val_check_interval=0.5 is a fraction"),
    (
        {"accelerator": "cpu", "devices": 10**6},
        r"devices=1000000 asks for more than the \d+ cpu device\(s\) of this ma",
    ),
    ({"strategy": ON_THE_CPU, "precision": "64-true"}, "(?s)precision='64-true'.*strategy"),
    ({"strategy": ON_THE_CPU, "accelerator": Four()}, "(?s)accelerator=.*strategy"),
    *(
        ({"barebones": True, name: value}, rf"barebones=True leaves out everything but training, and {name}={value!r}")
        for name, value in {
            "enable_checkpointing": True,
            "enable_progress_bar": True,
            "enable_model_summary": True,
            "logger": True,
            "profiler": "simple",
        }.items()
    ),
    *(
        ({name: False, "callbacks": [type("Own", (Callback,), {"family": family})()]}, f"{name}=False.*Own of family")
        for name, family in {
            "enable_checkpointing": "checkpoint",
            "enable_progress_bar": "progress_bar",
            "enable_model_summary": "model_summary",
        }.items()
    ),
]
"""Two arguments, each fine on its own, that cannot hold together."""


def constructor() -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(Trainer.__init__).parameters)
    del parameters["self"]
    return parameters


def option_defaults() -> dict[str, Any]:
    return {field.name: field.default for field in fields(TrainerOptions)}


def documented_arguments() -> dict[str, str]:
    """The entries under "Args:" in the docstring of the class, each with its text in one line."""
    section = re.search(r"^Args:\n(.*?)^\S", inspect.getdoc(Trainer) or "", re.DOTALL | re.MULTILINE)
    assert section is not None
    entries: dict[str, str] = {}
    name = ""
    for line in section[1].rstrip().splitlines():
        if not line.startswith(" " * 8):
            name, _, line = line.strip().partition(": ")
            assert name not in entries
        entries[name] = f"{entries.get(name, '')} {line.strip()}".strip()
    return entries


# One list of arguments, in all places


def test_the_constructor_has_these_arguments_with_these_defaults_and_takes_them_by_name_alone() -> None:
    parameters = constructor()
    assert {name: parameter.default for name, parameter in parameters.items()} == DEFAULTS
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}
    with pytest.raises(TypeError, match="positional argument"):
        Trainer(3)  # type: ignore[call-arg]


def test_the_options_have_the_arguments_of_the_constructor_with_their_defaults() -> None:
    # The callbacks are kept as a tuple, so that nobody can change them.
    assert option_defaults() == DEFAULTS | {"callbacks": ()}


def test_every_argument_has_a_type() -> None:
    for owner in (Trainer.__init__, TrainerOptions):
        hints = typing.get_type_hints(owner)
        assert set(DEFAULTS) <= set(hints)


def test_the_docstring_of_the_class_describes_every_argument_in_the_order_of_the_constructor() -> None:
    described = documented_arguments()
    assert list(described) == list(constructor())
    assert [name for name, text in described.items() if len(text) < 20 or not text.endswith(".")] == []


def test_every_argument_is_in_the_tables_of_this_file() -> None:
    refused = {name for name, _, _ in REFUSED}
    assert list(ACCEPTED) == list(constructor())
    assert refused == set(constructor())


# What is accepted

ONE_BY_ONE = [
    pytest.param(name, value, id=f"{name}-{index}")
    for name, values in ACCEPTED.items()
    for index, value in enumerate(values)
]


@pytest.mark.parametrize(("name", "value"), ONE_BY_ONE)
def test_a_factory_sees_an_argument_as_it_was_passed_and_the_defaults_of_the_others(
    supplier: Any, name: str, value: Any
) -> None:
    seen = options_seen_by_a_factory(supplier, **{name: value})
    expected = option_defaults() | {name: value}
    if name == "callbacks":
        expected[name] = () if value is None else (value,) if value is QUIET else tuple(value)
    for field, given in expected.items():
        shown = getattr(seen, field)
        assert type(shown) is type(given)
        assert shown == given


def test_a_factory_sees_all_arguments_of_one_trainer_together_and_cannot_change_them(supplier: Any) -> None:
    together: dict[str, Any] = {name: values[-1] for name, values in ACCEPTED.items()}
    # An endless fit has no largest number of steps; the strategy below has its own precision.
    together |= {"min_epochs": 2, "min_steps": 5, "max_steps": 10, "precision": None, "check_val_every_n_epoch": None}
    together |= {"val_check_interval": 100}
    seen = options_seen_by_a_factory(supplier, **together)
    assert {name: getattr(seen, name) for name in together} == together
    with pytest.raises(AttributeError):
        seen.max_epochs = 3  # type: ignore[misc]


def test_the_users_list_of_callbacks_is_copied(supplier: Any) -> None:
    given: list[Callback] = [QUIET]
    seen = options_seen_by_a_factory(supplier, callbacks=given)
    given.append(OTHER)
    assert seen.callbacks == (QUIET,)
    trainer = Trainer(callbacks=given, registered_callbacks=False)
    given.clear()
    assert trainer.callbacks == [QUIET, OTHER]


def test_the_defaults_make_a_trainer_that_trains_up_to_1000_epochs_and_writes_csv_files_here(site: Site) -> None:
    trainer = Trainer()
    assert (trainer.max_epochs, trainer.min_epochs, trainer.max_steps, trainer.min_steps) == (1000, 0, -1, 0)
    assert (trainer.accumulate_grad_batches, trainer.log_every_n_steps, trainer.precision) == (1, 50, "32-true")
    assert (trainer.val_check_interval, trainer.check_val_every_n_epoch, trainer.fast_dev_run) == (1.0, 1, False)
    assert (trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (None, None)
    assert trainer.default_root_dir == str(Path.cwd())
    assert [type(logger) for logger in trainer.loggers] == [CSVLogger]
    assert trainer.callbacks == []
    assert (trainer.world_size, trainer.global_rank, trainer.local_rank, trainer.is_global_zero) == (1, 0, 0, True)


def test_making_a_trainer_leaves_no_file(supplier: Any, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    Trainer(default_root_dir=tmp_path / "new", max_epochs=1, profiler="simple")
    assert set(tmp_path.iterdir()) == before


EFFECTS: list[tuple[dict[str, Any], str, Any]] = [
    ({"overfit_batches": 3}, "overfit_batches", 3),
    ({"reload_dataloaders_every_n_epochs": 2}, "reload_dataloaders_every_n_epochs", 2),
    ({"max_epochs": 3}, "max_epochs", 3),
    ({"max_epochs": -1}, "max_epochs", -1),
    ({"max_steps": 5}, "max_steps", 5),
    # A number of steps alone limits the steps alone.
    ({"max_steps": 5}, "max_epochs", -1),
    ({"max_steps": 5, "max_epochs": 3}, "max_epochs", 3),
    ({"max_steps": 0}, "max_epochs", -1),
    ({"min_epochs": 2}, "min_epochs", 2),
    ({"min_steps": 4}, "min_steps", 4),
    ({"max_epochs": -1, "min_epochs": 10**6}, "min_epochs", 10**6),
    ({"accelerator": "cpu"}, "device", torch.device("cpu")),
    ({"accelerator": "cpu", "devices": [0]}, "device", torch.device("cpu")),
    ({"strategy": ON_THE_CPU}, "strategy", ON_THE_CPU),
    ({"strategy": ON_THE_CPU}, "precision", "bf16-mixed"),
    # The same said twice is no contradiction.
    ({"strategy": ON_THE_CPU, "precision": "bf16"}, "precision", "bf16-mixed"),
    ({"strategy": ON_THE_CPU, "accelerator": "cpu", "devices": 1}, "strategy", ON_THE_CPU),
    ({"precision": "bf16"}, "precision", "bf16-mixed"),
    ({"precision": 16}, "precision", "16-mixed"),
    ({"precision": 64}, "precision", "64-true"),
    ({"precision": "32"}, "precision", "32-true"),
    ({"logger": False}, "loggers", []),
    ({"logger": False}, "logger", None),
    ({"logger": []}, "loggers", []),
    ({"accumulate_grad_batches": 4}, "accumulate_grad_batches", 4),
    ({"gradient_clip_val": 0.5}, "gradient_clip_val", 0.5),
    ({"gradient_clip_algorithm": "value"}, "gradient_clip_algorithm", "value"),
    ({"log_every_n_steps": 7}, "log_every_n_steps", 7),
    ({"val_check_interval": 0.25}, "val_check_interval", 0.25),
    ({"val_check_interval": "01:02:03:04"}, "val_check_interval", timedelta(days=1, seconds=7384)),
    ({"val_check_interval": {"hours": 1, "seconds": 30}}, "val_check_interval", timedelta(seconds=3630)),
    ({"val_check_interval": timedelta(days=2), "check_val_every_n_epoch": None}, "check_val_every_n_epoch", None),
    # Numbers of NumPy mean what they show, and become Python's.
    ({"max_epochs": np.int64(3)}, "max_epochs", 3),
    ({"max_steps": np.int32(-1)}, "max_epochs", 1000),
    ({"val_check_interval": np.float32(0.7)}, "val_check_interval", 0.7),
    ({"accumulate_grad_batches": np.uint8(4)}, "accumulate_grad_batches", 4),
    ({"fast_dev_run": np.int64(3)}, "max_epochs", 1),
    ({"accelerator": "cpu", "devices": np.int64(1)}, "world_size", 1),
    ({"check_val_every_n_epoch": 3}, "check_val_every_n_epoch", 3),
    ({"check_val_every_n_epoch": None, "val_check_interval": 10}, "check_val_every_n_epoch", None),
    ({"fast_dev_run": True}, "fast_dev_run", True),
    ({"fast_dev_run": 3}, "fast_dev_run", 3),
    ({"fast_dev_run": 3}, "max_steps", -1),
    ({"fast_dev_run": True, "max_epochs": 9}, "max_epochs", 1),
    ({"fast_dev_run": True, "max_epochs": 9, "min_epochs": 9, "min_steps": 9}, "min_epochs", 0),
    ({"fast_dev_run": True}, "log_every_n_steps", 1),
    ({"fast_dev_run": True, "logger": False}, "loggers", []),
    ({"fast_dev_run": 0, "max_epochs": 9}, "max_epochs", 9),
    ({"barebones": True}, "loggers", []),
    ({"barebones": True}, "log_every_n_steps", 0),
    ({"barebones": True, "logger": False, "enable_progress_bar": False}, "loggers", []),
    ({"barebones": True, "max_epochs": 2}, "max_epochs", 2),
]


@pytest.mark.parametrize(
    ("arguments", "attribute", "value"),
    [pytest.param(*row, id=f"{'-'.join(row[0])}-gives-{row[1]}-{index}") for index, row in enumerate(EFFECTS)],
)
def test_an_argument_shows_in_the_trainers_attributes(arguments: dict[str, Any], attribute: str, value: Any) -> None:
    trainer = Trainer(**({"registered_callbacks": False} | arguments))
    assert getattr(trainer, attribute) == value


@pytest.mark.parametrize(
    ("given", "expected"),
    [("runs", "{cwd}/runs"), (Path("a/b"), "{cwd}/a/b"), ("~/runs", "{home}/runs"), (None, "{cwd}"), ("/x", "/x")],
)
def test_the_default_root_dir_is_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/of/somebody")
    trainer = Trainer(default_root_dir=given, registered_callbacks=False)
    assert trainer.default_root_dir == expected.format(cwd=tmp_path, home="/home/of/somebody")
    # It stays where it was, whatever the program does next.
    monkeypatch.chdir(os.sep)
    assert trainer.default_root_dir == expected.format(cwd=tmp_path, home="/home/of/somebody")


def test_the_default_logger_writes_under_the_default_root_dir(tmp_path: Path) -> None:
    for logger in (None, True):
        trainer = Trainer(default_root_dir=tmp_path, logger=logger, registered_callbacks=False)
        assert trainer.logger is not None
        assert trainer.logger.save_dir == str(tmp_path)
        assert trainer.log_dir is not None
        assert Path(trainer.log_dir).is_relative_to(tmp_path)


def test_loggers_are_taken_in_their_order_and_the_first_is_the_logger(tmp_path: Path) -> None:
    one, two = CSVLogger(tmp_path, name="one"), CSVLogger(tmp_path, name="two")
    trainer = Trainer(logger=[one, two], registered_callbacks=False)
    assert trainer.loggers == [one, two]
    assert trainer.logger is one
    assert trainer.log_dir == one.log_dir


# How many devices


@pytest.mark.parametrize("devices", ["auto", 1, "1", [3], "3,", [0]], ids=repr)
def test_one_device_is_one_device_however_it_is_written(devices: Any) -> None:
    four = Four()
    trainer = Trainer(accelerator=four, devices=devices, registered_callbacks=False)
    assert trainer.accelerator is four
    assert trainer.device == torch.device("cpu")


@pytest.mark.parametrize(
    ("devices", "count"), [(2, 2), ("2", 2), (-1, 4), ("-1", 4), ([1, 3], 2), ("0,1,2", 3)], ids=repr
)
def test_more_than_one_device_is_refused_for_now(devices: Any, count: int) -> None:
    with pytest.raises(MisconfigurationError, match=f"devices asks for {count} four devices.*Use devices=1"):
        Trainer(accelerator=Four(), devices=devices, registered_callbacks=False)


@pytest.mark.parametrize("devices", [5, "5", [4], "0,4"], ids=repr)
def test_a_device_that_is_not_there_is_refused(devices: Any) -> None:
    message = rf"devices={re.escape(repr(devices))} asks for more than the 4 four device\(s\) of this machine"
    with pytest.raises(MisconfigurationError, match=message):
        Trainer(accelerator=Four(), devices=devices, registered_callbacks=False)


def test_an_accelerator_that_this_machine_lacks_is_refused_with_what_there_is() -> None:
    absent: Accelerator = Absent()
    with pytest.raises(MisconfigurationError, match=r'finds no absent device on this machine.*accelerator="cpu"'):
        Trainer(accelerator=absent, registered_callbacks=False)


# What is refused


def refusals() -> Iterator[Any]:
    for row, (name, values, message) in enumerate(REFUSED):
        for index, value in enumerate(values):
            yield pytest.param(name, value, message, id=f"{name}-{row}-{index}")


@pytest.mark.parametrize(("name", "value", "message"), list(refusals()))
def test_a_value_that_makes_no_sense_is_refused_in_words_that_help(
    site: Site, name: str, value: Any, message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=message.replace("{}", re.escape(repr(value)))):
        Trainer(**{name: value})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [pytest.param(*row, id="-".join(row[0]) + f"-{index}") for index, row in enumerate(CONTRADICTIONS)],
)
def test_arguments_that_contradict_each_other_are_refused_in_words_that_help(
    site: Site, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        Trainer(**arguments)


@pytest.mark.parametrize("value", ["1", True, torch.ones(())])
def test_a_clip_value_of_the_wrong_type_is_a_type_error_as_in_lightning(value: Any) -> None:
    with pytest.raises(TypeError, match="gradient_clip_val"):
        Trainer(gradient_clip_val=value)


@pytest.mark.parametrize("value", [-2, "many"])
def test_a_wrong_value_is_a_value_error_too_as_in_the_standard_library(value: Any) -> None:
    with pytest.raises(ValueError, match="max_epochs"):
        Trainer(max_epochs=value)


# Which registered callbacks join

FAMILIES = {"Bar", "Files", "Summary", "Clock"}

JOINING: list[tuple[dict[str, Any], set[str]]] = [
    # Installed timers do not limit anything unless max_time says so, but that is theirs to know: the core asks nobody.
    ({}, FAMILIES),
    ({"registered_callbacks": True}, FAMILIES),
    ({"registered_callbacks": False}, set()),
    ({"registered_callbacks": []}, set()),
    ({"registered_callbacks": ["everything"]}, FAMILIES),
    ({"registered_callbacks": ["supplier"]}, FAMILIES),
    ({"barebones": True}, set()),
    ({"enable_progress_bar": False}, FAMILIES - {"Bar"}),
    ({"enable_checkpointing": False}, FAMILIES - {"Files"}),
    ({"enable_model_summary": False}, FAMILIES - {"Summary"}),
    ({"enable_progress_bar": True, "enable_checkpointing": True, "enable_model_summary": True}, FAMILIES),
    ({"fast_dev_run": True}, FAMILIES - {"Files"}),
    ({"max_time": "00:00:01:00"}, FAMILIES),
    ({"registered_callbacks": ["everything"], "enable_progress_bar": False}, FAMILIES - {"Bar"}),
]


@pytest.mark.parametrize(
    ("arguments", "joining"), [pytest.param(*row, id=str(index)) for index, row in enumerate(JOINING)]
)
def test_registered_callbacks_join_as_the_arguments_have_it(
    supplier: Any, arguments: dict[str, Any], joining: set[str]
) -> None:
    trainer = Trainer(callbacks=[QUIET], **arguments)
    assert trainer.callbacks[0] is QUIET
    assert {type(callback).__name__ for callback in trainer.callbacks[1:]} == joining


@pytest.mark.parametrize("arguments", [{"barebones": True}, {"registered_callbacks": False}])
@pytest.mark.parametrize("switch", ["enable_checkpointing", "enable_progress_bar", "enable_model_summary", "max_time"])
def test_a_family_that_is_asked_for_while_registered_callbacks_are_off_is_an_error(
    supplier: Any, arguments: dict[str, Any], switch: str
) -> None:
    (off,) = arguments
    arguments = arguments | {switch: "00:00:01:00" if switch == "max_time" else True}
    with pytest.raises(MisconfigurationError, match=f"{off}=.*{switch}=|{switch}=.*{off}="):
        Trainer(**arguments)


def test_a_callback_that_the_user_passed_takes_the_place_of_the_registered_one(supplier: Any) -> None:
    own = supplier.Bar()
    trainer = Trainer(callbacks=own)
    bars = [callback for callback in trainer.callbacks if callback.family == "progress_bar"]
    assert bars == [own]
    assert trainer.progress_bar_callback is own


def test_two_trainers_get_registered_callbacks_of_their_own(supplier: Any) -> None:
    one, two = Trainer(), Trainer()
    assert not {id(callback) for callback in one.callbacks} & {id(callback) for callback in two.callbacks}


def test_a_warning_about_arguments_points_to_the_line_that_made_the_trainer(site: Site) -> None:
    clock = type("Clock", (Callback,), {"family": "timer"})()
    with pytest.warns(UserWarning, match="max_time='00:00:01:00' is not used") as caught:
        Trainer(max_time="00:00:01:00", callbacks=[clock], registered_callbacks=False)
    assert [warning.filename for warning in caught] == [__file__]
