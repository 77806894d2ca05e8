"""hookloop trains PyTorch models: a minimal core, and callbacks that are installed one by one."""

import importlib
from types import ModuleType

from hookloop.callback import Callback, LambdaCallback, Order
from hookloop.datamodule import LightningDataModule
from hookloop.module import LightningModule
from hookloop.options import TrainerOptions
from hookloop.random_state import seed_everything
from hookloop.trainer import Trainer

__all__ = [
    "Callback",
    "LambdaCallback",
    "LightningDataModule",
    "LightningModule",
    "Order",
    "Trainer",
    "TrainerOptions",
    "seed_everything",
]


def __getattr__(name: str) -> ModuleType:
    # `import hookloop as hl; hl.callbacks.X` without importing hookloop.callbacks for everybody.
    if name in ("callbacks", "core", "plugins", "tuner", "utilities"):
        return importlib.import_module(f"hookloop.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
