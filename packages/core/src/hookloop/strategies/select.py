"""From the Trainer's `strategy` and devices to a strategy."""

from difflib import get_close_matches

import torch

from hookloop.accelerators import Accelerator
from hookloop.checkpoint_io import CheckpointIO
from hookloop.errors import MisconfigurationError
from hookloop.precision import Precision
from hookloop.strategies.single_device import SingleDeviceStrategy
from hookloop.strategies.strategy import Strategy

_NAMES = ("auto", "single_device")

_SEVERAL_DEVICES = ("ddp", "dp", "fsdp", "deepspeed", "model", "horovod", "bagua", "colossalai")
"""What names of strategies for several devices begin with, in Lightning and elsewhere."""


def select_strategy(
    strategy: str | Strategy,
    accelerator: Accelerator,
    devices: list[torch.device],
    precision: Precision,
    checkpoint_io: CheckpointIO | None = None,
) -> Strategy:
    """The strategy to train with; one that was passed brings its own accelerator, device, precision and checkpoint_io.

    Raises:
        MisconfigurationError: an unknown strategy, or more devices than it supports.
    """
    if isinstance(strategy, Strategy):
        return strategy
    if strategy not in _NAMES:
        raise MisconfigurationError(_refusal(strategy))
    if len(devices) > 1:
        raise MisconfigurationError(
            f"devices asks for {len(devices)} {accelerator.name()} devices, and today hookloop trains on one. Use "
            "devices=1."
        )
    return SingleDeviceStrategy(devices[0], accelerator, checkpoint_io, precision)


def _refusal(strategy: object) -> str:
    use = 'Use "auto" or "single_device" (one device), or a Strategy object.'
    if isinstance(strategy, str) and strategy.partition("_")[0] in _SEVERAL_DEVICES:
        return (
            f"strategy={strategy!r} trains on several devices and is not supported yet: today hookloop trains on one. "
            + use
        )
    near = get_close_matches(strategy, _NAMES, n=1) if isinstance(strategy, str) else []
    meant = f' Did you mean "{near[0]}"?' if near else ""
    return f"strategy={strategy!r} is not supported.{meant} {use}"
