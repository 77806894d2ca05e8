"""`TensorBoardLogger`: what is in the event files, read back with tensorboard's own readers."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookloop.errors import MisconfigurationError
from hookloop.loggers import TensorBoardLogger
from hookloop.loggers.logger import DummyExperiment

from .event_files import accumulated, event_files, scalars, shown_settings
from .fitting import Regression, loader, trainer_in


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


# The numbers


def test_every_metric_is_a_scalar_at_the_step_it_was_logged_with(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": 0.5, "acc": 1}, step=9)
    logger.log_metrics({"loss": 0.25, "epoch": 0}, step=19)
    logger.finalize("success")

    assert scalars(tmp_path / "hookloop_logs" / "version_0") == {
        "loss": [(9, 0.5), (19, 0.25)],
        "acc": [(9, 1.0)],
        "epoch": [(19, 0.0)],
    }


def test_numbers_of_every_kind_are_scalars(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    numbers = {
        "int": 3,
        "bool": True,
        "tensor": torch.tensor(0.5),
        "one element": torch.tensor([[2.0]]),
        "bfloat16": torch.tensor(1e38, dtype=torch.bfloat16),
        "with a graph": torch.tensor(1.5, requires_grad=True),
        "numpy": np.float64(0.25),
        "array": np.array([4]),
        "inf": math.inf,
        "-inf": -math.inf,
        "too large": 10**400,
        "too small": -(10**400),
    }
    logger.log_metrics({**numbers, "nan": math.nan}, step=0)
    logger.finalize("success")

    read = {tag: value for tag, [(_, value)] in scalars(logger.log_dir).items()}
    assert math.isnan(read.pop("nan"))
    assert read.pop("bfloat16") == float(torch.tensor(1e38, dtype=torch.bfloat16))
    assert read == {
        "int": 3.0,
        "bool": 1.0,
        "tensor": 0.5,
        "one element": 2.0,
        "with a graph": 1.5,
        "numpy": 0.25,
        "array": 4.0,
        "inf": math.inf,
        "-inf": -math.inf,
        "too large": math.inf,
        "too small": -math.inf,
    }


def test_a_dict_of_numbers_is_one_chart_with_a_line_for_each(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"loss": {"train": 0.5, "val": torch.tensor(0.75)}, "acc": 1.0}, step=3)
    logger.log_metrics({"loss": {"train": 0.25}}, step=4)
    logger.finalize("success")

    folder = Path(logger.log_dir)
    assert scalars(folder) == {"acc": [(3, 1.0)]}
    # TensorBoard draws a line for each folder.
    assert scalars(folder / "loss_train") == {"loss": [(3, 0.5), (4, 0.25)]}
    assert scalars(folder / "loss_val") == {"loss": [(3, 0.75)]}


def test_a_metric_named_step_is_the_step_and_without_any_the_logger_counts(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({"a": 1.0})
    logger.log_metrics({"a": 2.0})
    logger.log_metrics({"a": 3.0, "step": torch.tensor(7)}, step=2)
    logger.log_metrics({"a": 4.0})
    logger.log_metrics({})
    logger.finalize("success")

    assert scalars(logger.log_dir) == {"a": [(0, 1.0), (1, 2.0), (7, 3.0), (8, 4.0)]}


def test_the_prefix_stands_before_every_name(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path, prefix="run")
    logger.log_metrics({"a": 1.0, "b/c": 2.0}, step=0)
    logger.log_hyperparams({"lr": 0.1})
    logger.finalize("success")

    assert scalars(logger.log_dir) == {"run-a": [(0, 1.0)], "run-b/c": [(0, 2.0)], "run-hp_metric": [(0, -1.0)]}
    # The table of settings finds its metric under the name that it has.
    assert shown_settings(logger.log_dir) == [({"lr": 0.1}, ["run-hp_metric"])]


def test_a_class_may_join_the_prefix_in_its_own_way(tmp_path: Path) -> None:
    class Slashed(TensorBoardLogger):
        LOGGER_JOIN_CHAR = "/"

    logger = Slashed(tmp_path, prefix="run")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")

    assert list(scalars(logger.log_dir)) == ["run/a"]


@pytest.mark.parametrize(
    ("name", "tag"), [("", ""), ("a b", "a b"), ("é/ü", "é/ü"), ("a\nb", "a\nb"), ("\udcff", r"\udcff"), (3, "3")]
)
def test_names_are_kept_and_what_is_no_text_is_written_out(tmp_path: Path, name: Any, tag: str) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.log_metrics({name: 1.0}, step=0)
    logger.finalize("success")

    assert scalars(logger.log_dir) == {tag: [(0, 1.0)]}


@pytest.mark.parametrize("value", ["0.5", None, [1.0], torch.ones(2), torch.tensor([]), 1j, {"a": "b"}])
def test_what_is_no_number_is_an_error_and_nothing_of_its_row_is_written(tmp_path: Path, value: Any) -> None:
    logger = TensorBoardLogger(tmp_path)
    with pytest.raises(MisconfigurationError, match=r"TensorBoardLogger.log_metrics got .* for 'bad.*one number"):
        logger.log_metrics({"good": 1.0, "bad": value}, step=0)
    with pytest.raises(MisconfigurationError, match=r"got nan \(float\) for 'step'; .* a step is a finite one"):
        logger.log_metrics({"good": 1.0, "step": math.nan})
    logger.save()
    logger.finalize("failed")

    assert event_files(logger.log_dir) == []


def test_the_experiment_takes_what_only_tensorboard_can_show(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_histogram("weights", torch.arange(8.0), 2)
    logger.experiment.add_text("note", "hello", 3)
    logger.finalize("success")

    tags = accumulated(logger.log_dir).Tags()
    assert tags["histograms"] == ["weights"]
    assert tags["tensors"] == ["note/text_summary"]


def test_on_other_ranks_than_zero_the_experiment_does_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    logger = TensorBoardLogger(tmp_path)
    assert isinstance(logger.experiment, DummyExperiment)
    logger.experiment.add_histogram("weights", torch.arange(8.0), 2)

    assert list(tmp_path.iterdir()) == []


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


# What a fit writes


def test_a_fit_writes_the_losses_of_a_plain_loop(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer_in(tmp_path, logger=logger, log_every_n_steps=2).fit(Regression(), loader(), loader(2))

    plain = Regression()
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.05, momentum=0.9)
    steps, epochs, validations = [], [], []
    for _ in range(2):
        losses = []
        for _, x, y in loader():
            loss = torch.nn.functional.mse_loss(plain.net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        steps += losses
        epochs.append(float(np.float32(np.mean(np.array(losses, dtype=np.float64)))))
        with torch.no_grad():
            of_batches = [torch.nn.functional.mse_loss(plain.net(x), y).item() for _, x, y in loader(2)]
        validations.append(float(np.float32(np.mean(of_batches))))

    read = scalars(logger.log_dir)
    assert read["loss_step"] == [(step, steps[step]) for step in (1, 3, 5, 7, 9)]
    assert read["loss_epoch"] == list(zip((4, 9), epochs, strict=True))
    assert read["val_loss"] == list(zip((4, 9), validations, strict=True))
    assert read["epoch"] == [(1, 0), (3, 0), (4, 0), (4, 0), (5, 1), (7, 1), (9, 1), (9, 1), (9, 1)]


def test_the_file_is_whole_and_closed_when_training_raises(tmp_path: Path) -> None:
    class Failing(Regression):
        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            if batch_idx == 3:
                raise ArithmeticError("planted")
            return super().training_step(batch, batch_idx)

    logger = TensorBoardLogger(tmp_path)
    before = threading.active_count()
    with pytest.raises(ArithmeticError, match="planted"):
        trainer_in(tmp_path, logger=logger, log_every_n_steps=1).fit(Failing(), loader())

    assert [step for step, _ in scalars(logger.log_dir)["loss_step"]] == [0, 1, 2]
    assert threading.active_count() == before


def test_validate_and_test_write_too(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    trainer = trainer_in(tmp_path, logger=logger)
    module = Regression()
    [validated] = trainer.validate(module, loader(2), verbose=False)
    [tested] = trainer.test(module, loader(3), verbose=False)

    read = scalars(logger.log_dir)
    # Scalars of TensorBoard are float32.
    assert read["val_loss"] == [(0, float(np.float32(validated["val_loss"])))]
    assert read["test_loss"] == [(0, float(np.float32(tested["test_loss"])))]


FULL_DISK = """
import resource, sys
from hookloop.loggers import TensorBoardLogger

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

