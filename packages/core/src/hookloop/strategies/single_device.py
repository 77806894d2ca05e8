"""`SingleDeviceStrategy`: one model on one device, in one process."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hookloop.accelerators import Accelerator, CPUAccelerator, CUDAAccelerator
from hookloop.checkpoint_io import CheckpointIO
from hookloop.distributed import SingleProcess
from hookloop.errors import MisconfigurationError, MisconfigurationTypeError
from hookloop.precision import Precision
from hookloop.strategies.strategy import Strategy


class SingleDeviceStrategy(Strategy):
    """Trains on one device.

    Args:
        device: the device: "cpu", "cuda:1", a torch.device, or the index of a CUDA device.
        accelerator: the kind of device; None takes the one for a CPU or a CUDA device.
        checkpoint_io: where checkpoints are kept; None is in local files.
        precision_plugin: the numeric precision; None is "32-true".

    Raises:
        MisconfigurationTypeError: an argument of another kind, the device among them.
        MisconfigurationError: a kind of device that only an accelerator of one's own can train on.
    """

    def __init__(
        self,
        device: str | int | torch.device = "cpu",
        accelerator: Accelerator | None = None,
        checkpoint_io: CheckpointIO | None = None,
        precision_plugin: Precision | None = None,
    ) -> None:
        for name, value, kind in (
            ("accelerator", accelerator, Accelerator),
            ("checkpoint_io", checkpoint_io, CheckpointIO),
            ("precision_plugin", precision_plugin, Precision),
        ):
            if value is not None and not isinstance(value, kind):
                raise MisconfigurationTypeError(
                    f"SingleDeviceStrategy({name}={value!r}): pass an instance of {kind.__name__}, or leave it out."
                )
        root = _device(device)
        accelerator = _accelerator_of(root) if accelerator is None else accelerator
        precision = Precision(None, root.type) if precision_plugin is None else precision_plugin
        super().__init__(accelerator, root, precision, SingleProcess(), checkpoint_io)

    def place(self, module: nn.Module) -> None:
        self.accelerator.setup_device(self.root_device)
        converted: nn.Module | None = self.precision.convert_module(module)
        if converted is not None and converted is not module:
            raise MisconfigurationError(
                f"{type(self.precision).__name__}.convert_module() returned another module than it was given, and "
                "optimizers and callbacks know that one. Change it in place, and return it."
            )
        module.to(self.root_device)

    def release(self, module: nn.Module) -> None:
        # Frees the device's memory for whatever comes next; Lightning's users find their module on the CPU too.
        if self.root_device.type != "cpu":
            module.cpu()
        self.accelerator.teardown()

    def step_function(self, step: Callable[..., Any], updates_weights: bool = False) -> Callable[..., Any]:
        return self.precision.around(step, updates_weights)


def _device(given: object) -> torch.device:
    if isinstance(given, str | torch.device) or (isinstance(given, int) and not isinstance(given, bool)):
        try:
            return torch.device("cuda", given) if isinstance(given, int) else torch.device(given)
        except RuntimeError as error:
            message = str(error).splitlines()[0]
    else:
        message = f"it is a {type(given).__name__}"
    raise MisconfigurationTypeError(
        f'SingleDeviceStrategy(device={given!r}): {message}. Pass a device such as "cpu" or "cuda:0".'
    )


def _accelerator_of(device: torch.device) -> Accelerator:
    if device.type == "cpu":
        return CPUAccelerator()
    if device.type == "cuda":
        return CUDAAccelerator()
    raise MisconfigurationError(
        f'SingleDeviceStrategy(device="{device}"): hookloop has accelerators for "cpu" and "cuda". For another kind of '
        "device, pass an Accelerator of your own: SingleDeviceStrategy(device, accelerator=...)."
    )
