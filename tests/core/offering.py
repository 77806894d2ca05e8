"""Checkpoints to choose from: a callback that names them, what counts who opens them, and what can happen to them."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from hookloop import Callback
from hookloop.checkpoint_file import read_checkpoint
from hookloop.checkpoint_io import TorchCheckpointIO
from hookloop.errors import CheckpointError
from hookloop.view import TrainerView

from .fitting import Regression, Saves, loader, trainer_in

Answer = Path | str | Sequence[Path | str] | None


class Knows(Callback):
    """Answers for some names."""

    family = "checkpoint"

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    @property
    def state_key(self) -> str:
        return f"Knows {id(self)}"

    def resolve_checkpoint(self, which: str, trainer: TrainerView | None = None) -> Answer:
        self.asked.append(which)
        return self.answers.get(which)


class Reads(TorchCheckpointIO):
    """Files, and which of them were opened."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:
        self.opened.append(Path(path).name)
        return super().load_checkpoint(path, *args, **kwargs)

    def check_is_there(self, path: str | Path) -> None:
        if not Path(path).is_file():
            raise CheckpointError(f"There is no checkpoint {path}.")


def checkpoints_in(folder: Path) -> list[Path]:
    """Checkpoints of step 1, 2, 3 and 4 of an epoch of 5, in this order; the last one is the newest."""
    paths = [folder / f"step{step}.ckpt" for step in (1, 2, 3, 4)]
    saves = [Saves("on_train_batch_end", path, n=n) for n, path in enumerate(paths, 1)]
    trainer_in(folder, *saves, max_epochs=1).fit(Regression(), loader())
    for age, path in enumerate(reversed(paths)):
        os.utime(path, ns=(0, 10**18 - age * 10**9))
    return paths


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def removed(path: Path) -> None:
    path.unlink()


def half_copied(path: Path) -> None:
    """As after `cp` of a file whose size was set first: its end is zeros."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


LOST: list[Callable[[Path], None]] = [flipped, cut_short, emptied, zeroed, removed, half_copied, made_a_folder]
"""What can happen to a file so that nothing can be restored from it."""


@contextmanager
def not_as_root() -> Iterator[None]:
    """As a user whom permissions hold back."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def weights_alone(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    torch.save({name: checkpoint[name] for name in ("format", "epoch", "global_step", "state_dict")}, path)


def with_code(path: Path) -> None:
    torch.save({**read_checkpoint(path), "ratio": Fraction(1, 2)}, path)


def newer(path: Path) -> None:
    torch.save({**read_checkpoint(path), "format": 99}, path)


INTACT: dict[Callable[[Path], None], str] = {
    weights_alone: r"holds no training state",
    with_code: r"weights_only=False",
    newer: r"pip install --upgrade hookloop",
}
"""What keeps a fit from going on with a file although it is whole, and what is said of it."""
