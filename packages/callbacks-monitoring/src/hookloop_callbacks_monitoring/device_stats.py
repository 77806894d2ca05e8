"""`DeviceStatsMonitor`: logs how busy the device is, how much memory is used, and by whom."""

import math
import warnings
from collections.abc import Callable, Collection
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

if TYPE_CHECKING:
    from hookloop_callbacks_monitoring.sampler import Sampler


class DeviceStatsMonitor(Callback):
    """Logs statistics of the device, of this process and of its workers: six of them, each with its unit in its name.

    On the CPU: `cpu_percent` (of the machine), `process_cpu_percent` (of this process and its workers; 100 is one
    core), `process_memory_mib` (resident, this process and its workers; what they share counts in each),
    `memory_percent` and `memory_available_mib` (of the machine), `load_1min`.

    On CUDA: `gpu_utilization_percent`, `gpu_memory_allocated_mib`, `gpu_memory_reserved_mib`, `gpu_memory_peak_mib`,
    `gpu_power_watt`, `gpu_temperature_celsius`. The first and the last two need NVML and the package nvidia-ml-py;
    without them they are left out, and a warning says so.

    They are read in a thread of their own, every `every_n_seconds`. In training, the newest ones are logged in each
    step that loggers hear of, as `device/cpu_percent` and so on; in validation and test their means over the stage, as
    `device_val/...` and `device_test/...`. They go where `self.log` goes: to the loggers if there are any, and to
    `trainer.callback_metrics`. In prediction, where nothing can be logged, the means are sent to the loggers when it
    ends, as `device_predict/...`. With several processes each reads its own, and loggers get the first one's.

    Args:
        cpu_stats: whether the CPU's are read. Default None: if it is the device. True: beside those of the device.
            False: never.
        filter_keys: which are read. Default None: the six. "all": all that there are. Or names and patterns:
            `["gpu_*", "disk_read_mib_per_s"]`.
        every_n_seconds: seconds between two readings.

    Raises:
        MisconfigurationError: an argument that is not among those described here; or, when a run begins, a name that
            nothing has on its device.
    """

    # After everybody else in the same hook: what they use is part of what is read.
    order: ClassVar[Order] = Order.MONITOR

    def __init__(
        self,
        cpu_stats: bool | None = None,
        filter_keys: Collection[str] | str | None = None,
        *,
        every_n_seconds: float = 1.0,
    ) -> None:
        if not (cpu_stats is None or isinstance(cpu_stats, bool)):
            raise MisconfigurationError(f"DeviceStatsMonitor(cpu_stats={cpu_stats!r}) must be True, False or None.")
        if isinstance(filter_keys, str) and filter_keys != "all":
            raise MisconfigurationError(
                f'DeviceStatsMonitor(filter_keys={filter_keys!r}) must be "all", or a list of names and patterns: '
                f"[{filter_keys!r}]."
            )
        if not (filter_keys is None or (isinstance(filter_keys, Collection) and _are_names(filter_keys))):
            raise MisconfigurationError(
                f'DeviceStatsMonitor(filter_keys={filter_keys!r}) must be "all", or a list of names and patterns. None '
                "is for the six of the default."
            )
        number = isinstance(every_n_seconds, int | float) and not isinstance(every_n_seconds, bool)
        if not number or not 0 < every_n_seconds < math.inf:
            raise MisconfigurationError(
                f"DeviceStatsMonitor(every_n_seconds={every_n_seconds!r}) must be a number of seconds above 0."
            )
        self.cpu_stats = cpu_stats
        self.filter_keys = filter_keys if filter_keys is None or isinstance(filter_keys, str) else tuple(filter_keys)
        self.every_n_seconds = every_n_seconds
        self._sampler: Sampler | None = None

    def __getstate__(self) -> object:
        state = super().__getstate__()
        return {**state, "_sampler": None} if isinstance(state, dict) else state

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Begin to read."""
        from hookloop_callbacks_monitoring.sampler import Sampler

        read = self._reader(trainer.device)
        if read is not None:
            self._sampler = Sampler(read, self.every_n_seconds)
            self._sampler.start()

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Read no more."""
        if self._sampler is not None:
            self._sampler.stop()
            self._sampler = None

    def _reader(self, device: torch.device) -> Callable[[], dict[str, float]] | None:
        """What reads the values by name; None where there are none."""
        # Not before a run: they import psutil.
        from hookloop_callbacks_monitoring.gpu import ALL_CUDA, DEFAULT_CUDA, CudaReader
        from hookloop_callbacks_monitoring.system import ALL_CPU, DEFAULT_CPU, SystemReader

        on_cuda = device.type == "cuda"
        with_cpu = device.type == "cpu" if self.cpu_stats is None else self.cpu_stats
        names = self._chosen(
            there=(*(ALL_CUDA if on_cuda else ()), *(ALL_CPU if with_cpu else ())),
            default=(*(DEFAULT_CUDA if on_cuda else ()), *(DEFAULT_CPU if with_cpu else ())),
        )
        readers: list[SystemReader | CudaReader] = []
        if cpu := tuple(name for name in names if name in ALL_CPU):
            readers.append(SystemReader(cpu))
        if cuda := tuple(name for name in names if name in ALL_CUDA):
            reader = CudaReader(cuda, device)
            readers.append(reader)
            if reader.missing:
                warnings.warn(
                    f"DeviceStatsMonitor leaves out {', '.join(reader.missing)}: torch cannot ask the driver for them. "
                    "Run `pip install nvidia-ml-py` if it is not there.",
                    stacklevel=3,
                )
        if not readers:
            return None
        return lambda: {name: value for reader in readers for name, value in reader.read().items()}

    def _chosen(self, there: tuple[str, ...], default: tuple[str, ...]) -> tuple[str, ...]:
        if self.filter_keys is None:
            return default
        if self.filter_keys == "all":
            return there
        unknown = [one for one in self.filter_keys if not any(fnmatchcase(name, one) for name in there)]
        if unknown:
            raise MisconfigurationError(
                f"DeviceStatsMonitor(filter_keys=...) names {', '.join(map(repr, unknown))}, and on this device there "
                f"are, with cpu_stats={self.cpu_stats}: {', '.join(there) or 'none'}."
            )
        return tuple(name for name in there if any(fnmatchcase(name, one) for one in self.filter_keys))

    def on_train_batch_end(
        self, trainer: TrainerView, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the newest values, in the steps that loggers get."""
        if trainer.should_update_logs and self._sampler is not None:
            for name, value in self._sampler.latest().items():
                self.log(f"device/{name}", value, batch_size=1)

    def on_validation_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The validation's mean begins."""
        self._begin()

    def on_validation_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Log the means over the validation."""
        self._log_means("device_val")

    def on_test_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The test's mean begins."""
        self._begin()

    def on_test_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Log the means over the test."""
        self._log_means("device_test")

    def on_predict_epoch_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """The prediction's mean begins."""
        self._begin()

    def on_predict_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Send the means over the prediction to the loggers."""
        if self._sampler is None or not trainer.is_global_zero:
            return
        means = {f"device_predict/{name}": value for name, value in self._sampler.mean().items()}
        for logger in trainer.loggers:
            logger.log_metrics(means, step=trainer.global_step)

    def _begin(self) -> None:
        if self._sampler is not None:
            self._sampler.begin()

    def _log_means(self, prefix: str) -> None:
        if self._sampler is not None:
            for name, value in self._sampler.mean().items():
                self.log(f"{prefix}/{name}", value, batch_size=1, add_dataloader_idx=False)


def _are_names(keys: Collection[Any]) -> bool:
    return len(keys) > 0 and all(isinstance(key, str) for key in keys)
