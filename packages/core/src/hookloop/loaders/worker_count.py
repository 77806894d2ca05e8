"""How many worker processes a DataLoader may well have on this machine."""

import os

from hookloop.errors import MisconfigurationError


def suggested_max_num_workers(local_world_size: int) -> int:
    """An upper bound for a DataLoader's num_workers: this process's share of the cores, less one for itself.

    Args:
        local_world_size: processes on this machine that train, 1 or more.

    Returns:
        At least 1.

    Raises:
        MisconfigurationError: it is no whole number of at least 1.
    """
    if isinstance(local_world_size, bool) or not isinstance(local_world_size, int) or local_world_size < 1:
        raise MisconfigurationError(
            f"suggested_max_num_workers({local_world_size!r}): pass the number of training processes on this machine, "
            "1 or more."
        )
    # The cores that this process may use, where the system tells; a container often has fewer than its machine.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // local_world_size - 1)
