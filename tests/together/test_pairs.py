"""Every pair of shipped callbacks trains, resumes as if it had never stopped, and leaves what is learned alone.

The pairs are made of whatever registers a class in the entry-point group `hookloop.callbacks`: a new one joins by being
there. One whose constructor needs arguments gets them in `EXAMPLES`; a pair that is refused on purpose says why in the
callbacks themselves (a family of which a run has one, or `conflicts`).
"""

import inspect
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, Order, Trainer
from hookloop.callback import declared_names
from hookloop.discovery import callback_class, callback_class_names
from hookloop.errors import MisconfigurationError
from hookloop.testing import TinyDataModule, TinyModule
from hookloop.testing.ends import end_of
from hookloop.testing.equality import difference
from hookloop.testing.runs import MemoryLogger, Subject, seed

EPOCHS, BATCHES = 3, 4

ONE_OF_A_FAMILY = ("progress_bar", "model_summary", "timer")
"""A run has one callback of these families."""

EXAMPLES: dict[str, Callable[[type[Callback], Path], Callback]] = {
    "BackboneFinetuning": lambda kind, folder: make(kind, 1),
    "BaseFinetuning": lambda kind, folder: make(unfreezing(kind)),
    "BatchSizeFinder": lambda kind, folder: make(kind, stages=("predict",)),  # of a fit it changes the batches
    "EarlyStopping": lambda kind, folder: make(kind, monitor="wavering", patience=3, verbose=True),
    "GradientAccumulationScheduler": lambda kind, folder: make(kind, {0: 1, 2: 1}),
    "GradualUnfreezing": lambda kind, folder: make(kind, {1: "net.0"}),
    # Of two steps it suggests none, so that what is learned stays the same.
    "LearningRateFinder": lambda kind, folder: make(kind, num_training_steps=2, update_attr=False),
    "LearningRateMonitor": lambda kind, folder: make(kind, "step", log_momentum=True),
    "ModelCheckpoint": lambda kind, folder: make(kind, folder / "kept", monitor="wavering", save_last=True),
    "ModelPruning": lambda kind, folder: make(kind, "l1_unstructured", amount=0.3),
    "OnExceptionCheckpoint": lambda kind, folder: make(kind, folder / "failed"),
    "PredictionWriter": lambda kind, folder: make(kind, folder / "predictions"),
}
"""How a callback is made, if not without arguments; `folder` is its run's own."""

CHANGE_WHAT_IS_LEARNED = (
    "BackboneFinetuning",
    "BaseFinetuning",
    "EMAWeightAveraging",
    "GradualUnfreezing",
    "ModelPruning",
    "StochasticWeightAveraging",
    "WeightAveraging",
)
"""That is what they are for; with all others the weights are those of a run without callbacks."""

VARYING = ("run", "seconds", "time_elapsed", "device*/*")
"""What no two runs have the same: the identity by which a callback knows its own files, time, and what
the machine does."""

NAMES = callback_class_names()
PAIRS = list(combinations(NAMES, 2))


def make(kind: Any, *arguments: Any, **keywords: Any) -> Callback:
    one: Callback = kind(*arguments, **keywords)
    return one


def unfreezing(kind: Any) -> Any:
    """A class of a user's that freezes a layer until epoch 1."""

    def freeze_before_training(self: Any, pl_module: Any) -> None:
        self.freeze(pl_module.net[0])

    def finetune_function(self: Any, pl_module: Any, epoch: int, optimizer: Any) -> None:
        if epoch == 1:
            self.make_trainable(pl_module.net[0])

    hooks = {"freeze_before_training": freeze_before_training, "finetune_function": finetune_function}
    return type(kind.__name__, (kind,), hooks)


def made(name: str, folder: Path) -> Callback:
    kind = callback_class(name)
    return EXAMPLES[name](kind, folder) if name in EXAMPLES else kind()


class StoppedError(Exception):
    pass


