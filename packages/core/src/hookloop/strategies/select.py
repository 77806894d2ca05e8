"""From the Trainer's `strategy` and devices to a strategy."""

import torch

from hookloop.accelerators import Accelerator
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies.single_device import SingleDeviceStrategy
from hookloop.strategies.strategy import Strategy


def select_strategy(
    strategy: str | Strategy, accelerator: Accelerator, devices: list[torch.device], precision: Precision
) -> Strategy:
    """The strategy to train with.

    Raises:
        MisconfigurationError: an unknown strategy, or more devices than it supports.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if strategy not in ("auto", "single_device"):
        raise MisconfigurationError(
            f'strategy={strategy!r} is not supported. Use "auto" or "single_device" (one device), or a Strategy object.'
        )
    if len(devices) > 1:
        raise MisconfigurationError(
            f"devices asks for {len(devices)} {accelerator.name} devices, and today hookloop trains on one. Use "
            "devices=1."
        )
    return SingleDeviceStrategy(accelerator, devices[0], precision)
