"""Terminals to look at: screens that a program drew on, in this process or in one of its own."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable, Generator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pyte
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import LightningModule

COLUMNS = 100
ROWS = 80


class Hand:
    """A clock that somebody turns by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """A stream that says it is a terminal, and knows what would be on its screen."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the empty lines at its end."""
        return on_screen(self.getvalue())


class Model(LightningModule):
    """One weight; logs the loss of each step, and in validation the number of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch[0]).pow(2).mean()
        self.log("loss", torch.tensor(batch_idx + 0.5), prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_score", float(self.current_epoch), prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_score", 1.0, prog_bar=True)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        output: Tensor = self.layer(batch[0])
        return output

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def on_screen(output: str) -> list[str]:
    screen = pyte.Screen(COLUMNS, ROWS)
    screen.set_mode(pyte.modes.LNM)
    pyte.Stream(screen).feed(output)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def loader() -> Callable[[int], DataLoader[Any]]:
    """A loader of so many batches."""
    return lambda batches: DataLoader(TensorDataset(torch.ones(batches, 1)))


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """Standard output is a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    return Screen()


@pytest.fixture
def pipe() -> io.StringIO:
    """Standard output is a pipe."""
    return io.StringIO()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Puts the screen or the pipe in place; a fixture comes too early, because pytest sets standard output after it."""
    stream: Any = pyfuncitem.funcargs.get("screen") or pyfuncitem.funcargs.get("pipe") or sys.stdout
    with redirect_stdout(stream):
        return (yield)


@pytest.fixture
def in_terminal(tmp_path: Path) -> Callable[..., tuple[int, str, list[str]]]:
    """Runs a program in a process of its own that owns a terminal.

    With `interrupt_after`, Ctrl-C is typed as soon as that text was written. Returns the exit status (minus the signal
    that ended it), everything it wrote, and the lines on its screen.
    """

    def run(program: str, interrupt_after: str | None = None) -> tuple[int, str, list[str]]:
        file = tmp_path / "program.py"
        file.write_text(program)
        child, terminal = pty.fork()
        if child == 0:
            os.environ.update(TERM="xterm", PYTHONIOENCODING="utf-8")
            os.execv(sys.executable, [sys.executable, str(file)])
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        output = b""
        while True:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # Linux ends so when nobody has the other end open any more.
                break
            output += piece
            if interrupt_after is not None and interrupt_after.encode() in output:
                os.write(terminal, b"\x03")
                interrupt_after = None
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.close(terminal)
        text = output.decode()
        return status, text, on_screen(text)

    return run
