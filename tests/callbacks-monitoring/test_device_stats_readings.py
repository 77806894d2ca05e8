"""What `DeviceStatsMonitor` reads is what happens: known allocations, work and traffic, and the system's files."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import torch

from hookloop_callbacks_monitoring.gpu import ALL_CUDA, DEFAULT_CUDA, FROM_NVML, CudaReader
from hookloop_callbacks_monitoring.sampler import Sampler
from hookloop_callbacks_monitoring.system import ALL_CPU, DEFAULT_CPU, SystemReader

MIB = 2**20

WORKER = "import sys; held = bytearray(b'x' * (100 * 2**20)); print('held', flush=True); sys.stdin.read()"
"""A process that holds 100 MiB until its input is closed."""


def work(seconds: float) -> None:
    """Use one core for so many seconds of its time."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def test_memory_that_this_process_allocates_is_seen() -> None:
    reader = SystemReader(("process_memory_mib",))
    before = reader.read()["process_memory_mib"]
    held = bytearray(b"x" * (200 * MIB))
    during = reader.read()["process_memory_mib"]
    assert during - before == pytest.approx(len(held) / MIB, abs=10)
    assert during == pytest.approx(psutil.Process().memory_info().rss / MIB, abs=10)
    del held
    assert reader.read()["process_memory_mib"] - before == pytest.approx(0, abs=10)


def test_memory_and_work_of_a_worker_are_seen_as_long_as_it_lives() -> None:
    reader = SystemReader(("process_memory_mib", "processes", "threads", "process_cpu_percent"))
    before = reader.read()
    start = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        worker.stdout.readline()
        work(0.2)
        during, seconds = reader.read(), time.monotonic() - start
        spent = sum(psutil.Process(worker.pid).cpu_times()[:2])
        alone = psutil.Process(worker.pid).memory_info().rss / MIB
    after = reader.read()
    assert alone > 100
    assert during["process_memory_mib"] - before["process_memory_mib"] == pytest.approx(alone, abs=10)
    assert during["processes"] - before["processes"] == 1
    assert during["threads"] - before["threads"] == 1
    assert during["process_cpu_percent"] >= 100 * (0.15 + spent) / seconds
    assert after["processes"] == before["processes"]
    assert after["process_memory_mib"] == pytest.approx(before["process_memory_mib"], abs=10)


def test_work_of_this_process_is_a_percentage_of_one_core() -> None:
    reader = SystemReader(("process_cpu_percent",))
    start, spent = time.monotonic(), sum(os.times()[:2])
    work(0.5)
    percent = reader.read()["process_cpu_percent"]
    expected = 100 * (sum(os.times()[:2]) - spent) / (time.monotonic() - start)
    assert percent == pytest.approx(expected, abs=8)


def busy_and_all() -> tuple[int, int]:
    """Ticks of all cores, of which Linux counts user, nice, system, idle, iowait, irq, softirq and steal."""
    ticks = [int(one) for one in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="Linux tells it there")
def test_work_of_the_machine_is_a_percentage_of_all_cores() -> None:
    before = busy_and_all()
    reader = SystemReader(("cpu_percent",))
    work(0.5)
    percent = reader.read()["cpu_percent"]
    busy, total = (after - earlier for earlier, after in zip(before, busy_and_all(), strict=True))
    assert percent == pytest.approx(100 * busy / total, abs=8)


def test_memory_load_and_swap_of_the_machine_are_the_systems() -> None:
    values = SystemReader(ALL_CPU).read()
    loads = os.getloadavg()
    assert [values["load_1min"], values["load_5min"], values["load_15min"]] == pytest.approx(loads, abs=0.3)
    sizes = {line.split(":")[0]: int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines()}
    available, total = sizes["MemAvailable"], sizes["MemTotal"]
    assert values["memory_available_mib"] == pytest.approx(available / 1024, rel=0.1)
    assert values["memory_percent"] == pytest.approx(100 * (1 - available / total), abs=5)
    swapped = sizes["SwapTotal"] - sizes["SwapFree"]
    assert values["swap_percent"] == pytest.approx(100 * swapped / max(1, sizes["SwapTotal"]), abs=5)


def test_bytes_that_are_sent_are_a_rate_in_mebibytes() -> None:
    before = psutil.net_io_counters()
    reader = SystemReader(("network_received_mib_per_s", "network_sent_mib_per_s"))
    start = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()
        with receiver:
            for _ in range(64):
                sender.sendall(bytes(64 * 1024))
                left = 64 * 1024
                while left:
                    left -= len(receiver.recv(left))
    after = psutil.net_io_counters()
    if after.bytes_sent - before.bytes_sent < 4 * MIB:
        pytest.skip("this system does not count what it sends to itself")
    work(0.1)
    values = reader.read()
    seconds = time.monotonic() - start
    assert values["network_sent_mib_per_s"] * seconds == pytest.approx(4, rel=0.25)
    assert values["network_received_mib_per_s"] * seconds == pytest.approx(4, rel=0.25)


def test_bytes_of_disks_are_a_rate_in_mebibytes(monkeypatch: pytest.MonkeyPatch) -> None:
    # What a disk counts depends on its cache; so it is told here.
    real = psutil.disk_io_counters()
    if real is None:
        pytest.skip("this system does not count what disks do")
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: real)
    reader = SystemReader(("disk_read_mib_per_s", "disk_write_mib_per_s"))
    start = time.monotonic()
    work(0.2)
    later = real._replace(read_bytes=real.read_bytes + 6 * MIB, write_bytes=real.write_bytes + 3 * MIB)
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: later)
    values = reader.read()
    seconds = time.monotonic() - start
    assert values["disk_read_mib_per_s"] == pytest.approx(6 / seconds, rel=0.1)
    assert values["disk_write_mib_per_s"] == pytest.approx(3 / seconds, rel=0.1)


