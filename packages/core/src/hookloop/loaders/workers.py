"""The worker processes of DataLoaders."""

from typing import Any

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter


def shut_down(owner: Any) -> None:
    """End the workers of a DataLoader, or of an iterator of one; nothing else has any.

    A DataLoader with persistent workers starts new ones when it is used again.
    """
    if isinstance(owner, _MultiProcessingDataLoaderIter):
        owner._shutdown_workers()
        return
    # vars: an object that answers to every name is not to be asked.
    kept = getattr(owner, "__dict__", {}).get("_iterator")
    if isinstance(kept, _MultiProcessingDataLoaderIter):
        kept._shutdown_workers()
        owner._iterator = None
