"""What runs in a process of its own: one subject, a few saves; prints what they took as JSON."""

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch  # noqa: E402 - see above

from checkpoint_saves.work import SIZES, Batches, Size, Work  # noqa: E402

IDLE_STEPS = 3
"""Timed before each save, with nothing going on beside them."""


class Stopwatch:
    """A callback of either library, in all but its base class: saves, and times saves and steps.

    After each save come steps until the file is there, and `IDLE_STEPS` more, of which the first is not timed. The
    first save is not counted: it makes the memory that later ones use again, and loads what saving needs.

    Args:
        folder: where files go; each is removed before the next one.
        saves: how many saves are counted.
        save: called with the trainer and a path.
    """

    def __init__(self, folder: Path, saves: int, save: Callable[[Any, Path], None]) -> None:
        super().__init__()
        self._folder = folder
        self._left = saves + 1
        self._save = save
        self._path: Path | None = None
        self._written = 0.0
        self._began = 0.0
        self._idle: list[float] = []
        self._busy: list[float] = []
        self.blocked: list[float] = []
        self.slower: list[float] = []
        self.extra: list[float] = []
        self.first = 0.0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        self._began = time.perf_counter()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        took = time.perf_counter() - self._began
        if self._path is None:
            self._idle.append(took)
            if len(self._idle) > IDLE_STEPS:
                self._next(trainer)
        else:
            self._busy.append(took)
            if self._path.exists():
                self._account()

    def _next(self, trainer: Any) -> None:
        if self._left == 0:
            trainer.should_stop = True
            return
        for file in self._folder.iterdir():
            file.unlink()
        self._left -= 1
        path = self._folder / f"{self._left}.ckpt"
        begin = time.perf_counter()
        self._save(trainer, path)
        blocked = time.perf_counter() - begin
        if not self.first:
            self.first = blocked
        else:
            self.blocked.append(blocked)
        self._path, self._busy = (None, []) if path.exists() else (path, [])
        if self._path is None:
            self._idle = []

    def _account(self) -> None:
        idle = statistics.median(self._idle[1:])
        if self.blocked:
            self.extra.append(sum(self._busy) - len(self._busy) * idle)
            self.slower.append(sum(self._busy) / (len(self._busy) * idle) - 1)
        self._path, self._idle = None, []

    def as_dict(self) -> dict[str, list[float]]:
        return {
            "blocks": [1e3 * value for value in self.blocked],
            "first": [1e3 * self.first],
            "extra": [1e3 * value for value in self.extra],
            "slower": [1e2 * value for value in self.slower],
        }


STEPS = 10_000
"""More than are ever trained: the stopwatch ends the fit."""


def on_hookloop(size: Size, folder: Path, saves: int, background: bool) -> dict[str, list[float]]:
    from hookloop import Callback, LightningModule, Trainer

    class Module(Work, LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.build(size)

    watch_class = type("Watch", (Stopwatch, Callback), {})
    watch = watch_class(folder, saves, lambda trainer, path: trainer.save_checkpoint(path, background=background))
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=watch, logger=False, registered_callbacks=False)
    trainer.fit(Module(), Batches(STEPS))
    result: dict[str, list[float]] = watch.as_dict()
    return result


def on_lightning(size: Size, folder: Path, saves: int, background: bool) -> dict[str, list[float]]:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.plugins.io import AsyncCheckpointIO

    class Module(Work, LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.build(size)

    watch_class = type("Watch", (Stopwatch, Callback), {})
    # What ModelCheckpoint calls.
    watch = watch_class(folder, saves, lambda trainer, path: trainer.save_checkpoint(path))
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=1,
        callbacks=[watch],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[AsyncCheckpointIO()] if background else None,
        default_root_dir=folder,
    )
    trainer.fit(Module(), Batches(STEPS))
    result: dict[str, list[float]] = watch.as_dict()
    return result


def plainly(size: Size, folder: Path, saves: int, background: bool) -> dict[str, list[float]]:
    """What torch does: saves, copies, loads; after a few steps of a plain loop."""
    work = Work()
    work.build(size)
    optimizer = work.configure_optimizers()
    for batch_idx, batch in enumerate(Batches(2)):
        optimizer.zero_grad()
        work.training_step(batch, batch_idx).backward()
        optimizer.step()
    state = {"state_dict": work.layers.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    moments = [value for each in optimizer.state_dict()["state"].values() for value in each.values()]
    tensors = [*work.layers.state_dict().values(), *moments]
    buffers = [torch.empty_like(tensor) for tensor in tensors]
    path = folder / "plain.ckpt"

    def copied() -> None:
        for buffer, tensor in zip(buffers, tensors, strict=True):
            buffer.copy_(tensor)

    def saved() -> None:
        torch.save(state, path)

    def synced() -> None:
        with path.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    found: dict[str, list[float]] = {}
    actions: dict[str, Callable[[], object]] = {
        "copy": copied,
        "clone": lambda: [tensor.clone() for tensor in tensors],
        "torch.save": saved,
        "torch.save + fsync": synced,
        "torch.load": lambda: torch.load(path, weights_only=True),
    }
    try:
        from hookloop.checkpoint_file import read_checkpoint
    except ImportError:
        pass
    else:
        actions["read_checkpoint"] = lambda: read_checkpoint(path)
    for index in range(saves + 1):
        for name, action in actions.items():
            if name.startswith("torch.save"):
                path.unlink(missing_ok=True)  # as a new name each time; the page cache of the old one is given back
            begin = time.perf_counter()
            action()
            if index:
                found.setdefault(name, []).append(1e3 * (time.perf_counter() - begin))
    return found


SUBJECTS = {"torch": plainly, "hookloop": on_hookloop, "Lightning": on_lightning}

if __name__ == "__main__":
    name, size_name, folder_name, saves_text, how = sys.argv[1:]
    warnings.simplefilter("ignore")
    torch.manual_seed(1)
    measured = SUBJECTS[name](SIZES[size_name], Path(folder_name), int(saves_text), how == "background")
    print(json.dumps(measured))
