"""Places for checkpoints where a test decides when a write goes on, and how it ends."""

import threading
from pathlib import Path
from typing import Any

from hookloop.checkpoint_io import TorchCheckpointIO


def writers() -> list[threading.Thread]:
    """The threads that are writing checkpoints."""
    return [thread for thread in threading.enumerate() if thread.name == "hookloop checkpoint writer"]


def written() -> None:
    """Wait until no thread is writing."""
    for thread in writers():
        thread.join(60)
        assert not thread.is_alive()


class Gate(TorchCheckpointIO):
    """Local files. Writes wait until the gate is open; `fails` names files that cannot be written.

    Attributes:
        threads: the thread of each write.
        most: how many writes there were at the same time, at most.
    """

    def __init__(self, is_open: bool = True, fails: tuple[str, ...] = ()) -> None:
        self.opened = threading.Event()
        self.fails = fails
        self.threads: list[threading.Thread] = []
        self.most = 0
        self._now = 0
        if is_open:
            self.opened.set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        self.threads.append(threading.current_thread())
        self._now += 1
        self.most = max(self.most, self._now)
        try:
            assert self.opened.wait(60)
            if Path(path).name in self.fails:
                raise OSError(28, "No space left on device", str(path))
            super().save_checkpoint(checkpoint, path, storage_options)
        finally:
            self._now -= 1
