"""The command line in this process, and in one of its own; and a checkpoint for it to look at."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Trainer
from hookloop.cli.main import main
from hookloop.discovery import DISABLE_VARIABLE

from .fitting import loader, loss_of, network

METER = """
from hookloop import Callback

class Meter(Callback):
    def state_dict(self):
        return {"volts": 230}

class Silent(Callback):
    pass
"""
"""Source of a module `meters`: a callback with a state, and one without."""


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands in this process, and takes what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str | Path) -> Said:
        self._capsys.readouterr()
        code = main([str(one) for one in arguments])
        printed = self._capsys.readouterr()
        return Said(code, printed.out, printed.err)


def in_a_process(*arguments: str | Path, path: Path | None = None, **environment: str) -> Said:
    """`python -m hookloop` in a fresh process; `path` is a folder on its path."""
    paths = [*([str(path)] if path else []), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {key: value for key, value in os.environ.items() if key != DISABLE_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hookloop", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def words(said: Said) -> str:
    """What was printed, as one line."""
    return " ".join((said.out + said.err).split())


class Trained(LightningModule):
    """Four weights of 21 numbers (4x3, 4, 1x4, 1), and three settings."""

    def __init__(self, width: int = 4, name: str = "tiny", rates: tuple[float, ...] = (0.1, 0.2)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = network()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = loss_of(self.net, batch)
        self.log("batch_index", float(batch_idx), batch_size=2)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.05)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)]


class SavesAt(Callback):
    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Any, *_: Any, **__: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def saved_in_the_middle(path: Path, *callbacks: Callback) -> Path:
    """A checkpoint of the second epoch after two of its five batches."""
    trainer = Trainer(
        max_epochs=2,
        callbacks=[SavesAt(7, path), *callbacks],
        registered_callbacks=False,
        default_root_dir=path.parent,
        logger=False,
        enable_progress_bar=False,
    )
    trainer.fit(Trained(), loader())
    return path
