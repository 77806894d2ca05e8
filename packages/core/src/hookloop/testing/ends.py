"""How a run ended: all that two runs are compared by."""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from hookloop import Callback, LightningModule, Trainer
from hookloop.callback import Hooks
from hookloop.hook_checks import overrides
from hookloop.testing.runs import MemoryLogger, Subject


def end_of(
    subject: Subject,
    trainer: Trainer,
    module: LightningModule,
    callback: Callback,
    logger: MemoryLogger,
    folder: Path,
) -> dict[str, Any]:
    """Counters, the callback's state, weights, optimizers, metrics and rows, without what `subject.varying` names.

    Paths in the state are as they would be in any folder.
    """

    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in values.items()
            if not any(fnmatchcase(str(name), pattern) for pattern in subject.varying)
        }

    state: Any = callback.state_dict() if overrides(callback, Hooks, "state_dict") else {}
    return {
        "trainer.global_step": trainer.global_step,
        "trainer.current_epoch": trainer.current_epoch,
        "its state": _without_folder(kept(state) if isinstance(state, dict) else state, str(folder)),
        "the weights": {name: value.clone() for name, value in module.state_dict().items()},
        "the optimizers' states": [optimizer.state_dict() for optimizer in trainer.optimizers],
        "trainer.callback_metrics": kept(dict(trainer.callback_metrics)),
        "rows for loggers": [(step, kept(row)) for step, row in logger.rows],
    }


def _without_folder(value: Any, folder: str) -> Any:
    if isinstance(value, str):
        return value.replace(folder, "<folder>")
    if isinstance(value, dict):
        return {_without_folder(key, folder): _without_folder(one, folder) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_without_folder(one, folder) for one in value)
    return value
