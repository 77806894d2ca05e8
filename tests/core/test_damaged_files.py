"""A file that was cut or in which a bit has flipped: nothing of it is restored."""

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, Trainer
from hookloop.checkpoint_file import verify_checkpoint
from hookloop.errors import CheckpointError

from .fitting import Regression, equal, loader, trainer_in


class Tally(Callback):
    """Counts batches."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.batches = state_dict["batches"]


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content))]


def flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def everything(trainer: Trainer, module: Regression, tally: Tally) -> dict[str, Any]:
    return copy.deepcopy(
        {
            "weights": dict(module.state_dict()),
            "optimizers": [optimizer.state_dict() for optimizer in trainer.optimizers],
            "tally": tally.batches,
            "progress": (trainer.current_epoch, trainer.global_step),
            "random": torch.get_rng_state(),
        }
    )


@pytest.mark.parametrize("damage", [cut, flipped])
def test_of_50_damaged_files_none_changes_anything_that_a_run_has(
    damage: Callable[[bytes, random.Random], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    first = trainer_in(tmp_path, Tally())
    first.fit(Regression(), loader())
    first.save_checkpoint(path)
    whole = path.read_bytes()
    written = torch.load(path, weights_only=True)

    module, tally = Regression(), Tally()
    trainer = trainer_in(tmp_path, tally, max_epochs=1)
    trainer.fit(module, loader())
    before = everything(trainer, module, tally)
    draw = random.Random(11)
    harmless = 0
    for _ in range(50):
        path.write_bytes(damage(whole, draw))
        try:
            verify_checkpoint(path)
        except CheckpointError:
            with pytest.raises(CheckpointError, match=r"model\.ckpt cannot be (read|loaded)"):
                trainer.fit(module, loader(), ckpt_path=path)
            with pytest.raises(CheckpointError, match=r"model\.ckpt cannot be (read|loaded)"):
                trainer.validate(module, loader(), ckpt_path=path, verbose=False)
            assert equal(everything(trainer, module, tally), before)
        else:
            harmless += 1  # padding between the records, and what the archive says twice
            assert equal(torch.load(path, weights_only=True), written)
    # A cut is always found. Of a small file, nearly half is padding.
    assert harmless == 0 if damage is cut else harmless < 30
