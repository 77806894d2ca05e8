"""`DeviceStatsMonitor` logs what the machine and this process use, in every stage."""

import copy
import pickle
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from hookloop import Callback, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyDataModule, TinyModule
from hookloop.testing.runs import MemoryLogger
from hookloop_callbacks_monitoring import DeviceStatsMonitor

SIX = {
    "cpu_percent",
    "process_cpu_percent",
    "process_memory_mib",
    "memory_percent",
    "memory_available_mib",
    "load_1min",
}
HELD = 150
"""Mebibytes that a module allocates."""


class Holding(TinyModule):
    """Holds memory from the second training batch on."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            self.held = bytearray(b"x" * (HELD * 2**20))


class Measuring(Callback):
    """Notes what psutil says of this process at the end of each batch and each validation."""

    def __init__(self) -> None:
        self.resident: list[float] = []
        self.validated: list[float] = []

    def on_train_batch_end(self, *args: Any) -> None:
        self.resident.append(psutil.Process().memory_info().rss / 2**20)

    def on_validation_epoch_end(self, *args: Any) -> None:
        self.validated.append(psutil.Process().memory_info().rss / 2**20)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def made(*callbacks: Callback, **arguments: Any) -> Trainer:
        given = {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": False,
            "log_every_n_steps": 1,
            "registered_callbacks": False,
            "default_root_dir": tmp_path,
            "num_sanity_val_steps": 0,
        }
        return Trainer(callbacks=list(callbacks), **{**given, **arguments})

    return made


def names(metrics: Mapping[str, Any], prefix: str) -> set[str]:
    return {name.removeprefix(prefix) for name in metrics if name.startswith(prefix)}


def threads() -> list[str]:
    return [one.name for one in threading.enumerate() if one.name == "hookloop-device-stats"]


def test_six_values_with_units_in_their_names_are_in_callback_metrics_without_a_logger(trainer: Any) -> None:
    run = trainer(DeviceStatsMonitor())
    run.fit(TinyModule(), datamodule=TinyDataModule())
    assert names(run.callback_metrics, "device/") == SIX
    assert names(run.callback_metrics, "device_val/") == SIX
    assert all(torch.isfinite(value) for value in run.callback_metrics.values())


def test_loggers_get_the_six_at_their_interval_and_the_means_of_validations(trainer: Any) -> None:
    logger = MemoryLogger()
    run = trainer(DeviceStatsMonitor(), logger=logger, log_every_n_steps=3, max_epochs=2)
    run.fit(TinyModule(), datamodule=TinyDataModule(6))
    assert [step for step, row in logger.rows if names(row, "device/")] == [2, 5, 8, 11]
    assert [step for step, row in logger.rows if names(row, "device_val/")] == [5, 11]
    assert {name for _, row in logger.rows for name in names(row, "device/")} == SIX


def test_memory_that_training_allocates_is_in_the_values_of_its_steps(trainer: Any) -> None:
    logger, measuring = MemoryLogger(), Measuring()
    run = trainer(DeviceStatsMonitor(filter_keys=["process_memory_mib"], every_n_seconds=1000), measuring)
    run.loggers = [logger]
    run.fit(Holding(), datamodule=TinyDataModule())
    before, after = measuring.resident[0], measuring.resident[1]
    assert after - before == pytest.approx(HELD, abs=20)
    # One reading in a thousand seconds: training has the first step's, and the validation its own.
    logged = [row["device/process_memory_mib"] for _, row in logger.rows if "device/process_memory_mib" in row]
    assert logged == [pytest.approx(before, abs=20)] * 4
    assert len(set(logged)) == 1
    validated = [row["device_val/process_memory_mib"] for _, row in logger.rows if names(row, "device_val/")]
    assert validated == [pytest.approx(measuring.validated[0], abs=20)]
    assert validated[0] - before == pytest.approx(HELD, abs=30)


def test_the_full_set_is_read_on_request(trainer: Any) -> None:
    run = trainer(DeviceStatsMonitor(filter_keys="all"))
    run.fit(TinyModule(), datamodule=TinyDataModule())
    more = {"load_5min", "load_15min", "swap_percent", "processes", "threads"}
    if psutil.disk_io_counters() is not None:
        more |= {"disk_read_mib_per_s", "disk_write_mib_per_s"}
    if psutil.net_io_counters() is not None:
        more |= {"network_received_mib_per_s", "network_sent_mib_per_s"}
    assert names(run.callback_metrics, "device/") == SIX | more


def test_names_and_patterns_choose_what_is_read(trainer: Any) -> None:
    run = trainer(DeviceStatsMonitor(filter_keys=("load_*", "threads")))
    run.fit(TinyModule(), datamodule=TinyDataModule())
    assert names(run.callback_metrics, "device/") == {"load_1min", "load_5min", "load_15min", "threads"}


def test_a_test_logs_its_means(trainer: Any) -> None:
    (metrics,) = trainer(DeviceStatsMonitor()).test(TinyModule(), datamodule=TinyDataModule(), verbose=False)
    assert names(metrics, "device_test/") == SIX


def test_a_validation_alone_logs_its_means(trainer: Any) -> None:
    (metrics,) = trainer(DeviceStatsMonitor()).validate(TinyModule(), datamodule=TinyDataModule(), verbose=False)
    assert names(metrics, "device_val/") == SIX


def test_several_loaders_have_one_mean(trainer: Any) -> None:
    run = trainer(DeviceStatsMonitor())
    run.validate(TinyModule(), datamodule=TinyDataModule(loaders=2), verbose=False)
    assert names(run.callback_metrics, "device_val/") == SIX


def test_a_prediction_sends_its_means_to_loggers(trainer: Any) -> None:
    logger = MemoryLogger()
    trainer(DeviceStatsMonitor(), logger=logger).predict(TinyModule(), datamodule=TinyDataModule())
    assert [names(row, "device_predict/") for _, row in logger.rows] == [SIX]


def test_without_cpu_stats_nothing_is_read_on_the_cpu(trainer: Any) -> None:
    seen: list[str] = []

    class Looks(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            seen.extend(threads())

    run = trainer(DeviceStatsMonitor(cpu_stats=False), Looks())
    run.fit(TinyModule(), datamodule=TinyDataModule())
    assert not seen
    assert not [name for name in run.callback_metrics if name.startswith("device")]


def test_its_thread_ends_with_the_run_and_with_one_that_fails(trainer: Any) -> None:
    seen: list[int] = []

    class Fails(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            seen.append(len(threads()))
            raise KeyError("here")

    trainer(DeviceStatsMonitor()).fit(TinyModule(), datamodule=TinyDataModule())
    assert threads() == []
    with pytest.raises(KeyError):
        trainer(DeviceStatsMonitor(), Fails()).fit(TinyModule(), datamodule=TinyDataModule())
    assert seen == [1]
    assert threads() == []


def test_it_can_be_copied_and_pickled_in_the_middle_of_a_run(trainer: Any) -> None:
    copies: list[DeviceStatsMonitor] = []
    monitor = DeviceStatsMonitor(filter_keys=["load_1min"], every_n_seconds=5)

    class Copies(Callback):
        def on_train_batch_end(self, *args: Any) -> None:
            copies.extend((copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))))

    trainer(monitor, Copies()).fit(TinyModule(), datamodule=TinyDataModule(1))
    for one in copies:
        assert (one.cpu_stats, one.filter_keys, one.every_n_seconds) == (None, ("load_1min",), 5)
        run = trainer(one)
        run.fit(TinyModule(), datamodule=TinyDataModule(1))
        assert names(run.callback_metrics, "device/") == {"load_1min"}


def test_one_monitor_can_watch_several_runs(trainer: Any) -> None:
    monitor = DeviceStatsMonitor()
    for _ in range(2):
        run = trainer(monitor)
        run.fit(TinyModule(), datamodule=TinyDataModule(1))
        assert names(run.callback_metrics, "device/") == SIX


def test_a_reading_that_fails_does_not_end_training(trainer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise PermissionError("not in this container")

    monkeypatch.setattr(psutil, "virtual_memory", refuse)
    run = trainer(DeviceStatsMonitor())
    with pytest.warns(UserWarning, match=r"DeviceStatsMonitor reads no more: PermissionError: not in this container"):
        run.fit(TinyModule(), datamodule=TinyDataModule())
    assert run.global_step == 4
    assert not [name for name in run.callback_metrics if name.startswith("device")]


def test_on_cuda_the_six_are_the_devices_and_the_cpus_come_on_request() -> None:
    cuda = torch.device("cuda", 0)
    memory = {"gpu_memory_allocated_mib", "gpu_memory_reserved_mib", "gpu_memory_peak_mib"}
    if torch.cuda.is_available():
        pytest.skip("what the driver answers is not known")
    warning = r"leaves out gpu_utilization_percent, gpu_power_watt, gpu_temperature_celsius: .* nvidia-ml-py"
    with pytest.warns(UserWarning, match=warning):
        read = DeviceStatsMonitor()._reader(cuda)
    assert read is not None
    assert set(read()) == memory
    with pytest.warns(UserWarning, match=warning):
        read = DeviceStatsMonitor(cpu_stats=True)._reader(cuda)
    assert read is not None
    assert set(read()) == memory | SIX


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cpu_stats": 1}, r"DeviceStatsMonitor\(cpu_stats=1\) must be True, False or None"),
        ({"filter_keys": "load_1min"}, r"must be \"all\", or a list of names and patterns: \['load_1min'\]"),
        ({"filter_keys": []}, r"filter_keys=\[\]\) must be \"all\", or a list .* None is for the six"),
        ({"filter_keys": [1]}, r"filter_keys=\[1\]\) must be"),
        ({"filter_keys": 3}, r"filter_keys=3\) must be"),
        ({"every_n_seconds": 0}, r"every_n_seconds=0\) must be a number of seconds above 0"),
        ({"every_n_seconds": float("inf")}, r"every_n_seconds=inf\) must be"),
        ({"every_n_seconds": float("nan")}, r"every_n_seconds=nan\) must be"),
        ({"every_n_seconds": True}, r"every_n_seconds=True\) must be"),
        ({"every_n_seconds": "1s"}, r"every_n_seconds='1s'\) must be"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        DeviceStatsMonitor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"filter_keys": ["gpu_*", "cpu_percent"]},
            r"names 'gpu_\*', and on this device there are, with cpu_stats=None",
        ),
        ({"filter_keys": ["cpu_percent"], "cpu_stats": False}, r"names 'cpu_percent', .* cpu_stats=False: none"),
    ],
)
def test_a_name_that_nothing_has_here_is_refused_before_the_run(
    trainer: Any, arguments: dict[str, Any], message: str
) -> None:
    run = trainer(DeviceStatsMonitor(**arguments))
    with pytest.raises(MisconfigurationError, match=message):
        run.fit(TinyModule(), datamodule=TinyDataModule())
    assert run.global_step == 0
