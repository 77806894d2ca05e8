"""`Sampler`: reads values in a thread of its own, every so many seconds, so that no training step waits for it."""

import threading
import warnings
from collections.abc import Callable


class Sampler:
    """Reads values from `start` on until `stop`. A reading that fails is the last one, and a warning says so.

    Args:
        read: gives the values by name; called by one thread at a time.
        every: seconds between two readings.
    """

    def __init__(self, read: Callable[[], dict[str, float]], every: float) -> None:
        self._read = read
        self._every = every
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="hookloop-device-stats", daemon=True)
        self._latest: dict[str, float] = {}
        self._readings: dict[str, tuple[float, int]] = {}

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        self._done.set()
        self._thread.join()

    def latest(self) -> dict[str, float]:
        """The newest values; read now if there are none yet."""
        if not self._latest:
            self.sample()
        return self._latest

    def begin(self) -> None:
        """A stage begins, of which `mean` will be asked."""
        with self._lock:
            self._readings = {}

    def mean(self) -> dict[str, float]:
        """The mean of each value over its readings since `begin`; read now if there was none."""
        if not self._readings:
            self.sample()
        with self._lock:
            return {name: total / count for name, (total, count) in self._readings.items()}

    def sample(self) -> None:
        """Read now."""
        with self._lock:
            if self._done.is_set():
                return
            try:
                self._latest = self._read()
            except Exception as error:  # noqa: BLE001 - what only watches a run must not end it
                self._done.set()
                self._latest = {}
                warnings.warn(f"DeviceStatsMonitor reads no more: {type(error).__name__}: {error}", stacklevel=1)
                return
            for name, value in self._latest.items():
                total, count = self._readings.get(name, (0.0, 0))
                self._readings[name] = (total + value, count + 1)

    def _work(self) -> None:
        while not self._done.wait(self._every):
            self.sample()
