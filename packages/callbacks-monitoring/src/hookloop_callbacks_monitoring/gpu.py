"""What a CUDA device is doing, read through torch; the CUDA part of `DeviceStatsMonitor`."""

from collections.abc import Callable

import torch

from hookloop_callbacks_monitoring.system import MIB

FROM_NVML = ("gpu_utilization_percent", "gpu_power_watt", "gpu_temperature_celsius")
"""What the driver's library tells: torch needs the package nvidia-ml-py for it."""

DEFAULT_CUDA = (
    "gpu_utilization_percent",
    "gpu_memory_allocated_mib",
    "gpu_memory_reserved_mib",
    "gpu_memory_peak_mib",
    "gpu_power_watt",
    "gpu_temperature_celsius",
)
"""The six that are read if nothing else is asked for."""

ALL_CUDA = (
    *DEFAULT_CUDA,
    "gpu_memory_reserved_peak_mib",
    "gpu_memory_free_mib",
    "gpu_memory_total_mib",
    "gpu_allocations_retried",
    "gpu_out_of_memory_errors",
)
"""All that can be read."""


class CudaReader:
    """Reads values of one CUDA device. None of them asks torch to wait for the device's work.

    Args:
        names: which of `ALL_CUDA`.
        device: the device.

    Attributes:
        missing: names that cannot be read here, because NVML or its Python package is not there.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        self._device = device
        self._read: dict[str, Callable[[], float]] = {}
        self.missing: list[str] = []
        readers = self._readers()
        for name in names:
            if name in FROM_NVML and not self._answers(readers[name]):
                self.missing.append(name)
            else:
                self._read[name] = readers[name]

    def read(self) -> dict[str, float]:
        """The values by name."""
        return {name: float(read()) for name, read in self._read.items()}

    def _readers(self) -> dict[str, Callable[[], float]]:
        device, cuda = self._device, torch.cuda
        return {
            "gpu_utilization_percent": lambda: cuda.utilization(device),
            "gpu_power_watt": lambda: cuda.power_draw(device) / 1000.0,
            "gpu_temperature_celsius": lambda: cuda.temperature(device),
            "gpu_memory_allocated_mib": lambda: cuda.memory_allocated(device) / MIB,
            "gpu_memory_reserved_mib": lambda: cuda.memory_reserved(device) / MIB,
            "gpu_memory_peak_mib": lambda: cuda.max_memory_allocated(device) / MIB,
            "gpu_memory_reserved_peak_mib": lambda: cuda.max_memory_reserved(device) / MIB,
            "gpu_memory_free_mib": lambda: cuda.mem_get_info(device)[0] / MIB,
            "gpu_memory_total_mib": lambda: cuda.mem_get_info(device)[1] / MIB,
            "gpu_allocations_retried": lambda: cuda.memory_stats(device).get("num_alloc_retries", 0),
            "gpu_out_of_memory_errors": lambda: cuda.memory_stats(device).get("num_ooms", 0),
        }

    @staticmethod
    def _answers(read: Callable[[], float]) -> bool:
        try:
            read()
        except Exception:  # noqa: BLE001 - no package, no driver, no permission, a device that does not tell
            return False
        return True
