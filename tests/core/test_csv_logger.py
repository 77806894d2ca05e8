from __future__ import annotations

import csv
import enum
import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hookloop.errors import MisconfigurationError
from hookloop.loggers import CSVLogger, Logger, check_logger, log_dir_of


def metrics_path(logger: CSVLogger) -> Path:
    return Path(logger.log_dir, "metrics.csv")


def read(logger: CSVLogger) -> str:
    return metrics_path(logger).read_bytes().decode()


def hparams(logger: CSVLogger, name: str = "hparams.yaml") -> str:
    return Path(logger.log_dir, name).read_text(encoding="utf-8")


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )


# ------------------------------------------------------------------------------------------------------ the numbers


def test_every_call_is_a_row_and_names_stand_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"loss": 0.5, "acc": 1.0}, step=9)
    logger.log_metrics({"epoch": 0, "loss": 0.25}, step=19)
    logger.save()
    assert metrics_path(logger) == tmp_path / "hookloop_logs" / "version_0" / "metrics.csv"
    assert read(logger) == "step,loss,acc,epoch\n9,0.5,1.0,\n19,0.25,,0\n"


def test_numbers_of_every_kind_are_written_so_that_they_read_back_exactly(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    values: dict[str, Any] = {
        "third": 1 / 3,
        "tiny": 5e-324,
        "huge": 1.7976931348623157e308,
        "int": 2**70,
        "bool": True,
        "nan": math.nan,
        "inf": math.inf,
        "minus": -math.inf,
        "tensor": torch.tensor([0.5]),
        "count": torch.tensor(7),
        "float64": np.float64(0.1),
        "float32": np.float32(0.5),
    }
    logger.log_metrics(values, step=0)
    logger.save()
    header, cells = read(logger).splitlines()
    assert header == "step,third,tiny,huge,int,bool,nan,inf,minus,tensor,count,float64,float32"
    assert cells == (
        "0,0.3333333333333333,5e-324,1.7976931348623157e+308,1180591620717411303424,1,nan,inf,-inf,0.5,7,0.1,0.5"
    )


def test_a_tensor_that_changes_after_the_call_does_not_change_the_row(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    running = torch.tensor(1.0)
    metrics: dict[str, Any] = {"running": running}
    logger.log_metrics(metrics, step=0)
    running += 1
    metrics["late"] = 3.0
    logger.save()
    assert read(logger) == "step,running\n0,1.0\n"


def test_names_with_commas_quotes_line_breaks_and_other_scripts_read_back(tmp_path: Path) -> None:
    names = ["a,b", 'say "x"', "two\nlines", "损失", " padded ", "semi;colon", "it's", ""]
    logger = CSVLogger(tmp_path)
    logger.log_metrics({name: float(i) for i, name in enumerate(names)}, step=3)
    logger.save()
    logger.log_metrics({names[0]: 9.0, "new,one": 8.0}, step=4)
    logger.save()
    with metrics_path(logger).open(encoding="utf-8", newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["step", *names, "new,one"]
    assert first == ["3", *(f"{i}.0" for i in range(len(names))), ""]
    assert second == ["4", "9.0", *[""] * (len(names) - 1), "8.0"]


def test_a_column_that_appears_later_is_empty_in_the_rows_before_it(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    logger.log_metrics({"loss": 3.0}, step=0)
    logger.log_metrics({"loss": 2.0}, step=1)
    assert read(logger) == "step,loss\n0,3.0\n1,2.0\n"
    logger.log_metrics({"val": 7.0}, step=1)
    assert read(logger) == "step,loss,val\n0,3.0,\n1,2.0,\n1,,7.0\n"
    logger.log_metrics({"loss": 1.0}, step=2)
    assert read(logger) == "step,loss,val\n0,3.0,\n1,2.0,\n1,,7.0\n2,1.0,\n"
    assert sorted(path.name for path in Path(logger.log_dir).iterdir()) == ["hparams.yaml", "metrics.csv"]


Rows = list[tuple[dict[str, float], bool]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.dictionaries(
                st.text(max_size=3).filter(lambda name: name != "step"), st.floats(), min_size=1, max_size=4
            ),
            st.booleans(),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_is_logged_and_whenever_it_is_flushed_the_file_holds_all_of_it(rows: Rows) -> None:
    with tempfile.TemporaryDirectory() as folder:
        logger = CSVLogger(folder, flush_logs_every_n_steps=1000)
        for step, (metrics, flush) in enumerate(rows):
            logger.log_metrics(metrics, step)
            if flush:
                logger.save()
        logger.finalize("success")
        with metrics_path(logger).open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
    assert all(len(line) == len(header) for line in lines)
    assert len(set(header)) == len(header)
    written = [{name: cell for name, cell in zip(header, line, strict=True) if cell} for line in lines]
    assert written == [
        {"step": str(step), **{name: repr(value) for name, value in metrics.items()}}
        for step, (metrics, _) in enumerate(rows)
    ]


def test_a_new_column_does_not_read_the_file_into_memory(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=10_000)
    row = {f"metric_{i}": 1 / 3 for i in range(10)}
    for step in range(20_000):
        logger.log_metrics(row, step)
    logger.save()
    size = metrics_path(logger).stat().st_size
    assert size > 3_000_000
    logger.log_metrics({"new": 1.0}, 20_000)
    tracemalloc.start()
    logger.save()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < size / 10
    with metrics_path(logger).open(encoding="utf-8") as file:
        assert sum(1 for _ in file) == 20_002


def test_a_value_that_is_no_number_is_an_error_that_names_the_metric(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    wrong: list[Any] = ["high", None, [1.0], {"a": 1.0}, 1j, torch.ones(2), np.ones(2), np.array("text")]
    for value in wrong:
        with pytest.raises(MisconfigurationError, match=r"(?s)got .* for 'acc'; a metric is one number.*hyperparams"):
            logger.log_metrics({"loss": 1.0, "acc": value}, step=0)
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------------ steps


def test_without_a_step_rows_are_counted_on_from_the_last_one(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 0.0})
    logger.log_metrics({"a": 1.0})
    logger.log_metrics({"a": 2.0}, step=10)
    logger.log_metrics({"a": 3.0})
    logger.save()
    assert read(logger) == "step,a\n0,0.0\n1,1.0\n10,2.0\n11,3.0\n"


def test_a_metric_named_step_takes_the_place_of_the_argument(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, prefix="p")
    logger.log_metrics({"a": 0.0, "step": 4.0}, step=100)
    logger.save()
    assert read(logger) == "step,p-a\n4,0.0\n"
    for step in (math.nan, math.inf):
        with pytest.raises(MisconfigurationError, match=r"for 'step'; a metric is one number.* a step is a finite one"):
            logger.log_metrics({"a": 0.0, "step": step})


def test_a_prefix_stands_before_every_name(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, prefix="fold1")
    logger.log_metrics({"loss": 0.5, "val/acc": 0.75}, step=0)
    logger.save()
    assert read(logger) == "step,fold1-loss,fold1-val/acc\n0,0.5,0.75\n"


# ------------------------------------------------------------------------------------------- what is on disk, and when


def test_constructing_a_logger_and_reading_its_properties_creates_nothing(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "logs", name="digits")
    assert logger.name == "digits"
    assert logger.version == 0
    assert logger.save_dir == str(tmp_path / "logs")
    assert logger.root_dir == str(tmp_path / "logs" / "digits")
    assert logger.log_dir == str(tmp_path / "logs" / "digits" / "version_0")
    assert logger.hparams == {}
    logger.log_metrics({}, step=0)
    logger.log_hyperparams({})
    logger.log_hyperparams(None)
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_save_makes_the_folder_before_anything_is_logged(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.save()
    assert hparams(logger) == "{}\n"
    assert CSVLogger(tmp_path).version == 1


def test_between_flushes_log_metrics_does_not_touch_the_disk(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=100)
    logger.log_metrics({"a": 0.0}, step=0)
    shutil.rmtree(logger.log_dir)
    for step in range(1, 99):
        logger.log_metrics({"a": float(step)}, step)
    assert not Path(logger.log_dir).exists()
    logger.log_metrics({"a": 99.0}, step=99)
    assert read(logger) == "step,a\n" + "".join(f"{step},{step}.0\n" for step in range(100))


def test_a_file_that_was_removed_during_the_run_comes_back_with_its_header(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=1)
    logger.log_metrics({"a": 0.0, "b": 0.0}, step=0)
    shutil.rmtree(logger.log_dir)
    logger.log_metrics({"b": 1.0}, step=1)
    assert read(logger) == "step,b\n1,1.0\n"
    shutil.rmtree(logger.log_dir)
    logger.log_hyperparams({"lr": 0.5})
    assert hparams(logger) == "lr: 0.5\n"


@pytest.mark.parametrize(
    ("every", "steps", "written_after"),
    [
        (100, [49, 99, 149, 199], [0, 2, 2, 4]),
        (100, [29, 59, 89, 119, 149], [0, 0, 0, 4, 4]),
        (1, [0, 1, 2], [1, 2, 3]),
        # All at one step: as many rows as steps would have been.
        (3, [0, 0, 0, 0], [0, 0, 3, 3]),
        # A second fit begins again at step 0.
        (10, [9, 19, 0, 1], [1, 2, 3, 3]),
    ],
)
def test_rows_are_written_when_another_n_steps_or_n_rows_are_complete(
    tmp_path: Path, every: int, steps: list[int], written_after: list[int]
) -> None:
    logger = CSVLogger(tmp_path, flush_logs_every_n_steps=every)
    written = []
    for step in steps:
        logger.log_metrics({"a": 1.0}, step)
        path = metrics_path(logger)
        written.append(len(path.read_text().splitlines()) - 1 if path.exists() else 0)
    assert written == written_after


KILLED = """
import os, signal, sys
from hookloop.loggers import CSVLogger
logger = CSVLogger(sys.argv[1], flush_logs_every_n_steps=100)
logger.log_hyperparams({"lr": 0.5})
for step in range(250):
    logger.log_metrics({"loss": step / 4}, step)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_the_rows_since_the_last_flush_and_no_others(tmp_path: Path) -> None:
    assert run_python(KILLED, tmp_path).returncode == -signal.SIGKILL
    logger = CSVLogger(tmp_path, version=0)
    assert read(logger) == "step,loss\n" + "".join(f"{step},{step / 4}\n" for step in range(200))
    assert hparams(logger) == "lr: 0.5\n"


FULL_DISK = """
import resource, sys
from pathlib import Path
from hookloop.loggers import CSVLogger

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

logger = CSVLogger(sys.argv[1], flush_logs_every_n_steps=1000)
path = Path(logger.log_dir, "metrics.csv")
for step in range(10):
    logger.log_metrics({"loss": 0.5}, step)
logger.save()
before = path.read_text()
for name in ("loss", "new"):
    for step in range(10, 300):
        logger.log_metrics({name: 0.5}, step)
    limit(len(before) + 7)
    try:
        logger.save()
    except OSError as error:
        print(type(error).__name__, path.read_text() == before, sorted(p.name for p in path.parent.iterdir()))
    limit(resource.RLIM_INFINITY)
logger.finalize("failed")
"""


def test_a_full_disk_leaves_the_file_whole_and_the_next_flush_writes_every_row(tmp_path: Path) -> None:
    run = run_python(FULL_DISK, tmp_path)
    assert run.stderr == ""
    # The first time while rows are added, the second time while the file is copied for a new column.
    assert run.stdout.splitlines() == ["OSError True ['hparams.yaml', 'metrics.csv']"] * 2
    assert read(CSVLogger(tmp_path, version=0)) == (
        "step,loss,new\n"
        + "".join(f"{step},0.5,\n" for step in range(300))
        + "".join(f"{step},,0.5\n" for step in range(10, 300))
    )


def test_finalize_writes_what_is_left_once(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("failed")
    logger.finalize("success")
    logger.save()
    assert read(logger) == "step,a\n0,1.0\n"


def test_a_second_fit_with_the_same_logger_adds_to_the_same_file(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")
    logger.log_metrics({"a": 2.0}, step=0)
    logger.log_metrics({"test": 3.0}, step=0)
    logger.finalize("success")
    assert read(logger) == "step,a,test\n0,1.0,\n0,2.0,\n0,,3.0\n"
    assert [path.name for path in Path(logger.root_dir).iterdir()] == ["version_0"]


def test_a_process_that_changes_its_folder_goes_on_logging_into_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    logger = CSVLogger("logs")
    logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    os.chdir("elsewhere")
    logger.log_metrics({"a": 2.0}, step=1)
    logger.log_metrics({"b": 3.0}, step=1)
    logger.finalize("success")
    path = tmp_path / "logs" / "hookloop_logs" / "version_0" / "metrics.csv"
    assert path.read_text() == "step,a,b\n0,1.0,\n1,2.0,\n1,,3.0\n"
    assert list((tmp_path / "elsewhere").iterdir()) == []


# --------------------------------------------------------------------------------------------------------- versions


def test_every_new_logger_takes_the_number_after_the_highest(tmp_path: Path) -> None:
    for expected in range(3):
        logger = CSVLogger(tmp_path, name="x")
        logger.log_metrics({"a": float(expected)}, step=0)
        logger.finalize("success")
        assert logger.version == expected
    shutil.rmtree(tmp_path / "x" / "version_1")
    for other in ("version_12", "version_x", "version_99_old", "checkpoints"):
        (tmp_path / "x" / other).mkdir()
    assert CSVLogger(tmp_path, name="x").version == 13
    assert (tmp_path / "x" / "version_0" / "metrics.csv").read_text() == "step,a\n0,0.0\n"


@pytest.mark.parametrize("name", [None, ""])
def test_without_a_name_versions_stand_in_save_dir(tmp_path: Path, name: str | None) -> None:
    logger = CSVLogger(tmp_path, name=name)
    logger.log_metrics({"a": 1.0})
    logger.save()
    assert (tmp_path / "version_0" / "metrics.csv").exists()


def test_the_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CSVLogger("~/logs").save_dir == str(tmp_path / "logs")


def test_a_version_that_is_given_is_continued(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path, version="baseline")
    first.log_hyperparams({"lr": 0.5})
    first.log_metrics({"a": 1.0, "b,c": 2.0}, step=0)
    first.finalize("success")
    second = CSVLogger(tmp_path, version="baseline")
    second.log_metrics({"a": 3.0}, step=1)
    second.save()
    second.log_metrics({"d": 4.0}, step=1)
    second.finalize("success")
    assert second.log_dir == str(tmp_path / "hookloop_logs" / "baseline")
    assert read(second) == 'step,a,"b,c",d\n0,1.0,2.0,\n1,3.0,,\n1,,,4.0\n'
    assert hparams(second) == "lr: 0.5\n"


def test_other_settings_in_a_version_that_is_given_are_kept_beside(tmp_path: Path) -> None:
    CSVLogger(tmp_path, version=7).save()
    for lr in (0.5, 0.5, 0.25):
        CSVLogger(tmp_path, version=7).log_hyperparams({"lr": lr})
    logger = CSVLogger(tmp_path, version=7)
    logger.log_hyperparams({"lr": 100.0})
    logger.log_hyperparams({"lr": 0.125})
    assert hparams(logger) == "lr: 0.125\n"
    assert hparams(logger, "hparams-1.yaml") == "lr: 0.5\n"
    assert hparams(logger, "hparams-2.yaml") == "lr: 0.25\n"
    assert len(list(Path(logger.log_dir).iterdir())) == 3


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("step,a\n0,1.0\n1,2.5", "step,a,b\n0,1.0,\n2,,3.0\n"),
        ("step,a\n0,1.0\n" + "1" * 20_000, "step,a,b\n0,1.0,\n2,,3.0\n"),
        ("step,b\n" + "0,1.0\n" * 5_000 + "1,2", "step,b\n" + "0,1.0\n" * 5_000 + "2,3.0\n"),
        ("step,a", "step,b\n2,3.0\n"),
        ("", "step,b\n2,3.0\n"),
        ("step,b\n0,1.0\n", "step,b\n0,1.0\n2,3.0\n"),
    ],
)
def test_a_last_line_that_was_cut_off_is_removed_when_the_file_is_continued(
    tmp_path: Path, found: str, expected: str
) -> None:
    logger = CSVLogger(tmp_path, version="v")
    Path(logger.log_dir).mkdir(parents=True)
    metrics_path(logger).write_text(found)
    logger.log_metrics({"b": 3.0}, step=2)
    logger.save()
    assert read(logger) == expected


def test_a_folder_that_a_checkpoint_callback_made_first_is_still_this_run_s(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    Path(logger.log_dir, "checkpoints").mkdir(parents=True)
    logger.log_metrics({"a": 1.0}, step=0)
    logger.finalize("success")
    assert logger.version == 0
    assert sorted(path.name for path in (tmp_path / "hookloop_logs" / "version_0").iterdir()) == [
        "checkpoints",
        "hparams.yaml",
        "metrics.csv",
    ]


def test_of_two_runs_that_chose_one_number_the_later_one_to_log_moves_on_and_warns(tmp_path: Path) -> None:
    one, two = CSVLogger(tmp_path), CSVLogger(tmp_path)
    assert one.version == two.version == 0
    one.log_metrics({"a": 1.0}, step=0)
    with pytest.warns(UserWarning, match=r"another run has begun to log in '.*version_0'.*logs in '.*version_1'"):
        two.log_metrics({"b": 2.0}, step=0)
    one.finalize("success")
    two.finalize("success")
    assert (one.version, two.version) == (0, 1)
    assert read(one) == "step,a\n0,1.0\n"
    assert read(two) == "step,b\n0,2.0\n"


def test_a_chosen_number_is_given_up_to_a_metrics_file_without_settings_too(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    Path(logger.log_dir).mkdir(parents=True)
    other = metrics_path(logger)
    other.write_text("somebody else's")
    with pytest.warns(UserWarning, match="another run has begun to log"):
        logger.log_metrics({"a": 1.0}, step=0)
    logger.save()
    assert logger.version == 1
    assert other.read_text() == "somebody else's"


def log_at_the_same_moment(loggers: list[CSVLogger]) -> None:
    gate = threading.Barrier(len(loggers))

    def log(logger: CSVLogger) -> None:
        gate.wait()
        logger.log_metrics({"a": 1.0}, step=0)
        logger.finalize("success")

    threads = [threading.Thread(target=log, args=(logger,)) for logger in loggers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("error")
def test_runs_that_begin_at_the_same_moment_get_a_folder_each(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, prefix=str(i)) for i in range(8)]
    log_at_the_same_moment(loggers)
    assert sorted(logger.version for logger in loggers) == list(range(8))
    assert [read(logger) for logger in loggers] == [f"step,{i}-a\n0,1.0\n" for i in range(8)]


@pytest.mark.filterwarnings("ignore:CSVLogger. another run has begun to log")
def test_runs_that_chose_one_number_and_log_at_the_same_moment_get_a_folder_each(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, prefix=str(i)) for i in range(8)]
    assert [logger.version for logger in loggers] == [0] * 8
    log_at_the_same_moment(loggers)
    assert len({logger.version for logger in loggers}) == 8
    assert [read(logger) for logger in loggers] == [f"step,{i}-a\n0,1.0\n" for i in range(8)]


# ------------------------------------------------------------------------------------------------------- settings


class Colour(enum.StrEnum):
    RED = "#f00"


@dataclass
class Nested:
    rate: float
    sizes: tuple[int, ...]


def test_settings_are_yaml_text_that_reads_back_as_the_same_values(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    circle: dict[str, Any] = {"name": "o"}
    circle["self"] = circle
    logger.log_hyperparams(
        {
            "lr": 1e-05,
            "decay": 0.5,
            "big": 1e300,
            "steps": 100,
            "nan": math.nan,
            "inf": [math.inf, -math.inf],
            "flag": True,
            "none": None,
            "name": "sgd",
            "sentence": 'say "hi",\nthen: \x07 C:\\x é \u2028 \U000e0001',
            "words": ["yes", "No", "null", "1", "1e5", "", " a", "a b", "12:30", "- x", "#x", "a/b.c-d"],
            "sizes": (64, 32),
            "set": {3, 1, 2},
            "empty": [{}, [], ()],
            "nested": Nested(0.25, (1, 2)),
            "deep": {"list": [[1, 2], {"a": [3]}]},
            "space": Namespace(x=1),
            "path": Path("a/b c"),
            "colour": Colour.RED,
            "tensor": torch.tensor(0.5),
            "array": np.float64(0.1),
            "bool_": np.bool_(True),
            "vector": np.array([1.0, 2.0]),
            "dtype": torch.float32,
            "class": torch.optim.SGD,
            "function": metrics_path,
            "range": range(3),
            "circle": circle,
            3: "int key",
            "a: b": 1,
            None: 2,
            (1, 2): 3,
        }
    )
    assert hparams(logger) == (
        r"""lr: 1.0e-05
decay: 0.5
big: 1.0e+300
steps: 100
nan: .nan
inf:
  - .inf
  - -.inf
flag: true
none: null
name: sgd
sentence: "say \"hi\",\nthen: \x07 C:\\x é \u2028 \U000e0001"
words:
  - "yes"
  - "No"
  - "null"
  - "1"
  - "1e5"
  - ""
  - " a"
  - "a b"
  - "12:30"
  - "- x"
  - "#x"
  - a/b.c-d
sizes:
  - 64
  - 32
set:
  - 1
  - 2
  - 3
empty:
  - {}
  - []
  - []
nested:
  rate: 0.25
  sizes:
    - 1
    - 2
deep:
  list:
    -
      - 1
      - 2
    -
      a:
        - 3
space:
  x: 1
path: "a/b c"
colour: RED
tensor: 0.5
array: 0.1
bool_: true
vector: "array([1., 2.])"
dtype: torch.float32
class: torch.optim.sgd.SGD
"""
        f"function: {metrics_path.__module__}.metrics_path\n"
        r"""range: "range(0, 3)"
circle:
  name: o
  self: "..."
3: "int key"
"a: b": 1
null: 2
"(1, 2)": 3
"""
    )


def test_settings_are_on_disk_at_once_and_later_ones_are_added(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams(Namespace(lr=0.5, layers=2))
    assert hparams(logger) == "lr: 0.5\nlayers: 2\n"
    logger.log_hyperparams({"layers": 3, "name": "x"}, {"hp_metric": 1.0}, unknown=True)
    logger.log_hyperparams(Nested(1.0, ()))
    assert hparams(logger) == "lr: 0.5\nlayers: 3\nname: x\nrate: 1.0\nsizes: []\n"
    assert logger.hparams == {"lr": 0.5, "layers": 3, "name": "x", "rate": 1.0, "sizes": []}
    assert [path.name for path in Path(logger.log_dir).iterdir()] == ["hparams.yaml"]


def test_settings_that_are_no_mapping_are_an_error(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    wrong: list[Any] = [0.5, "lr=0.5", ["lr"], Nested, object()]
    for params in wrong:
        with pytest.raises(MisconfigurationError, match=r"log_hyperparams got .*; give a mapping, an argparse"):
            logger.log_hyperparams(params)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------- wrong arguments


def test_a_url_is_no_save_dir() -> None:
    with pytest.raises(MisconfigurationError, match=r"save_dir='s3://bucket/x'\) is a URL.*give a local folder"):
        CSVLogger("s3://bucket/x")


@pytest.mark.parametrize("version", [-1, True, 1.0, ""])
def test_a_version_is_a_number_or_a_text(tmp_path: Path, version: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"version=.* is neither an int of at least 0 nor a text.*or None"):
        CSVLogger(tmp_path, version=version)


@pytest.mark.parametrize("every", [0, -1, True, 1.0, None])
def test_flushing_needs_a_positive_number_of_steps(tmp_path: Path, every: Any) -> None:
    with pytest.raises(
        MisconfigurationError, match=r"flush_logs_every_n_steps=.* is not an int of at least 1; 1 writes"
    ):
        CSVLogger(tmp_path, flush_logs_every_n_steps=every)


# --------------------------------------------------------------------------------- loggers written outside


class Smallest(Logger):
    """What one has to write at least."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.last = (dict(metrics), step)


class Shaped:
    """A logger by shape, that starts something expensive when a property is read."""

    log_dir: str

    def __init__(self) -> None:
        self.save_dir: str | None = "runs"
        self.version = 3

    @property
    def experiment(self) -> object:
        raise ConnectionError("the server was asked")

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None: ...

    def log_graph(self, model: Any, input_array: Any = None) -> None: ...

    def save(self) -> None: ...

    def finalize(self, status: str) -> None: ...

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None: ...


def test_a_logger_needs_log_metrics_and_inherits_the_rest() -> None:
    logger = Smallest()
    logger.log_metrics({"a": 1.0}, 2)
    logger.log_hyperparams({"lr": 0.5}, 1, x=2)
    logger.log_graph(torch.nn.Identity())
    logger.after_save_checkpoint(object())
    logger.save()
    logger.finalize("success")
    assert logger.last == ({"a": 1.0}, 2)
    assert (logger.name, logger.version, logger.save_dir, logger.log_dir, logger.experiment) == (None,) * 5
    assert check_logger(logger) is logger
    with pytest.raises(TypeError, match="log_metrics"):
        type("Empty", (Logger,), {})()


@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("n", 3, "s/n/version_3"),
        ("n", "v", "s/n/v"),
        (None, 0, "s/version_0"),
        ("", "v", "s/v"),
        ("n", None, "s/n"),
        (None, None, "s"),
    ],
)
def test_the_default_log_dir_is_save_dir_name_version(
    name: str | None, version: int | str | None, expected: str
) -> None:
    parts = {"save_dir": "s", "name": name, "version": version}
    logger = type("Placed", (Smallest,), parts)()
    assert logger.log_dir == str(Path(expected))
    assert log_dir_of(logger) == logger.log_dir


def test_a_logger_by_shape_is_a_logger_and_none_of_its_properties_is_read_to_find_out() -> None:
    assert issubclass(Shaped, Logger)
    shaped = Shaped()
    logger = check_logger(shaped)
    assert id(logger) == id(shaped)
    assert log_dir_of(logger) == str(Path("runs/version_3"))
    shaped.save_dir = None
    assert log_dir_of(logger) is None
    shaped.log_dir = "own"
    assert log_dir_of(logger) == "own"


def test_what_is_no_logger_is_an_error_that_names_the_missing_methods() -> None:
    class Half:
        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None: ...

        def save(self) -> None: ...

        log_graph = None

    assert not isinstance(Half(), Logger)
    with pytest.raises(
        MisconfigurationError,
        match=r"Half\) is no logger: it lacks log_hyperparams, log_graph, finalize, after_save_checkpoint\. "
        "Pass True, False, a Logger or a list of them",
    ):
        check_logger(Half())
    with pytest.raises(
        MisconfigurationError, match=r"logger=CSVLogger is a class; pass an instance of it: CSVLogger\("
    ):
        check_logger(CSVLogger)


# ------------------------------------------------------------------------------------------------------------ imports

IMPORTS = """
import sys
from hookloop import *
before = set(sys.modules)
import hookloop.loggers
print(*(name for name in set(sys.modules) - before if name.startswith("hookloop")))
from hookloop.loggers import CSVLogger
print(*({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
print("CSVLogger" in dir(hookloop.loggers))
"""


def test_importing_the_loggers_loads_no_logger_and_the_csv_logger_loads_no_library() -> None:
    run = run_python(IMPORTS)
    assert run.stderr == ""
    ours, libraries, listed = run.stdout.split("\n")[:3]
    assert set(ours.split()) <= {"hookloop.loggers"}
    assert set(libraries.split()) <= {"hookloop"}
    assert listed == "True"


def test_a_name_that_the_loggers_do_not_have_is_an_error_that_lists_those_they_have() -> None:
    import hookloop.loggers

    with pytest.raises(AttributeError, match=r"no attribute 'CsvLogger'; it has CSVLogger, Logger, TensorBoardLogger"):
        _ = hookloop.loggers.CsvLogger
