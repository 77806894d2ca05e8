"""The Trainer: `trainer` is what it does, `attributes` what can be asked of it, `arguments` what it is built from."""

from hookloop.random_state import seed_everything
from hookloop.trainer.trainer import Trainer

__all__ = ["Trainer", "seed_everything"]
