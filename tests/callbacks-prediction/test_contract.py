"""The callbacks of this package keep the contract for callbacks."""

from collections.abc import Callable, Sequence
from typing import Any

from hookloop import Callback, LightningModule
from hookloop.testing import CallbackContract
from hookloop_callbacks_prediction import BasePredictionWriter, PredictionWriter


class Writes(BasePredictionWriter):
    """Keeps how many predictions there were."""

    def write_on_batch_end(self, trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        pass

    def write_on_epoch_end(self, trainer: Any, pl_module: LightningModule, *arguments: Any) -> None:
        pass


class TestBasePredictionWriter(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return Writes("batch_and_epoch")


class TestPredictionWriter(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return PredictionWriter(self.folder / "out", rerun="replace")

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [
            lambda: PredictionWriter(self.folder / "rows", "csv", rerun="replace"),
            lambda: PredictionWriter(self.folder / "arrays", "npz", batches_per_part=1, rerun="replace"),
        ]
