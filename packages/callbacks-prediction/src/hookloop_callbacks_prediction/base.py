"""`BasePredictionWriter`: for writers of predictions of your own."""

from collections.abc import Sequence
from typing import Any, Literal

from hookloop import Callback, LightningModule
from hookloop.batches import map_batch
from hookloop.errors import MisconfigurationError
from hookloop.hook_checks import fetches_batches, overrides
from hookloop.view import TrainerView
from hookloop_callbacks_prediction.interval import WriteInterval


class BasePredictionWriter(Callback):
    """Calls `write_on_batch_end`, `write_on_epoch_end`, or both, in `trainer.predict` and `trainer.predict_iter`.

    Define those that `write_interval` asks for. With "batch" nothing is kept, and with
    `trainer.predict(..., return_predictions=False)` memory stays flat. With "epoch" all predictions are kept, on the
    CPU, until the end. Other entry points than prediction do not concern it.

    Args:
        write_interval: "batch", "epoch" or "batch_and_epoch", or a `WriteInterval`.

    Raises:
        MisconfigurationError: the interval is none of these; or, when a prediction begins, a method that it asks for is
            not defined, or the module's predict_step takes a dataloader_iter.

    Attributes:
        interval: the `WriteInterval`.
    """

    def __init__(self, write_interval: Literal["batch", "epoch", "batch_and_epoch"] | WriteInterval = "batch") -> None:
        try:
            self.interval = WriteInterval(write_interval)
        except ValueError:
            raise MisconfigurationError(
                f"{type(self).__name__}(write_interval={write_interval!r}) must be one of "
                f"{', '.join(repr(one.value) for one in WriteInterval)}."
            ) from None
        self._predictions: list[list[Any]] = []
        self._samples: list[list[list[int] | None]] = []

    def write_on_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the prediction of one batch.

        Args:
            trainer: the trainer.
            pl_module: the module.
            prediction: what predict_step returned.
            batch_indices: the indices in the dataset of the samples of this batch, one for each. None where nobody can
                tell: the loader is no DataLoader, its dataset is iterable, or it has `in_order=False`.
            batch: the batch, on the device.
            batch_idx: its index in its loader, 0-based.
            dataloader_idx: the index of the loader.
        """
        raise NotImplementedError

    def write_on_epoch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write all predictions.

        Args:
            trainer: the trainer.
            pl_module: the module.
            predictions: what predict_step returned for each batch, on the CPU; a list of these for each loader if there
                are several.
            batch_indices: of the same shape: for each prediction the indices of its samples, or None.
        """
        raise NotImplementedError

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Check what a prediction needs."""
        if stage != "predict":
            return
        name = type(self).__name__
        if fetches_batches(pl_module, "predict_step"):
            raise MisconfigurationError(
                f"{type(pl_module).__name__}.predict_step takes a dataloader_iter, so nobody can tell {name} which "
                "batch a prediction is of. Define predict_step(self, batch, batch_idx), or leave the writer out."
            )
        wanted = ["write_on_batch_end"] * self.interval.on_batch + ["write_on_epoch_end"] * self.interval.on_epoch
        for method in wanted:
            if not overrides(self, BasePredictionWriter, method):
                raise MisconfigurationError(
                    f"{name} does not define {method}(), which write_interval={self.interval.value!r} needs. Define "
                    "it, or choose another interval."
                )

    def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """From here on the samples of each batch are known."""
        trainer.follow_samples()
        loaders = len(trainer.num_predict_batches)
        self._predictions, self._samples = [[] for _ in range(loaders)], [[] for _ in range(loaders)]

    def on_predict_batch_end(
        self,
        trainer: TrainerView,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Have the batch written, or keep it."""
        samples = trainer.batch_samples
        if self.interval.on_batch:
            self.write_on_batch_end(trainer, pl_module, outputs, samples, batch, batch_idx, dataloader_idx)
        if self.interval.on_epoch:
            self._predictions[dataloader_idx].append(map_batch(lambda tensor: tensor.detach().cpu(), outputs))
            self._samples[dataloader_idx].append(samples)

    def on_predict_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        """Have all of them written."""
        if not self.interval.on_epoch:
            return
        predictions, samples = self._predictions, self._samples
        if len(predictions) == 1:
            self.write_on_epoch_end(trainer, pl_module, predictions[0], samples[0])
        else:
            self.write_on_epoch_end(trainer, pl_module, predictions, samples)

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Let go of what was kept."""
        self._predictions, self._samples = [], []