logger = TensorBoardLogger(sys.argv[1], flush_secs=0)
logger.log_metrics({"before": 1.0}, 0)
logger.save()
limit(4096)
try:
    for step in range(10000):
        logger.log_metrics({"loss": 0.5}, step)
except OSError as error:
    print("log_metrics:", error.strerror)
try:
    logger.finalize("failed")
except OSError as error:
    print("finalize:", error.strerror)
logger.finalize("failed")
limit(resource.RLIM_INFINITY)
logger.log_metrics({"after": 1.0}, 1)
logger.finalize("success")
"""


def test_a_full_disk_is_an_error_nothing_hangs_and_the_next_file_is_a_new_one(tmp_path: Path) -> None:
    run = run_python(FULL_DISK, tmp_path)
    assert run.stdout.splitlines() == ["log_metrics: File too large", "finalize: File too large"]
    assert run.returncode == 0
    read = scalars(tmp_path / "hookloop_logs" / "version_0")
    assert (read["before"], read["after"]) == ([(0, 1.0)], [(1, 1.0)])
    assert read["loss"] == [(step, 0.5) for step in range(len(read["loss"]))]


# Wrong arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"save_dir": "s3://bucket"}, r"TensorBoardLogger\(save_dir='s3://bucket'\) is a URL.*give a local folder"),
        ({"save_dir": None}, r"save_dir=None\) must be the path of a local folder"),
        ({"name": 3}, r"name=3\) must be a text, or None"),
        ({"version": -1}, r"version=-1\) is neither an int of at least 0 nor a text"),
        ({"prefix": None}, r"prefix=None\) must be a text; \"\" puts nothing before"),
        ({"max_que": 3, "comment": ""}, r"does not know max_que, comment; .* purge_step, max_queue, flush_secs, filen"),
    ],
)
def test_a_wrong_argument_is_an_error(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        TensorBoardLogger(**{"save_dir": tmp_path, **arguments})


# Imports


def test_tensorboard_is_imported_when_something_is_written(tmp_path: Path) -> None:
    run = run_python(f"""
