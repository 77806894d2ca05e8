"""hookloop trains PyTorch models: a minimal core, and callbacks that are installed one by one."""

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
