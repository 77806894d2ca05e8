"""A run that is stopped anywhere, once or twice, keeps the same files with the same scores as one that never was."""

from __future__ import annotations

import signal
import warnings
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import torch

from hookloop import LambdaCallback, LightningModule, Trainer
from hookloop.errors import SIGTERMException
from hookloop_callbacks_checkpoint import ModelCheckpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch.utils.data import DataLoader

    from hookloop.view import TrainerView

STEPS = 12
SCORES = [5.0, 7.0, 3.0, 3.0, 9.0, 1.0, 4.0, float("nan"), 2.0, 8.0, 1.5, 6.0, 0.5]
"""By optimizer steps: what a validation after so many of them says."""


class StoppedError(Exception):
    """Ends a run without any warning to its callbacks, as far as files go: nothing is saved for it."""


class ScoredByStep(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.steps = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        self.log("loss", float(self.global_step % 5))
        return -self.steps.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("score", SCORES[self.global_step])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "best of each epoch": ({"monitor": "score", "save_top_k": 2}, {}),
    "all of them": ({"monitor": "score", "save_top_k": -1}, {"val_check_interval": 2}),
    "largest": ({"monitor": "score", "save_top_k": 3, "mode": "max"}, {"val_check_interval": 0.5}),
    "by steps, waiting": ({"monitor": "score", "save_top_k": 2, "every_n_train_steps": 3}, {"val_check_interval": 2}),
    "by steps, training loss": ({"monitor": "loss", "save_top_k": 2, "every_n_train_steps": 2}, {}),
    "newest by steps": ({"every_n_train_steps": 4}, {}),
    "by time": ({"train_time_interval": timedelta(seconds=3)}, {"val_check_interval": 2}),
    "one name": ({"monitor": "score", "filename": "best"}, {"val_check_interval": 1}),
    "a link": ({"monitor": "score", "save_last": "link"}, {"val_check_interval": 2}),
    "accumulation": ({"monitor": "score", "save_top_k": 2, "every_n_train_steps": 2}, {"accumulate_grad_batches": 2}),
}


class Experiment:
    """The same run again and again, in as many processes as it takes."""

    def __init__(self, folder: Path, name: str, loader: Callable[[int], DataLoader[Any]]) -> None:
        self.folder = folder
        self.settings, self.arguments = SETTINGS[name]
        self._loader = loader
        self._second = 0.0

    def checkpoint(self) -> ModelCheckpoint:
        settings = {"save_last": True, **self.settings}
        return ModelCheckpoint(self.folder, clock=lambda: self._second, **settings)

    def fit(self, stop_at: int | None = None, ask: bool = True, ckpt_path: str | None = None) -> ModelCheckpoint:
        """Train; once `stop_at` batches are done in all, the process is asked to end, or ends just so."""
        checkpoint = self.checkpoint()

        def stop(trainer: TrainerView, *args: Any) -> None:
            self._second += 1
            if trainer.current_epoch * 4 + trainer.batch_idx == stop_at:
                if not ask:
                    raise StoppedError
                signal.raise_signal(signal.SIGTERM)

        trainer = Trainer(
            max_epochs=3,
            callbacks=[checkpoint, LambdaCallback(on_train_batch_end=stop)],
            registered_callbacks=False,
            logger=False,
            enable_progress_bar=False,
            default_root_dir=self.folder,
            num_sanity_val_steps=0,
            **self.arguments,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                trainer.fit(ScoredByStep(), self._loader(4), self._loader(1), ckpt_path=ckpt_path)
            except (SIGTERMException, StoppedError):
                assert stop_at is not None
            else:
                assert stop_at is None
        return checkpoint

    def outcome(self, checkpoint: ModelCheckpoint) -> dict[str, Any]:
        """What there is in the end: files with their steps, and what the callback and each file say of them."""
        state = checkpoint.state_dict()
        contents = {path.name: torch.load(path, weights_only=True) for path in self.folder.glob("*.ckpt")}
        return {
            "files": {
                name: (saved["global_step"], float(saved["state_dict"]["steps"])) for name, saved in contents.items()
            },
            "links": sorted(path.name for path in self.folder.glob("*.ckpt") if path.is_symlink()),
            "state": _comparable(state),
            "states": {name: _comparable(saved["callbacks"][checkpoint.state_key]) for name, saved in contents.items()},
        }


def _comparable(state: dict[str, Any]) -> str:
    # As text: NaN is equal to itself there. What is still to be deleted depends on what was deleted before.
    return repr({key: value for key, value in state.items() if key not in ("run", "dirpath", "seconds", "leaving")})


@pytest.mark.parametrize("name", SETTINGS)
def test_asked_to_end_after_any_batch(name: str, tmp_path: Path, batches: Callable[[int], DataLoader[Any]]) -> None:
    never_stopped = Experiment(tmp_path / "whole", name, batches)
    expected = never_stopped.outcome(never_stopped.fit())
    for stop_at in range(1, STEPS + 1):
        stopped = Experiment(tmp_path / str(stop_at), name, batches)
        stopped.fit(stop_at)
        resumed = stopped.fit(ckpt_path="last")

        assert stopped.outcome(resumed) == expected, f"stopped after batch {stop_at}"


@pytest.mark.parametrize("name", SETTINGS)
def test_asked_to_end_twice(name: str, tmp_path: Path, batches: Callable[[int], DataLoader[Any]]) -> None:
    never_stopped = Experiment(tmp_path / "whole", name, batches)
    expected = never_stopped.outcome(never_stopped.fit())
    for first, second in [(1, 2), (2, 11), (3, 6), (4, 8), (5, 7)]:
        stopped = Experiment(tmp_path / f"{first}-{second}", name, batches)
        stopped.fit(first)
        stopped.fit(second, ckpt_path="last")
        resumed = stopped.fit(ckpt_path="last")

        assert stopped.outcome(resumed) == expected, f"stopped after batches {first} and {second}"


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "by time"])
def test_gone_without_notice_and_resumed_from_the_last_file(
    name: str, tmp_path: Path, batches: Callable[[int], DataLoader[Any]]
) -> None:
    never_stopped = Experiment(tmp_path / "whole", name, batches)
    expected = never_stopped.outcome(never_stopped.fit())
    for stop_at in range(1, STEPS + 1):
        stopped = Experiment(tmp_path / str(stop_at), name, batches)
        stopped.fit(stop_at, ask=False)
        saved = stopped.checkpoint().resolve_checkpoint("last") is not None
        resumed = stopped.fit(ckpt_path="last" if saved else None)

        assert stopped.outcome(resumed) == expected, f"stopped in batch {stop_at}"


def test_what_was_saved_on_being_asked_to_end_stays_the_last_where_nothing_is_saved_after_it(
    tmp_path: Path, batches: Callable[[int], DataLoader[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "rarely", ({"every_n_train_steps": 5}, {}))
    stopped = Experiment(tmp_path, "rarely", batches)
    stopped.fit(STEPS - 1)
    files = stopped.outcome(stopped.fit(ckpt_path="last"))["files"]
    assert {name: steps for name, (steps, _) in files.items()} == {"epoch=2-step=10.ckpt": 10, "last.ckpt": STEPS - 1}