class Stops(Callback):
    """Saves in the middle of the second epoch, after everybody else, and ends the run."""

    order = Order.LAST

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if (trainer.current_epoch, batch_idx) == (1, BATCHES // 2):
            trainer.save_checkpoint(self.path)
            raise StoppedError


def fit(
    folder: Path, callbacks: list[Callback], stop: Callback | None = None, checkpoint: Path | None = None
) -> dict[str, Any]:
    """How a run ends: counters, weights, optimizers, metrics, rows for loggers, and the state of each callback."""
    module, logger = TinyModule(), MemoryLogger()
    vars(module)["backbone"] = module.net[0]  # a name for BackboneFinetuning, and no other part
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[*callbacks, *([] if stop is None else [stop])],
        registered_callbacks=False,
        logger=logger,
        log_every_n_steps=1,
        default_root_dir=folder,
    )
    seed()
    data = TinyDataModule(BATCHES)
    if stop is None:
        trainer.fit(module, datamodule=data, ckpt_path=checkpoint)
    else:
        with pytest.raises(StoppedError):
            trainer.fit(module, datamodule=data)
    subject = Subject(TinyCallback, folder, varying=VARYING)
    ends = {}
    for callback in callbacks or [TinyCallback()]:
        end = end_of(subject, trainer, module, callback, logger, folder)
        ends[f"the state of {type(callback).__name__}"] = end.pop("its state")
        ends |= end
    return ends


class TinyCallback(Callback):
    """Does nothing."""


def refused(one: Callback, other: Callback) -> bool:
    """Whether the two say of themselves that they cannot be in one run."""
    if one.family == other.family and one.family in ONE_OF_A_FAMILY:
        return True
    for first, second in ((one, other), (other, one)):
        names = {second.family, f"{type(second).__module__.partition('.')[0]}.{type(second).__name__}"}
        if names & set(declared_names(first, "conflicts")):
            return True
    return False


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The weights after a run without callbacks."""
    weights: dict[str, Any] = fit(tmp_path_factory.mktemp("alone"), [])["the weights"]
    return weights


def test_every_installed_callback_is_in_a_pair_and_can_be_made(tmp_path: Path) -> None:
    assert len(NAMES) >= 7
    for name in NAMES:
        if name not in EXAMPLES:
            required = [
                one.name
                for one in inspect.signature(callback_class(name)).parameters.values()
                if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
            ]
            assert not required, f"{name} needs {required}: say in EXAMPLES how it is made"
        assert isinstance(made(name, tmp_path), Callback)


@pytest.mark.parametrize(("one", "other"), PAIRS, ids=[f"{one}-{other}" for one, other in PAIRS])
def test_a_pair_trains_and_resumes_exactly_or_is_refused_by_name(
    one: str, other: str, tmp_path: Path, learned: dict[str, Any]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    for folder in (whole, stopped):
        folder.mkdir()
    pair = [made(one, whole), made(other, whole)]
    if refused(*pair):
        with pytest.raises(MisconfigurationError) as error:
            fit(whole, pair)
        assert one in str(error.value)
        assert other in str(error.value)
        return

    expected = fit(whole, pair)
    assert (expected["trainer.global_step"], expected["trainer.current_epoch"]) == (EPOCHS * BATCHES, EPOCHS)
    if not {one, other} & set(CHANGE_WHAT_IS_LEARNED):
        assert difference(expected["the weights"], learned) is None

    # Stopped as this pair, and resumed as the same one the other way round.
    checkpoint = stopped / "stopped.ckpt"
    fit(stopped, [made(one, stopped), made(other, stopped)], Stops(checkpoint))
    found = fit(stopped, [made(other, stopped), made(one, stopped)], checkpoint=checkpoint)

    rows = expected["rows for loggers"]
    tail = rows[len(rows) - len(found["rows for loggers"]) :]
    assert len(tail) > BATCHES
    assert difference(found, {**expected, "rows for loggers": tail}) is None
