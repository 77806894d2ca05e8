"""What is measured: ways to bring an exponential average of a module up to date."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

DECAY = 0.999

SIZES = {"200 tensors": (100, 32), "25M parameters": (24, 1024)}
"""How many linear layers, and how wide: each has a weight and a bias."""


@dataclass(frozen=True)
class Subject:
    """One way.

    Attributes:
        name: of its row.
        make: from a size to what brings the average up to date once.
        target: how many times the floor it may take at most; None where it is no target of hookloop's.
    """

    name: str
    make: Callable[[str], Callable[[], object]]
    target: float | None = None


def subjects() -> list[Subject]:
    """All that are installed, the floor first."""
    found = [Subject("floor", _floor), Subject("AveragedModel, get_ema_multi_avg_fn", _averaged_model)]
    if importlib.util.find_spec("hookloop_callbacks_swa") is not None:
        found.append(Subject("hookloop", _hookloop, target=1.3))
    if importlib.util.find_spec("lightning") is not None:
        found.append(Subject("Lightning", _lightning))
    return found


def _layers(size: str) -> nn.Sequential:
    count, width = SIZES[size]
    return nn.Sequential(*(nn.Linear(width, width) for _ in range(count)))


@torch.no_grad()
def _floor(size: str) -> Callable[[], object]:
    live: list[torch.Tensor] = list(_layers(size).parameters())
    averages = [one.detach().clone() for one in live]

    def update() -> None:
        with torch.no_grad():
            torch._foreach_lerp_(averages, live, 1 - DECAY)

    return update


def _averaged_model(size: str) -> Callable[[], object]:
    model = _layers(size)
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    averaged.update_parameters(model)  # the first one copies
    return lambda: averaged.update_parameters(model)


def _hookloop(size: str) -> Callable[[], object]:
    from hookloop import LightningModule
    from hookloop_callbacks_swa import EMAWeightAveraging

    return _in_steps(EMAWeightAveraging(decay=DECAY), LightningModule, size)


def _lightning(size: str) -> Callable[[], object]:
    from lightning.pytorch import LightningModule
    from lightning.pytorch.callbacks import EMAWeightAveraging

    return _in_steps(EMAWeightAveraging(decay=DECAY), LightningModule, size)


def _in_steps(callback: Any, base: type[Any], size: str) -> Callable[[], object]:
    """The hook after each batch: all that the callback does there, and no training around it."""
    module = base()
    module.layers = _layers(size)
    trainer: Any = SimpleNamespace(global_step=0, current_epoch=0, ckpt_path=None)
    callback.setup(trainer, module, "fit")

    def update() -> None:
        trainer.global_step += 1
        with torch.no_grad():
            callback.on_train_batch_end(trainer, module, None, None, 0)

    update()
    return update
