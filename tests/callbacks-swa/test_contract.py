"""The callbacks of this package keep the contract for callbacks."""

import torch

from hookloop import Callback, LightningModule
from hookloop.testing import CallbackContract, TinyModule
from hookloop_callbacks_swa import EMAWeightAveraging, StochasticWeightAveraging, WeightAveraging


class TestEMAWeightAveraging(CallbackContract):
    changes_training = True
    max_calls_per_step = 22

    def callback(self) -> Callback:
        return EMAWeightAveraging(decay=0.8)


class TestEMAWeightAveragingThatBeginsLater(CallbackContract):
    changes_training = True

    def callback(self) -> Callback:
        return EMAWeightAveraging(half_life=5, decay_warmup=9, update_starting_at_step=6, update_every_n_steps=2)


class TestWeightAveraging(CallbackContract):
    changes_training = True
    max_calls_per_step = 22

    def callback(self) -> Callback:
        return WeightAveraging(use_buffers=False, bn_batches=None)


class EpochsOfAll(WeightAveraging):
    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None


class TestAverageOfEpochs(CallbackContract):
    changes_training = True

    def callback(self) -> Callback:
        return EpochsOfAll()

    def module(self) -> LightningModule:
        return TinyModule().to(torch.float32)


class TestStochasticWeightAveraging(CallbackContract):
    changes_training = True
    max_calls_per_step = 5

    def callback(self) -> Callback:
        return StochasticWeightAveraging(swa_epoch_start=0.5)


class TestStochasticWeightAveragingThatAnneals(CallbackContract):
    changes_training = True

    def callback(self) -> Callback:
        return StochasticWeightAveraging(0.01, 1, annealing_epochs=2, swap_for_eval=True, bn_batches=2)
