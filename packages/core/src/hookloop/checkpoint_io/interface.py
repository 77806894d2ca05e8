"""`CheckpointIO`: where checkpoints are written and read, for those who keep them in another place or form."""

from abc import ABC, abstractmethod
from concurrent.futures import Future
from pathlib import Path
from typing import Any, ClassVar


class CheckpointIO(ABC):
    """Writes, reads and removes checkpoints. Pass one to the Trainer: `Trainer(plugins=MyCheckpointIO())`.

    The trainer asks it for every checkpoint that it saves, resumes from or evaluates; to write and to remove one, on
    rank zero alone. What it raises reaches whoever asked for the checkpoint.

    Attributes:
        saves_in_background: whether `save_checkpoint` copies what it is given, and returns while it is being written.
    """

    saves_in_background: ClassVar[bool] = False

    @abstractmethod
    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
    ) -> "Future[None] | None":
        """Write a checkpoint.

        Args:
            checkpoint: tensors, numbers, strings and containers of them; some are those of the running model, so copy
                what is not written before this returns.
            path: where to, as whoever saves calls it.
            storage_options: what was passed to `trainer.save_checkpoint`.

        Returns:
            None if it is written. Else a Future, which is done when it is: the trainer announces the checkpoint then,
            or raises the Future's error.
        """

    @abstractmethod
    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint.

        Args:
            path: where it is, as whoever loads calls it.
            map_location: the device of its tensors, in any form that `torch.load` takes; None is the CPU.
            weights_only: False may read other objects than tensors, numbers, strings and containers of them, which runs
                whatever code is in the file; None and True may not.

        Returns:
            What was saved: a dict with "state_dict".
        """

    @abstractmethod
    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that is no longer needed; nothing happens if it is gone."""

    def check_is_there(self, path: str | Path) -> None:
        """Raise an error if there is no checkpoint at `path`; asked before anything else is given up for it.

        Whoever cannot tell at once does nothing, and lets `load_checkpoint` find out.
        """

    def teardown(self) -> None:
        """Wait for, and close, whatever saving has opened; called when an entry point ends, after errors too."""
