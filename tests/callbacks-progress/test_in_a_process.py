"""Whole programs: on a terminal of their own, with Ctrl-C, and in a pipe."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import sys

import torch
from hookloop import LightningModule, Trainer
from hookloop_callbacks_progress import TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset


class Model(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch[0]).pow(2).mean()
        self.log("answer", 42.0, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        pass

    def test_step(self, batch, batch_idx):
        self.log("test_answer", 43.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


def loader(batches):
    return DataLoader(TensorDataset(torch.ones(batches, 1)))


def trainer(**arguments):
    return Trainer(callbacks=[TQDMProgressBar()], registered_callbacks=False, logger=False, **arguments)
"""


def test_a_training_on_a_terminal(in_terminal: Callable[..., tuple[int, str, list[str]]]) -> None:
    status, output, lines = in_terminal(
        PROGRAM
        + """
print("before")
run = trainer(max_epochs=2)
run.fit(Model(), loader(300), loader(20))
print("between")
run.test(dataloaders=loader(5), verbose=False)
print("after")
"""
    )

    assert status == 0, output
    assert [line.split("|")[0].strip() for line in lines] == [
        "before",
        "Epoch 1/1: 100%",
        "between",
        "Testing: 100%",
        "after",
    ]
    assert "300/300 [" in lines[1]
    assert lines[1].endswith("answer=42.000]")
    # tqdm's blocks, because the terminal can show them.
    assert "\u2588" in lines[1]


def test_ctrl_c_on_a_terminal(in_terminal: Callable[..., tuple[int, str, list[str]]]) -> None:
    status, output, lines = in_terminal(
        PROGRAM
        + """
run = trainer(max_epochs=-1)
try:
    run.fit(Model(), loader(100), loader(20))
except KeyboardInterrupt:
    print("interrupted")
run = trainer(max_epochs=1)
run.fit(Model(), loader(4))
print("done")
""",
        interrupt_after="Epoch 0",
    )

    assert status == 0, output
    assert [line.split(":")[0] for line in lines] == ["Epoch 0", "interrupted", "Epoch 0/0", "done"]
    assert lines[0].endswith("]^C")
    assert "4/4 [" in lines[2]


def test_a_terminal_that_becomes_narrower(in_terminal: Callable[..., tuple[int, str, list[str]]]) -> None:
    status, output, lines = in_terminal(
        PROGRAM
        + """
import fcntl
import struct
import termios


class Narrower(Model):
    def on_train_batch_start(self, batch, batch_idx):
        if batch_idx == 3:
            fcntl.ioctl(sys.stdout.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 80, 60, 0, 0))


trainer(max_epochs=1).fit(Narrower(), loader(5))
"""
    )

    assert status == 0, output
    assert len(lines) == 1
    assert 50 < len(lines[0]) < 60
    assert "5/5 [" in lines[0]


def test_an_error_on_a_terminal(in_terminal: Callable[..., tuple[int, str, list[str]]]) -> None:
    status, _, lines = in_terminal(
        PROGRAM
        + """
class Failing(Model):
    def validation_step(self, batch, batch_idx):
        raise RuntimeError("it failed")

trainer(max_epochs=1, num_sanity_val_steps=0).fit(Failing(), loader(4), loader(4))
"""
    )

    assert status == 1
    assert lines[0].startswith("Epoch 0/0: 100%")
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: it failed"
    assert not [line for line in lines if "Validating" in line]


def test_a_training_in_a_pipe() -> None:
    program = PROGRAM + "\ntrainer(max_epochs=2).fit(Model(), loader(30), loader(2))\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)

    lines = done.stdout.decode("ascii").splitlines()
    assert [line.rsplit(" | ", 2)[0] for line in lines] == ["Epoch 0/1 | step 30/30", "Epoch 1/1 | step 30/30"]
    assert all(line.endswith("answer=42.000") for line in lines)
    assert b"\r" not in done.stdout
