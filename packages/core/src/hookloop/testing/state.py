"""Rules about a callback's state: it can be saved, and with it a resumed run decides as one that was never stopped."""

import io
import pickle
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from hookloop import Callback, LightningModule, Order
from hookloop.callback import Hooks
from hookloop.errors import CallbackContractError, CheckpointError, MisconfigurationError
from hookloop.hook_checks import overrides
from hookloop.testing.ends import end_of
from hookloop.testing.equality import difference
from hookloop.testing.runs import MemoryLogger, NotTriedError, Subject, broken, needed, seed, told, trainer_of
from hookloop.testing.tiny import TinyDataModule
from hookloop.view import TrainerView

_EPOCHS = 4
_BATCHES = 4


class _StoppedError(Exception):
    """The end of a run that is to be resumed."""


class _SavesAndStops(Callback):
    """Saves after everybody else, and ends the run."""

    order = Order.LAST

    def __init__(self, path: Path, hook: str, epoch: int, batch: int) -> None:
        self.path = path
        self.moment = (epoch, batch)
        setattr(self, hook, self.save)

    def save(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        if (trainer.current_epoch, trainer.batch_idx) == self.moment:
            trainer.save_checkpoint(self.path)
            raise _StoppedError


# Where a run is stopped: in words, the hook, the epoch, and the batches that are done.
_MOMENTS = (
    ("after its first epoch", "on_train_epoch_end", 0, _BATCHES),
    ("in the middle of its second epoch", "on_train_batch_end", 1, _BATCHES // 2),
    ("after its third epoch", "on_train_epoch_end", 2, _BATCHES),
)


def state_can_be_saved(subject: Subject) -> None:
    """The state after a fit can be pickled, and torch.load gives it back with weights_only=True, as it was."""
    callback = subject.make()
    if not overrides(callback, Hooks, "state_dict"):
        return
    needed(lambda: trainer_of(subject, [callback]).fit(subject.module(), datamodule=TinyDataModule()), callback)
    plain = "Keep tensors, numbers, strings, and lists and dicts of them in it; make the rest from these when it loads."
    try:
        state = callback.state_dict()
    except Exception as error:
        raise broken(callback, f"has a state_dict that raised after a fit: {told(error, callback)}.", plain) from error
    if not state:
        return
    if not isinstance(state, dict):
        raise broken(callback, f"has a state_dict that returned a {type(state).__name__}.", "Return a dict.")
    file = io.BytesIO()
    try:
        pickle.dumps(state)
        torch.save(state, file)
    except Exception as error:
        raise broken(callback, f"has a state that cannot be pickled: {told(error)}.", plain) from error
    file.seek(0)
    try:
        loaded = torch.load(file, weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise broken(callback, f"has a state that cannot be loaded with weights_only=True: {reason}", plain) from error
    if (found := difference(loaded, state, "state")) is not None:
        raise broken(callback, f"has a state that comes back from a file as another one: {found}.", plain)


def needs_a_state_that_can_be_saved(subject: Subject) -> None:
    """Before a rule that compares states.

    A `NotTriedError` tells that it cannot be saved.
    """
    try:
        state_can_be_saved(subject)
    except CallbackContractError as error:
        raise NotTriedError("its state cannot be saved") from error


def resumes_as_if_never_stopped(subject: Subject) -> None:
    """A run that is stopped and resumed, after an epoch and inside one, ends as a run that was never stopped."""
    needs_a_state_that_can_be_saved(subject)
    expected = _run(subject, subject.new_folder(), None, None)
    for words, hook, epoch, batch in _MOMENTS:
        folder = subject.new_folder()
        path = folder / "stopped.ckpt"
        _run(subject, folder, None, _SavesAndStops(path, hook, epoch, batch))
        if not path.exists():
            continue  # the callback has ended the run before
        found = _run(subject, folder, path, None)
        callback = subject.make()
        what = _difference(found, expected)
        if what is not None:
            raise broken(
                callback,
                f"is not the same after a resume: in a run that was stopped {words} and resumed, {what}, where the "
                "second is of a run that was never stopped.",
                "Return in state_dict what its decisions depend on, and take it over in load_state_dict. Name what "
                "cannot be the same twice, such as seconds, in `varying`.",
            )


def _run(subject: Subject, folder: Path, checkpoint: Path | None, stop: Callback | None) -> dict[str, Any]:
    callback, module, logger = subject.make(), subject.module(), MemoryLogger()
    trainer = trainer_of(
        subject,
        [callback] if stop is None else [callback, stop],
        **{"max_epochs": _EPOCHS, "default_root_dir": folder, "logger": logger} | _without_end(subject),
    )
    seed()

    def fit() -> None:
        with suppress(_StoppedError):
            trainer.fit(module, datamodule=TinyDataModule(_BATCHES), ckpt_path=checkpoint)

    if checkpoint is None:
        needed(fit, callback)
    else:
        _resume(fit, callback)
    return end_of(subject, trainer, module, callback, logger, folder)


def _without_end(subject: Subject) -> dict[str, Any]:
    return {name: subject.arguments[name] for name in ("max_epochs",) if name in subject.arguments}


def _resume(fit: Callable[[], None], callback: Callback) -> None:
    try:
        fit()
    except (CheckpointError, MisconfigurationError) as error:
        raise NotTriedError(f"a checkpoint of a run with it cannot be resumed: {told(error)}") from error
    except Exception as error:
        raise broken(
            callback,
            f"made a resume fail: {told(error, callback)}.",
            "load_state_dict gets what state_dict returned, before on_fit_start and before any batch.",
        ) from error


def _difference(found: dict[str, Any], expected: dict[str, Any]) -> str | None:
    """Where two ends differ. The rows of the resumed run are the last ones of the other."""
    rows = expected["rows for loggers"]
    tail = rows[len(rows) - len(found["rows for loggers"]) :] if found["rows for loggers"] else []
    return difference(found, {**expected, "rows for loggers": tail})
