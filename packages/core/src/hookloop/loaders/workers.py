"""The worker processes of DataLoaders."""

import copy
import weakref
from contextlib import suppress
from typing import Any

import torch
from torch._C import _remove_worker_pids
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter


def shut_down(owner: Any) -> None:
    """End the workers of a DataLoader, or of an iterator of one; nothing else has any.

    A DataLoader with persistent workers starts new ones when it is used again.
    """
    if isinstance(owner, _MultiProcessingDataLoaderIter):
        _end(owner)
        return
    # vars: an object that answers to every name is not to be asked.
    kept = getattr(owner, "__dict__", {}).get("_iterator")
    if isinstance(kept, _MultiProcessingDataLoaderIter):
        _end(kept)
        owner._iterator = None


def _end(iterator: _MultiProcessingDataLoaderIter) -> None:
    if iterator._shutdown:
        return
    if not any(worker.exitcode for worker in iterator._workers):
        with suppress(RuntimeError):  # one is killed meanwhile: torch ends the others and lets us know
            iterator._shutdown_workers()
        return
    # A worker that was killed may have died with a lock that torch would wait for, such as that of the event by which
    # it asks the others to end. So nobody is asked.
    iterator._shutdown = True
    if iterator._worker_pids_set:
        _remove_worker_pids(id(iterator))
        iterator._worker_pids_set = False
    for worker in iterator._workers:
        worker.kill()
    if hasattr(iterator, "_pin_memory_thread"):
        iterator._pin_memory_thread_done_event.set()
        iterator._worker_result_queue.cancel_join_thread()
    for worker in iterator._workers:
        worker.join()
    for queue in iterator._index_queues:
        queue.cancel_join_thread()
        queue.close()


class PersistentWorkers:
    """The persistent workers of a DataLoader, which several processes start one after another: runs that are resumed.

    torch draws a seed when it starts workers, and none in the epochs in which they are there already. A resumed run has
    to start them in an epoch in which the run that never stopped has them. So what starts them draws from a copy of
    the generator then.

    Args:
        loader: a copy that nobody else goes through; its way to start workers is replaced.
        started: whether the run has drawn that seed.

    Attributes:
        started: whether it has, in this process or in one before.
    """

    def __init__(self, loader: DataLoader[Any], started: bool = False) -> None:
        self.started = started
        self._loader = weakref.ref(loader)  # so that workers end with their loader
        vars(loader)["_get_iterator"] = self._start

    def _start(self) -> Any:
        loader = self._loader()
        assert loader is not None
        start, generator = type(loader)._get_iterator, loader.generator
        if not self.started:
            self.started = True
            return start(loader)
        loader.generator = torch.Generator().set_state((generator or torch.default_generator).get_state())
        try:
            return start(loader)
        finally:
            loader.generator = generator


def with_own_workers(loader: DataLoader[Any]) -> DataLoader[Any]:
    """A copy that gives the same batches by workers of its own."""
    twin = copy.copy(loader)
    vars(twin)["_iterator"] = None
    return twin
