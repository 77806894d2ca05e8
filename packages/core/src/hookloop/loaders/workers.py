"""The worker processes of DataLoaders."""

from contextlib import suppress
from typing import Any

from torch._C import _remove_worker_pids
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
