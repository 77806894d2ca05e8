"""`WriteInterval`: when a writer writes."""

from enum import Enum


class WriteInterval(str, Enum):  # noqa: UP042 - "batch" == WriteInterval.BATCH, as Lightning's users compare it
    """After each batch, when all batches are done, or both."""

    BATCH = "batch"
    EPOCH = "epoch"
    BATCH_AND_EPOCH = "batch_and_epoch"

    @property
    def on_batch(self) -> bool:
        """Whether each batch is written."""
        return self is not WriteInterval.EPOCH

    @property
    def on_epoch(self) -> bool:
        """Whether all of them are written at the end."""
        return self is not WriteInterval.BATCH
