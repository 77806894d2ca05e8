"""The callbacks of this package keep the contract for callbacks."""

from hookloop import Callback
from hookloop.testing import CallbackContract
from hookloop_callbacks_tuning import GradientAccumulationScheduler, LearningRateFinder


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
