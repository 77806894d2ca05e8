"""The attributes of a `ModelCheckpoint`: what it was asked for, and what it has saved."""

import math
from typing import Literal

from torch import Tensor

from hookloop import Callback
from hookloop.monitor import Monitor
from hookloop_callbacks_checkpoint.record import Record
from hookloop_callbacks_checkpoint.scores import as_tensor
from hookloop_callbacks_checkpoint.triggers import Triggers
from hookloop_callbacks_checkpoint.writing import Writing


class CheckpointAttributes(Callback):
    """Properties that are read from triggers, writing and record; a path stands in them once its file is complete."""

    mode: Literal["min", "max"]
    save_top_k: int
    _dirpath: str | None
    _monitor: Monitor | None
    _triggers: Triggers
    _record: Record
    _writing: Writing[Record]

    @property
    def dirpath(self) -> str | None:
        """The folder of the files, absolute; None without one given and before the first fit."""
        return self._dirpath

    @property
    def every_n_train_steps(self) -> int:
        """Optimizer steps between two saves; 0: not by steps."""
        return self._triggers.steps

    @property
    def every_n_epochs(self) -> int:
        """Epochs between two saves; 0: not by epochs."""
        return self._triggers.epochs

    @property
    def background(self) -> bool:
        """Whether a thread writes the files while training goes on."""
        return self._writing.background

    @property
    def on_save_error(self) -> str:
        """What a save that fails does: "raise" ends the run, "warn" goes on without the file."""
        return self._writing.on_error

    @property
    def best_model_path(self) -> str:
        """The best file, which was complete when it came to stand here; "" as long as there is none."""
        return self._record.best

    @property
    def best_model_score(self) -> Tensor | None:
        """The score of the best file; None if there is none or nothing is monitored."""
        return _tensor(self._record.best_score)

    @property
    def best_k_models(self) -> dict[str, Tensor]:
        """The files that are kept for their score, the oldest first, and these scores."""
        return {path: as_tensor(score) for path, score in self._record.scores().items()}

    @property
    def kth_best_model_path(self) -> str:
        """The worst of the files that are kept, once there are `save_top_k` of them; "" before."""
        kth = self._kth
        return "" if kth is None else kth[0]

    @property
    def kth_value(self) -> Tensor:
        """The score that a new file has to beat: that of the worst one, or infinity as long as there is room."""
        kth = self._kth
        return as_tensor((math.inf if self.mode == "min" else -math.inf) if kth is None else kth[1])

    @property
    def _kth(self) -> tuple[str, float] | None:
        full = self.save_top_k < 0 or len(self._record.kept) >= self.save_top_k
        worst = self._record.worst(self._monitor) if self._monitor is not None and full else None
        return None if worst is None or worst.score is None else (worst.path, worst.score)

    @property
    def last_model_path(self) -> str:
        """The file last.ckpt of this run, complete; "" as long as there is none."""
        return self._record.last

    @property
    def current_score(self) -> Tensor | None:
        """The score at the newest save that had one; None if there was none or nothing is monitored."""
        return _tensor(self._record.current_score)


def _tensor(score: float | None) -> Tensor | None:
    return None if score is None else as_tensor(score)
