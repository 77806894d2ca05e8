"""The hooks of a module: the documented no-ops that a LightningModule may override."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hookloop.batches import move_data_to_device


class ModuleHooks(nn.Module):
    """What a module may override to be called at a moment of a run; how it is optimized stands in LightningModule.

    Hooks of the same name as a callback's run in the middle: after the callbacks of Order FIRST and NORMAL, before
    those of MONITOR and LAST.
    """

    # hooks that callbacks have too, but for configure_model; see hookloop.callback.Hooks for when they run

    def setup(self, stage: str) -> None:
        """Prepare for an entry point: "fit", "validate", "test" or "predict"."""

    def teardown(self, stage: str) -> None:
        """Undo `setup`."""

    def configure_model(self) -> None:
        """Build layers that are too large to build before the run is set up.

        Called once by each entry point after `setup`, and by load_from_checkpoint before the weights are loaded: build
        only what is not there yet.
        """

    def on_fit_start(self) -> None:
        """Optimizers exist, their state is not restored yet."""

    def on_fit_end(self) -> None:
        """Training ended without an error."""

    def on_train_start(self) -> None:
        """The first epoch is next."""

    def on_train_end(self) -> None:
        """The last epoch is over."""

    def on_train_epoch_start(self) -> None:
        """A training epoch begins."""

    def on_train_epoch_end(self) -> None:
        """A training epoch ended, its validation included."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """Return -1 to end this epoch before this batch."""

    def on_train_batch_end(self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int) -> None:
        """A training batch is done."""

    def on_validation_start(self) -> None:
        """Validation begins."""

    def on_validation_end(self) -> None:
        """Validation ended."""

    def on_validation_epoch_start(self) -> None:
        """Right before the first validation batch."""

    def on_validation_epoch_end(self) -> None:
        """Right after the last validation batch."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A validation batch is on the device."""

    def on_validation_batch_end(
        self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A validation batch is done."""

    def on_test_start(self) -> None:
        """Testing begins."""

    def on_test_end(self) -> None:
        """Testing ended."""

    def on_test_epoch_start(self) -> None:
        """Right before the first test batch."""

    def on_test_epoch_end(self) -> None:
        """Right after the last test batch."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A test batch is on the device."""

    def on_test_batch_end(
        self, outputs: Tensor | Mapping[str, Any] | None, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A test batch is done."""

    def on_predict_start(self) -> None:
        """Prediction begins."""

    def on_predict_end(self) -> None:
        """Prediction ended."""

    def on_predict_epoch_start(self) -> None:
        """Right before the first batch."""

    def on_predict_epoch_end(self) -> None:
        """Right after the last batch."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch is on the device."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A batch is done."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """Before gradients are cleared."""

    def on_before_backward(self, loss: Tensor) -> None:
        """`loss` is what backward will be called on."""

    def on_after_backward(self) -> None:
        """Gradients of this batch are accumulated."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Gradients are complete and unscaled, and not clipped yet."""

    def on_after_optimizer_step(self, optimizer: Optimizer) -> None:
        """Weights are updated and `global_step` counts this step."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Change or add to what is about to be saved."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read from a loaded checkpoint, before the weights are loaded."""

    # hooks of the module alone

    def on_validation_model_zero_grad(self) -> None:
        """Free the gradients' memory before a validation inside a fit; not called inside an accumulation window."""
        self.zero_grad()

    def on_validation_model_eval(self) -> None:
        """Switch to eval mode for validation."""
        self.eval()

    def on_validation_model_train(self) -> None:
        """Switch back after validation. Unless overridden, every submodule gets the mode that it had before."""
        self.train()

    def on_test_model_eval(self) -> None:
        """Switch to eval mode for testing."""
        self.eval()

    def on_test_model_train(self) -> None:
        """Switch back after testing. Unless overridden, every submodule gets the mode that it had before."""
        self.train()

    def on_predict_model_eval(self) -> None:
        """Switch to eval mode for prediction."""
        self.eval()

    def on_predict_model_train(self) -> None:
        """Switch back after prediction. Unless overridden, every submodule gets the mode that it had before."""
        self.train()

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch before it is moved to the device; returns the batch."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move a batch to `device`; override it for batches that hookloop cannot walk through."""
        return move_data_to_device(batch, device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Change a batch that is on the device already; returns the batch."""
        return batch
