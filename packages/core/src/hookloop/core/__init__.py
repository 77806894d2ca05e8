"""Modules, datamodules, and what they are made of, where Lightning's users look for them."""

import importlib
from typing import TYPE_CHECKING

from hookloop.absent import absent
from hookloop.datamodule import LightningDataModule
from hookloop.module import LightningModule
from hookloop.optimizers import LightningOptimizer

if TYPE_CHECKING:
    from hookloop.hyperparameters import HyperparametersMixin

__all__ = ["HyperparametersMixin", "LightningDataModule", "LightningModule", "LightningOptimizer"]

_HOMES = {"HyperparametersMixin": "hookloop.hyperparameters"}

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise absent(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
