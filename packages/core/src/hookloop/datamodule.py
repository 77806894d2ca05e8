"""`LightningDataModule`: the data of an experiment, from download to dataloaders, in one object."""

from typing import Any

from hookloop.batches import move_data_to_device


class LightningDataModule:
    """Where the loaders come from when they are not passed to the Trainer.

    Define the `*_dataloader` methods that the entry points need; everything else is optional. The trainer calls
    `prepare_data`, then `setup(stage)` before any callback's setup, then the loaders when they are first needed, and
    `teardown(stage)` whatever happens.
    """

    trainer: Any = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy or a pickle belongs to no trainer, and must not drag one along.
        return {name: value for name, value in self.__dict__.items() if name != "trainer"}

    def prepare_data(self) -> None:
        """Download and preprocess; called by one process alone. Do not set state here."""

    def setup(self, stage: str) -> None:
        """Build the datasets. `stage` is "fit", "validate", "test" or "predict"."""

    def teardown(self, stage: str) -> None:
        """Undo `setup`. Runs after an error too, if setup had completed."""

    def train_dataloader(self) -> Any:
        """The loader, or any iterable of batches, for training."""
        return None

    def val_dataloader(self) -> Any:
        """One loader, or a list of them, for validation."""
        return None

    def test_dataloader(self) -> Any:
        """One loader, or a list of them, for testing."""
        return None

    def predict_dataloader(self) -> Any:
        """One loader, or a list of them, for prediction."""
        return None

    def on_exception(self, exception: BaseException) -> None:
        """Called once, with the first exception of a run."""

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it is moved to the device; returns the batch."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
        """Move a batch to `device`; override it for batches that hookloop cannot walk through."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch that is on the device already; returns the batch."""
        return batch

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this object."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
