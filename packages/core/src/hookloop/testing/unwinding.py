"""Rule: what a callback changes outside of itself is given back, however the run ends."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hookloop import Callback, LightningModule, Order
from hookloop.callback import HOOKS, order_of
from hookloop.testing.outside import Outside, changed_marks, hooks_of, marks_of
from hookloop.testing.runs import NotTriedError, Subject, broken, needed, told, trainer_of
from hookloop.testing.tiny import TinyDataModule
from hookloop.view import TrainerView

# Not a hook of a run, or one in which an exception was raised already.
_NOT_A_PLACE = ("state_dict", "load_state_dict", "on_exception")


class PlantedError(Exception):
    """The exception that ends a run on purpose."""


class _Saves(Callback):
    """Writes a file after the first batch, so that the hooks of a save come."""

    order = Order.LAST

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        if trainer.batch_idx == 1 and trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


class _Preempts(Callback):
    """Asks the process to end after the second batch."""

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *arguments: Any) -> None:
        if trainer.batch_idx == 2:
            signal.raise_signal(signal.SIGTERM)


def gives_back_what_it_took(subject: Subject) -> None:
    """After a run that ended well, and after an exception in any hook, all is as it was outside of the callback.

    That is: torch's and Python's global settings, environment variables, signal handlers, threads, open files; and
    which parameters of the module learn, which of its parts are in train mode, and its hooks, unless they are named in
    `lasting`. The callback raises no other exception while it is unwound, and can be used again.
    """
    checkpoint = subject.new_folder() / "before.ckpt"
    trainer_of(subject, [_Saves(checkpoint)]).fit(subject.module(), datamodule=TinyDataModule())
    for entry in ("fit", "validate", "test", "predict"):
        _ends_well(subject, entry)
    for hook in HOOKS:
        if hook in _NOT_A_PLACE or (hook == "on_preemption" and not _on_the_main_thread()):
            continue
        _is_ended(subject, hook, checkpoint)


def _ends_well(subject: Subject, entry: str) -> None:
    callback, module = subject.make(), subject.module()
    trainer = trainer_of(subject, [callback])
    _all_is_given_back(
        subject,
        callback,
        module,
        f"a {entry} that ended well",
        lambda: needed(lambda: getattr(trainer, entry)(module, datamodule=TinyDataModule()), callback),
    )


def _is_ended(subject: Subject, hook: str, checkpoint: Path) -> None:
    callback, module = subject.make(), subject.module()

    def plant(self: Callback, *arguments: Any) -> None:
        raise PlantedError(hook)

    # Of its Order, and behind it: whatever the callback does in this hook is done.
    planted: Callback = type("Planted", (Callback,), {"order": order_of(callback), hook: plant})()
    others: list[Callback] = [_Saves(subject.new_folder() / "saved.ckpt")]
    if hook == "on_preemption":
        others.append(_Preempts())
    trainer = trainer_of(subject, [callback, planted, *others])
    entry = next((name for name in ("test", "predict") if name in hook.split("_")), "fit")
    ckpt_path = checkpoint if hook == "on_load_checkpoint" else None

    def run() -> None:
        try:
            getattr(trainer, entry)(module, datamodule=TinyDataModule(), ckpt_path=ckpt_path)
        except PlantedError as error:
            notes = getattr(error, "__notes__", [])
            if notes:
                raise broken(
                    callback,
                    f"raised while a run was unwound after an exception in {hook}: {'; '.join(notes)}.",
                    "on_exception and teardown come after every error, also before a run has really begun: look there "
                    "whether there is something to give back.",
                ) from error
        except Exception as error:
            raise NotTriedError(f"a run with it fails: {told(error, callback)}") from error

    _all_is_given_back(subject, callback, module, f"an exception in {hook}", run)
    again = trainer_of(subject, [callback], max_epochs=1, limit_train_batches=1, limit_val_batches=1)
    try:
        again.fit(subject.module(), datamodule=TinyDataModule())
    except Exception as error:
        raise broken(
            callback,
            f"cannot be used again after an exception in {hook}: {told(error, callback)}.",
            "Begin anew in setup, and give back in teardown, which comes after errors too.",
        ) from error


def _all_is_given_back(
    subject: Subject, callback: Callback, module: LightningModule, after: str, run: Callable[[], None]
) -> None:
    outside, marks = Outside(), marks_of(module) | hooks_of(module)
    try:
        run()
        missing = outside.missing() + changed_marks(marks, marks_of(module) | hooks_of(module), subject.lasting)
    finally:
        outside.put_back()
    if missing:
        raise broken(
            callback,
            f"does not give back what it changed: after {after}, {'; '.join(missing)}.",
            "What setup or a later hook takes, teardown gives back: it comes after errors too, which on_train_end and "
            "its like do not. Name in `lasting` what of the module is meant to stay changed.",
        )


def _on_the_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
