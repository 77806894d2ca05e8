"""What the machine, this process and its workers use, read through psutil; the CPU's part of `DeviceStatsMonitor`."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MIB = 2.0**20
"""Bytes of a mebibyte."""

SHORTEST = 0.1
"""Seconds that a rate is one over, at least: the system counts in hundredths."""

DEFAULT_CPU = (
    "cpu_percent",
    "process_cpu_percent",
    "process_memory_mib",
    "memory_percent",
    "memory_available_mib",
    "load_1min",
)
"""The six that are read if nothing else is asked for."""

ALL_CPU = (
    *DEFAULT_CPU,
    "load_5min",
    "load_15min",
    "swap_percent",
    "processes",
    "threads",
    "disk_read_mib_per_s",
    "disk_write_mib_per_s",
    "network_received_mib_per_s",
    "network_sent_mib_per_s",
)
"""All that can be read."""


@dataclass(frozen=True)
class _Totals:
    """What has been used up to a moment.

    Attributes:
        at: the moment, in seconds.
        machine: seconds of all cores: those that they worked, and all.
        own: seconds of work of this process and of each worker, by process id.
        moved: bytes by the name of the rate.
    """

    at: float
    machine: tuple[float, float]
    own: dict[int, float]
    moved: dict[str, int]


class SystemReader:
    """Reads values of this machine.

    What is a rate is one since the last reading; if that was just now, it is the one that was read then.

    Args:
        names: which of `ALL_CPU`; what belongs to others is not read.
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = set(names)
        self._rates: dict[str, float] = {}
        self._before = self._totals(self._own()[1])

    def read(self) -> dict[str, float]:
        """The values by name. One that this system does not have is left out."""
        values: dict[str, float] = {}
        if self._wants("memory_percent", "memory_available_mib"):
            memory = psutil.virtual_memory()
            values |= {"memory_percent": memory.percent, "memory_available_mib": memory.available / MIB}
        if self._wants("swap_percent"):
            values["swap_percent"] = psutil.swap_memory().percent
        if self._wants("load_1min", "load_5min", "load_15min"):
            values |= dict(zip(("load_1min", "load_5min", "load_15min"), psutil.getloadavg(), strict=True))
        levels, spent = self._own()
        now = self._totals(spent)
        if not self._rates or now.at - self._before.at >= SHORTEST:
            self._rates, self._before = _rates(self._before, now), now
        values |= levels | self._rates
        return {name: float(value) for name, value in values.items() if name in self._names}

    def _wants(self, *names: str) -> bool:
        return not self._names.isdisjoint(names)

    def _own(self) -> tuple[dict[str, float], dict[int, float]]:
        """Levels of this process and its workers, added up, and the seconds of work of each."""
        if not self._wants("process_cpu_percent", "process_memory_mib", "processes", "threads"):
            return {}, {}
        resident, threads, spent = 0, 0, {}
        for pid in (os.getpid(), *_children()):
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times, memory, count = process.cpu_times(), process.memory_info().rss, process.num_threads()
            except psutil.Error:
                continue  # it has ended meanwhile
            spent[pid] = times.user + times.system
            resident, threads = resident + memory, threads + count
        return {"process_memory_mib": resident / MIB, "processes": len(spent), "threads": threads}, spent

    def _totals(self, own: dict[int, float]) -> _Totals:
        moved: dict[str, int] = {}
        if self._wants("disk_read_mib_per_s", "disk_write_mib_per_s") and (disk := psutil.disk_io_counters()):
            moved |= {"disk_read_mib_per_s": disk.read_bytes, "disk_write_mib_per_s": disk.write_bytes}
        if self._wants("network_received_mib_per_s", "network_sent_mib_per_s") and (net := psutil.net_io_counters()):
            moved |= {"network_received_mib_per_s": net.bytes_recv, "network_sent_mib_per_s": net.bytes_sent}
        # Not psutil.cpu_percent: that is one since the last call in the same thread, whoever made it.
        machine = _machine() if self._wants("cpu_percent") else (0.0, 0.0)
        return _Totals(time.monotonic(), machine, own, moved)


def _rates(before: _Totals, now: _Totals) -> dict[str, float]:
    seconds = max(now.at - before.at, 1e-9)
    busy, total = (after - earlier for earlier, after in zip(before.machine, now.machine, strict=True))
    # A worker that was not there before has done all its work since.
    own = sum(max(0.0, spent - before.own.get(pid, 0.0)) for pid, spent in now.own.items())
    return {
        "cpu_percent": min(100.0, max(0.0, 100.0 * busy / total)) if total > 0 else 0.0,
        "process_cpu_percent": 100.0 * own / seconds,
        **{name: max(0, total - before.moved.get(name, total)) / MIB / seconds for name, total in now.moved.items()},
    }


def _machine() -> tuple[float, float]:
    times = psutil.cpu_times()
    # Linux counts a guest's time in user and nice too.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - times.idle - getattr(times, "iowait", 0.0), total


def _children() -> list[int]:
    """The processes that this one has started: workers of loaders, mostly.

    Linux tells them by thread; psutil looks through every process of the machine.
    """
    try:
        lists = [(task / "children").read_text() for task in Path("/proc/self/task").iterdir()]
    except OSError:  # another system, or a thread that has ended meanwhile
        return [child.pid for child in psutil.Process().children()]
    return [int(pid) for pids in lists for pid in pids.split()]
