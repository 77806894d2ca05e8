"""A budget for the memory of this process, which the CPU does not have: it swaps, or the process is killed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/statm")


class Budget:
    """How much memory a trial has taken at most.

    Attributes:
        exceeded: whether it was more than it might take.
    """

    def __init__(self) -> None:
        self.exceeded = False


@contextmanager
def memory_budget(limit: int | None) -> Iterator[Budget]:
    """Watch how much more memory this process takes inside than before, every few milliseconds.

    Args:
        limit: bytes; None watches nothing.
    """
    budget = Budget()
    if limit is None:
        yield budget
        return
    before, over = resident_memory(), threading.Event()

    def watch() -> None:
        while True:
            if resident_memory() - before > limit:
                budget.exceeded = True
                return
            if over.wait(0.002):
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield budget
    finally:
        over.set()
        watching.join()


def resident_memory() -> int:
    """Bytes of memory that this process has, without what is swapped out."""
    return int(_STATUS.read_text().split()[1]) * _PAGE


def can_watch() -> bool:
    """Whether this platform tells; Linux does."""
    return _STATUS.exists()


def _page_size() -> int:
    import resource

    return resource.getpagesize()


_PAGE = _page_size() if can_watch() else 1