def test_what_a_system_does_not_have_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda: None)
    values = SystemReader(("disk_read_mib_per_s", "load_1min")).read()
    assert list(values) == ["load_1min"]


def test_a_rate_is_none_over_a_moment() -> None:
    reader = SystemReader(("process_cpu_percent",))
    work(0.2)
    first = reader.read()
    assert reader.read() == first, "a hundredth of a second of work, in a moment, would be thousands of percent"


def test_only_what_is_asked_for_is_read() -> None:
    assert set(SystemReader(DEFAULT_CPU).read()) == set(DEFAULT_CPU)
    assert list(SystemReader(("swap_percent",)).read()) == ["swap_percent"]


def test_the_mean_of_each_value_is_over_the_readings_that_have_it() -> None:
    readings = iter([{"a": 100.0}, {"a": 1.0, "b": 10.0}, {"a": 3.0}, {"b": 30.0}])
    sampler = Sampler(lambda: next(readings), 1000)
    sampler.sample()
    sampler.begin()
    for _ in range(3):
        sampler.sample()
    assert sampler.mean() == {"a": 2.0, "b": 20.0}
    assert sampler.latest() == {"b": 30.0}


def test_a_stage_without_a_reading_is_read_at_its_end() -> None:
    readings = iter([{"a": 1.0}, {"a": 2.0}])
    sampler = Sampler(lambda: next(readings), 1000)
    assert sampler.latest() == {"a": 1.0}
    sampler.begin()
    assert sampler.mean() == {"a": 2.0}


def test_the_newest_values_are_read_once_however_often_they_are_asked_for() -> None:
    readings = iter([{"a": 1.0}])
    sampler = Sampler(lambda: next(readings), 1000)
    assert [sampler.latest() for _ in range(50)] == [{"a": 1.0}] * 50


def test_readings_come_from_a_thread_of_its_own_until_it_is_stopped() -> None:
    threads: list[threading.Thread] = []
    third = threading.Event()

    def read() -> dict[str, float]:
        threads.append(threading.current_thread())
        if len(threads) == 3:
            third.set()
        return {"n": len(threads)}

    sampler = Sampler(read, 0.001)
    sampler.start()
    assert third.wait(30)
    sampler.stop()
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()
    assert not threads[0].is_alive()


def test_a_reading_that_fails_is_the_last_one_and_says_so_once() -> None:
    def read() -> dict[str, float]:
        raise OSError("the driver is gone")

    sampler = Sampler(read, 1000)
    with pytest.warns(UserWarning, match=r"DeviceStatsMonitor reads no more: OSError: the driver is gone") as warned:
        values = [sampler.latest(), sampler.latest(), sampler.mean()]
    assert values == [{}, {}, {}]
    assert len(warned) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a driver that may answer")
def test_what_no_driver_answers_is_missing_and_the_rest_is_read() -> None:
    reader = CudaReader(DEFAULT_CUDA, torch.device("cuda", 0))
    assert reader.missing == list(FROM_NVML)
    assert reader.read() == {
        "gpu_memory_allocated_mib": 0.0,
        "gpu_memory_reserved_mib": 0.0,
        "gpu_memory_peak_mib": 0.0,
    }


def test_cuda_values_are_torchs_in_the_units_of_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "utilization": 35,  # percent
        "power_draw": 61500,  # milliwatts
        "temperature": 44,  # degrees Celsius
        "memory_allocated": 3 * MIB,
        "memory_reserved": 4 * MIB,
        "max_memory_allocated": 5 * MIB,
        "max_memory_reserved": 6 * MIB,
        "mem_get_info": (7 * MIB, 8 * MIB),
        "memory_stats": {"num_alloc_retries": 9, "num_ooms": 10},
    }
    for name, value in told.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    reader = CudaReader(ALL_CUDA, torch.device("cuda", 0))
    assert reader.missing == []
    assert reader.read() == {
        "gpu_utilization_percent": 35.0,
        "gpu_power_watt": 61.5,
        "gpu_temperature_celsius": 44.0,
        "gpu_memory_allocated_mib": 3.0,
        "gpu_memory_reserved_mib": 4.0,
        "gpu_memory_peak_mib": 5.0,
        "gpu_memory_reserved_peak_mib": 6.0,
        "gpu_memory_free_mib": 7.0,
        "gpu_memory_total_mib": 8.0,
        "gpu_allocations_retried": 9.0,
        "gpu_out_of_memory_errors": 10.0,
    }


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_that_is_allocated_on_a_real_cuda_device_is_seen() -> None:
    device = torch.device("cuda", 0)
    reader = CudaReader(("gpu_memory_allocated_mib", "gpu_memory_peak_mib"), device)
    before = reader.read()["gpu_memory_allocated_mib"]
    held = torch.empty(64 * MIB, dtype=torch.uint8, device=device)
    assert reader.read()["gpu_memory_allocated_mib"] - before == 64
    del held
    values = reader.read()
    assert values["gpu_memory_allocated_mib"] == before
    assert values["gpu_memory_peak_mib"] >= before + 64
