"""What a figure was measured on, so that it can be compared with another one, or left alone."""

import importlib.metadata
import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """Where and with what a benchmark ran.

    Attributes:
        processor: the processor's name.
        cores: how many of its cores this process may use.
        load: how many processes wanted to run, on average over the last minute, when the benchmark began.
        python: Python's version.
        versions: of what was measured, by distribution; what is not installed is left out.
    """

    processor: str
    cores: int
    load: float
    python: str
    versions: dict[str, str]

    @classmethod
    def here(cls, *distributions: str) -> "Machine":
        """This machine, with the versions of these distributions."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        versions = {name: version for name in distributions if (version := _version(name)) is not None}
        return cls(_processor(), cores, round(os.getloadavg()[0], 2), platform.python_version(), versions)

    def __str__(self) -> str:
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return (
            f"{self.processor}, {self.cores} core{'s' * (self.cores != 1)}, load {self.load}\n"
            f"Python {self.python}, {versions}"
        )

    def as_dict(self) -> dict[str, object]:
        """The same for a JSON file."""
        return {**asdict(self), "platform": sys.platform}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
