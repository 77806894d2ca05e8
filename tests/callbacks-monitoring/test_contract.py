"""The callbacks of this package keep the contract for callbacks."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch

from hookloop import Callback, LightningModule
from hookloop.testing import CallbackContract, TinyModule
from hookloop_callbacks_monitoring import DeviceStatsMonitor, EarlyStopping, LearningRateMonitor, Timer


class TestEarlyStopping(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return EarlyStopping("wavering", patience=2, strict=False)

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [
            lambda: EarlyStopping("train_loss"),
            lambda: EarlyStopping("train_loss", mode="max"),
            lambda: EarlyStopping("train_loss", patience=4),
            lambda: EarlyStopping("train_loss", patience=4, unit="steps"),
            lambda: EarlyStopping("train_loss", min_delta=0.1),
            lambda: EarlyStopping("train_loss", baseline=0.1),
            lambda: EarlyStopping("train_loss", start_from=1),
        ]


class TestEarlyStoppingOfALoss(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return EarlyStopping("train_loss", patience=1, unit="steps", min_delta=0.01)


class TestEarlyStoppingThatRestores(CallbackContract):
    changes_training = True
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return EarlyStopping("wavering", patience=3, strict=False, restore_best_weights=True)


class StepsScheduler(TinyModule):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class TestLearningRateMonitor(CallbackContract):
    max_calls_per_step = 0  # the module's scheduler steps by epochs

    def callback(self) -> Callback:
        return LearningRateMonitor()


class TestLearningRateMonitorBySteps(CallbackContract):
    def callback(self) -> Callback:
        return LearningRateMonitor(log_momentum=True, log_weight_decay=True)

    def module(self) -> LightningModule:
        return StepsScheduler()


class TestTimer(CallbackContract):
    varying = ("time_elapsed",)
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return Timer()


class TestTimerWithBudgets(CallbackContract):
    varying = ("time_elapsed",)
    max_calls_per_step = 5

    def callback(self) -> Callback:
        return Timer("4h", per_run="1h", reserve="5m")


class TestDeviceStatsMonitor(CallbackContract):
    varying = ("device*/*",)
    max_calls_per_step = 4  # of a step that loggers do not hear of
    trainer_arguments: ClassVar[dict[str, Any]] = {"log_every_n_steps": 1000}

    def callback(self) -> Callback:
        return DeviceStatsMonitor()


class TestDeviceStatsMonitorOfAll(CallbackContract):
    varying = ("device*/*",)

    def callback(self) -> Callback:
        return DeviceStatsMonitor(True, "all", every_n_seconds=0.01)
