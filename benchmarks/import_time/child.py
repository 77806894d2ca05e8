"""What runs in a fresh process: import torch, then what is measured, and print what that took as JSON."""

import json
import resource
import sys
import time


def import_and_measure(names: list[str]) -> dict[str, float]:
    """Import these modules, and say what it took.

    Returns:
        "milliseconds" of CPU time, "modules", and "megabytes" by which the process's largest size grew.
    """
    modules, size, begin = len(sys.modules), _megabytes(), time.process_time()
    for name in names:
        __import__(name)
    end = time.process_time()
    return {
        "milliseconds": (end - begin) * 1e3,
        "modules": len(sys.modules) - modules,
        "megabytes": _megabytes() - size,
    }


def _megabytes() -> float:
    # Kilobytes, but for macOS, which says bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    import torch  # noqa: F401 - what everybody who measures an import here has anyway

    print(json.dumps(import_and_measure(sys.argv[1:])))
