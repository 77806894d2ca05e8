"""Makes quiet Trainers, and lets the tests import `averaging`, which stands beside them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, Trainer

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Makes a quiet Trainer with these callbacks."""

    def make(*callbacks: Callback, **arguments: Any) -> Trainer:
        given: dict[str, Any] = {
            "max_epochs": 4,
            "logger": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
            "registered_callbacks": False,
            "accelerator": "cpu",
        }
        return Trainer(callbacks=list(callbacks), **{**given, **arguments})

    return make
