"""The callbacks of this package keep the contract for callbacks."""

from hookloop import Callback, LightningModule
from hookloop.testing import CallbackContract, TinyModule
from hookloop_callbacks_tuning import BatchSizeFinder, GradientAccumulationScheduler, LearningRateFinder


class TestGradientAccumulationScheduler(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return GradientAccumulationScheduler({1: 2})


class TestGradientAccumulationSchedulerBySteps(CallbackContract):
    def callback(self) -> Callback:
        return GradientAccumulationScheduler({2: 2, 5: 3}, "steps")


class TestLearningRateFinder(CallbackContract):
    changes_training = True  # its steps are made before training begins, and are no part of a training step

    def callback(self) -> Callback:
        return LearningRateFinder(1e-4, num_training_steps=20, update_attr=False)


class HasASize(TinyModule):
    """Its loaders are those of the kit, with batches of two."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 2


class TestBatchSizeFinder(CallbackContract):
    def callback(self) -> Callback:
        return BatchSizeFinder(max_val=2, margin=0, stages=("fit",))

    def module(self) -> LightningModule:
        return HasASize()
