"""`SingleDeviceStrategy`: one model on one device, in one process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hookloop.accelerators import Accelerator
from hookloop.distributed import SingleProcess
from hookloop.precision import Precision
from hookloop.strategies.strategy import Strategy


class SingleDeviceStrategy(Strategy):
    """Trains on one device.

    Args:
        accelerator: the kind of device.
        device: the device.
        precision: the numeric precision.
    """

    def __init__(self, accelerator: Accelerator, device: torch.device, precision: Precision) -> None:
        super().__init__(accelerator, device, precision, SingleProcess())

    def place(self, module: nn.Module) -> None:
        self.accelerator.prepare(self.root_device)
        self.precision.convert_module(module)
        module.to(self.root_device)

    def release(self, module: nn.Module) -> None:
        # Frees the device's memory for whatever comes next; Lightning's users find their module on the CPU too.
        if self.root_device.type != "cpu":
            module.cpu()

    def step_function(self, step: Callable[..., Any], updates_weights: bool = False) -> Callable[..., Any]:
        return self.precision.around(step, updates_weights)