import sys
import torch
from hookloop.loggers import TensorBoardLogger
logger = TensorBoardLogger({str(tmp_path)!r})
logger.log_dir, logger.save(), logger.finalize("success")
print("tensorboard" in sys.modules)
logger.log_metrics({{"a": 1.0}})
print("tensorboard" in sys.modules)
""")
    assert run.stderr == ""
    assert run.stdout.split() == ["False", "True"]


def test_without_tensorboard_the_error_says_what_to_install() -> None:
    run = run_python("""
import sys
sys.modules["tensorboard"] = None
from hookloop.loggers import TensorBoardLogger
try:
    TensorBoardLogger("logs")
except ModuleNotFoundError as error:
    print(error.name, error)
""")
    assert run.stderr == ""
    assert run.stdout == (
        "tensorboard TensorBoardLogger needs tensorboard, which is not installed: pip install 'hookloop[tensorboard]'. "
        "hookloop.loggers.CSVLogger needs nothing else.\n"
    )


def test_a_tensorboard_that_does_not_work_is_an_error_with_the_cause(tmp_path: Path) -> None:
    run = run_python(f"""
import sys
sys.modules["tensorboard.compat"] = None
from hookloop.loggers import TensorBoardLogger
try:
    TensorBoardLogger({str(tmp_path)!r}).log_metrics({{"a": 1.0}})
except ImportError as error:
    print(error)
""")
    assert run.stderr == ""
    assert "tensorboard cannot be imported: " in run.stdout
    assert run.stdout.endswith("Try pip install 'hookloop[tensorboard]' --upgrade.\n")
