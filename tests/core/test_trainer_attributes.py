"""What can be asked of a trainer, and what it answers in each stage and hook."""

import inspect
import math
import typing
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from hookloop import Callback, LightningDataModule, LightningModule, Trainer
from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.loggers import CSVLogger
from hookloop.optimizers import LightningOptimizer
from hookloop.profilers import PassThroughProfiler
from hookloop.stage import RunningStage, TrainerFn, TrainerStatus
from hookloop.trainer.attributes import TrainerAttributes
from hookloop.view import TrainerView

from .recording import Batch, QuietDataModule, QuietModule, Saver, Trace, loader, make_trainer

VIEW = {name: member for name, member in vars(TrainerView).items() if not name.startswith("_")}
PROPERTIES = sorted(name for name, member in VIEW.items() if isinstance(member, property))
METHODS = sorted(set(VIEW) - set(PROPERTIES))

# Every attribute is named here; a table or a test further down has its values.
IN_THE_TABLE_OF_A_FIT = {
    *("state", "current_epoch", "global_step", "batch_idx", "is_last_batch", "is_accumulating", "should_update_logs"),
    *("training", "validating", "testing", "predicting", "sanity_checking"),
    *("num_training_batches", "num_val_batches", "num_sanity_val_batches"),
    *("optimizers", "lightning_optimizers", "lr_scheduler_configs"),
}
AS_PASSED = {
    "max_epochs": 7,
    "min_epochs": 2,
    "max_steps": 50,
    "min_steps": 4,
    "fast_dev_run": False,
    "accumulate_grad_batches": 3,
    "val_check_interval": 0.5,
    "check_val_every_n_epoch": 2,
    "log_every_n_steps": 9,
    "gradient_clip_val": 0.5,
    "gradient_clip_algorithm": "value",
}
IN_A_TEST_OF_ITS_OWN = {
    *(
        "should_stop",
        "interrupted",
        "received_sigterm",
        "ckpt_path",
        "ckpt_weights",  # in test_named_weights.py
        "enable_validation",
        "num_test_batches",
        "num_predict_batches",
    ),
    *("estimated_stepping_batches", "callback_metrics", "running_metrics", "logged_metrics", "progress_bar_metrics"),
    *("logger", "loggers", "log_dir", "default_root_dir", "lightning_module", "datamodule"),
    *("train_dataloader", "val_dataloaders", "callbacks", "checkpoint_callbacks", "checkpoint_callback"),
    *("early_stopping_callbacks", "progress_bar_callback", "strategy", "accelerator", "precision", "device"),
    *("global_rank", "local_rank", "world_size", "is_global_zero", "print", "save_checkpoint"),
    *("wait_for_checkpoints", "pause"),
    "profiler",
    *("test_dataloaders", "predict_dataloaders", "batch_samples", "follow_samples"),
    *("trial", "forget_dataloaders"),  # in test_trial.py
}


def test_every_attribute_of_the_view_is_tested_in_this_file() -> None:
    assert IN_THE_TABLE_OF_A_FIT | set(AS_PASSED) | IN_A_TEST_OF_ITS_OWN == set(VIEW)


# The view and the trainer


def hint_of(getter: Callable[..., Any] | None) -> Any:
    assert getter is not None
    return typing.get_type_hints(getter)["return"]


def is_kind_of(given: Any, expected: Any) -> bool:
    """Whether a value of the type `given` is one of the type `expected`, as far as these attributes need it."""
    if expected is Any or given == expected:
        return True
    kinds = [typing.get_origin(one) or one for one in (given, expected)]
    return all(isinstance(kind, type) for kind in kinds) and issubclass(*kinds)


@pytest.mark.parametrize("name", PROPERTIES)
def test_the_trainer_has_every_property_of_the_view_with_its_type(name: str) -> None:
    promised, own = VIEW[name], inspect.getattr_static(Trainer, name)
    assert isinstance(own, property)
    assert is_kind_of(hint_of(own.fget), hint_of(promised.fget))
    if promised.fset is not None:
        assert own.fset is not None
        assert typing.get_type_hints(own.fset)["value"] == typing.get_type_hints(promised.fset)["value"]


@pytest.mark.parametrize("name", METHODS)
def test_the_trainer_has_every_method_of_the_view_with_its_signature(name: str) -> None:
    promised, own = VIEW[name], getattr(Trainer, name)
    assert inspect.signature(own) == inspect.signature(promised)
    assert typing.get_type_hints(own) == typing.get_type_hints(promised)


@pytest.mark.parametrize("name", sorted(VIEW))
def test_every_attribute_of_the_view_is_documented(name: str) -> None:
    text = VIEW[name].__doc__
    assert text
    assert text.splitlines()[0].endswith(".")


@pytest.mark.parametrize("name", sorted(name for name in vars(TrainerAttributes) if not name.startswith("_")))
def test_every_public_attribute_of_the_trainer_is_documented_there_or_in_the_view(name: str) -> None:
    documented = VIEW.get(name) or inspect.getattr_static(Trainer, name)
    assert documented.__doc__


# What was passed


@pytest.mark.parametrize("name", sorted(AS_PASSED))
def test_what_was_passed_can_be_asked_for(name: str, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], **AS_PASSED)
    assert getattr(trainer, name) == AS_PASSED[name]


@pytest.mark.parametrize(("name", "value"), [("max_epochs", 9), ("max_steps", 90), ("accumulate_grad_batches", 4)])
def test_what_may_change_can_be_set_and_is_checked(name: str, value: int, tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], **AS_PASSED)
    setattr(trainer, name, value)
    assert getattr(trainer, name) == value
    with pytest.raises(MisconfigurationError, match=f"{name}=-2 must be a whole number"):
        setattr(trainer, name, -2)
    assert getattr(trainer, name) == value
    others = set(AS_PASSED) - {name}
    assert {other: getattr(trainer, other) for other in others} == {other: AS_PASSED[other] for other in others}


# The view has no setter for the limits: to change them between two fits is the user's business, not a callback's. What
# they do is in test_trainer_setters.
LIMITS = {"max_epochs", "max_steps", "min_epochs", "min_steps", "val_check_interval", "check_val_every_n_epoch"}
WRITABLE = {"should_stop", "accumulate_grad_batches", "callbacks", "log_every_n_steps", "logger", "loggers"} | LIMITS


@pytest.mark.parametrize("name", sorted(set(PROPERTIES) - WRITABLE))
def test_everything_else_cannot_be_set_by_accident(name: str, tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="has no setter"):
        setattr(make_trainer(tmp_path, []), name, None)


# The table of a fit: two epochs of three batches, two batches to a window, two validation batches, one of them in the
# sanity check, a row for the loggers every two steps. A "." stands where nothing is promised.
#
# An optimizer step is taken in the second batch (a full window) and in the third (the epoch's last): two an epoch. The
# row is sent with the second step of each epoch, so what runs in the third batch should log and the rest should not.

COLUMNS = "hook stage epoch step batch last accumulating logs train val sanity optimizers"

BEFORE_TRAINING = """
setup                       train        0 0 0 F F . 0 - - 0
M.configure_optimizers      train        0 0 0 F F . 0 - - 0
on_fit_start                train        0 0 0 F F . 0 - - 1
on_sanity_check_start       sanity_check 0 0 0 F F . 0 - - 1
on_validation_start         sanity_check 0 0 0 F F . 0 2 1 1
on_validation_epoch_start   sanity_check 0 0 0 F F . 0 2 1 1
on_validation_batch_start   sanity_check 0 0 0 F F . 0 2 1 1
M.validation_step           sanity_check 0 0 0 F F . 0 2 1 1
on_validation_batch_end     sanity_check 0 0 0 F F . 0 2 1 1
on_validation_epoch_end     sanity_check 0 0 0 F F . 0 2 1 1
on_validation_end           sanity_check 0 0 0 F F . 0 2 1 1
on_sanity_check_end         sanity_check 0 0 0 F F . 0 2 1 1
on_train_start              train        0 0 0 F F F 3 2 1 1
"""

# {e}: the epoch. {s}, {t}, {u}: no, one and two optimizer steps later than when it began.
EPOCH = """
on_train_epoch_start        train        {e} {s} 0 F F . 3 2 1 1
on_train_batch_start        train        {e} {s} 0 F T F 3 2 1 1
M.training_step             train        {e} {s} 0 F T F 3 2 1 1
on_before_zero_grad         train        {e} {s} 0 F T F 3 2 1 1
on_before_backward          train        {e} {s} 0 F T F 3 2 1 1
on_after_backward           train        {e} {s} 0 F T F 3 2 1 1
on_train_batch_end          train        {e} {s} 1 F T F 3 2 1 1
on_train_batch_start        train        {e} {s} 1 F F F 3 2 1 1
M.training_step             train        {e} {s} 1 F F F 3 2 1 1
on_before_backward          train        {e} {s} 1 F F F 3 2 1 1
on_after_backward           train        {e} {s} 1 F F F 3 2 1 1
on_before_optimizer_step    train        {e} {s} 1 F F F 3 2 1 1
on_after_optimizer_step     train        {e} {t} 1 F F F 3 2 1 1
on_train_batch_end          train        {e} {t} 2 F F F 3 2 1 1
on_train_batch_start        train        {e} {t} 2 T F T 3 2 1 1
M.training_step             train        {e} {t} 2 T F T 3 2 1 1
on_before_zero_grad         train        {e} {t} 2 T F T 3 2 1 1
on_before_backward          train        {e} {t} 2 T F T 3 2 1 1
on_after_backward           train        {e} {t} 2 T F T 3 2 1 1
on_before_optimizer_step    train        {e} {t} 2 T F T 3 2 1 1
on_after_optimizer_step     train        {e} {u} 2 T F T 3 2 1 1
on_train_batch_end          train        {e} {u} 3 T F T 3 2 1 1
on_validation_start         validate     {e} {u} 3 T F . 3 2 1 1
on_validation_epoch_start   validate     {e} {u} 3 T F . 3 2 1 1
on_validation_batch_start   validate     {e} {u} 3 T F . 3 2 1 1
M.validation_step           validate     {e} {u} 3 T F . 3 2 1 1
on_validation_batch_end     validate     {e} {u} 3 T F . 3 2 1 1
on_validation_batch_start   validate     {e} {u} 3 T F . 3 2 1 1
M.validation_step           validate     {e} {u} 3 T F . 3 2 1 1
on_validation_batch_end     validate     {e} {u} 3 T F . 3 2 1 1
on_validation_epoch_end     validate     {e} {u} 3 T F . 3 2 1 1
on_validation_end           validate     {e} {u} 3 T F . 3 2 1 1
on_train_epoch_end          train        {e} {u} 3 T F . 3 2 1 1
"""

AFTER_TRAINING = """
on_train_end                train        2 4 0 . F . 3 2 1 1
on_fit_end                  train        2 4 0 . F . 3 2 1 1
teardown                    train        2 4 0 . F . 3 2 1 1
"""

TABLE_OF_A_FIT = BEFORE_TRAINING + EPOCH.format(e=0, s=0, t=1, u=2) + EPOCH.format(e=1, s=2, t=3, u=4) + AFTER_TRAINING

EXPECTED = [line.split() for line in TABLE_OF_A_FIT.strip().splitlines() if line]


def cell(value: object) -> str:
    """A value as it is written in the table."""
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "-"
    return str(value)


class Observer(Callback):
    """Writes down, in each of its hooks, what it is told to ask the trainer."""

    def __init__(self, ask: Callable[[TrainerView], Any], hooks: Iterable[str]) -> None:
        self.ask = ask
        self.rows: list[tuple[str, Any]] = []
        for hook in hooks:
            setattr(self, hook, self.hook(hook))

    def hook(self, name: str) -> Callable[..., None]:
        def observe(trainer: TrainerView, *args: Any) -> None:
            self.rows.append((name, self.ask(trainer)))

        return observe


class Observed(QuietModule):
    """Three training batches, two for validation; asks as well, in what only a module has."""

    observer: Observer

    def configure_optimizers(self) -> Any:
        self.observer.hook("M.configure_optimizers")(self.trainer)
        return super().configure_optimizers()

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.observer.hook("M.training_step")(self.trainer)
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.observer.hook("M.validation_step")(self.trainer)

    def val_dataloader(self) -> DataLoader[Any]:
        return loader(2)


def stages_of(trainer: TrainerView) -> str:
    """The stage, and every flag that says another one."""
    flags = {
        "train": trainer.training,
        "validate": trainer.validating,
        "test": trainer.testing,
        "predict": trainer.predicting,
        "sanity_check": trainer.sanity_checking,
    }
    stage = str(trainer.state.stage)
    wrong = [name for name, is_on in flags.items() if is_on is not (name == stage)]
    assert isinstance(trainer, Trainer)
    if trainer.evaluating is not (stage in ("validate", "test", "sanity_check")):
        wrong.append("evaluating")
    return "/".join([stage, *wrong])


def row_of(trainer: TrainerView) -> list[str]:
    assert trainer.state.fn is TrainerFn.FITTING
    assert trainer.state.status is TrainerStatus.RUNNING
    optimizers = len(trainer.optimizers)
    assert (len(trainer.lightning_optimizers), len(trainer.lr_scheduler_configs)) == (optimizers, optimizers)
    values = (
        *(stages_of(trainer), trainer.current_epoch, trainer.global_step, trainer.batch_idx, trainer.is_last_batch),
        *(trainer.is_accumulating, trainer.should_update_logs, trainer.num_training_batches),
        *(trainer.num_val_batches, trainer.num_sanity_val_batches, optimizers),
    )
    return [cell(value) for value in values]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """One fit for all rows of the table."""
    hooks = {row[0] for row in EXPECTED if not row[0].startswith("M.")}
    observer = Observer(row_of, hooks)
    module = Observed()
    module.observer = observer
    arguments = {"max_epochs": 2, "accumulate_grad_batches": 2, "num_sanity_val_steps": 1, "log_every_n_steps": 2}
    make_trainer(tmp_path_factory.mktemp("fit"), [observer], **arguments).fit(module)
    return [[hook, *values] for hook, values in observer.rows]


def test_the_rows_of_the_table_are_the_hooks_of_a_fit(observed: list[list[str]]) -> None:
    assert [row[0] for row in observed] == [row[0] for row in EXPECTED]


@pytest.mark.parametrize("column", COLUMNS.split()[1:])
def test_the_trainer_answers_in_every_hook_of_a_fit_what_the_table_says(observed: list[list[str]], column: str) -> None:
    index = COLUMNS.split().index(column)
    expected = [f"{number} {row[0]}: {row[index]}" for number, row in enumerate(EXPECTED) if row[index] != "."]
    answers = [
        f"{number} {told[0]}: {told[index]}"
        for number, (told, row) in enumerate(zip(observed, EXPECTED, strict=True))
        if row[index] != "."
    ]
    assert answers == expected


def test_without_accumulation_no_batch_is_accumulating(tmp_path: Path) -> None:
    hooks = ["on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"]
    hooks += ["on_before_optimizer_step", "on_after_optimizer_step", "on_train_batch_end", "on_train_epoch_end"]
    observer = Observer(lambda trainer: trainer.is_accumulating, hooks)
    module = Observed()
    module.observer = observer
    make_trainer(tmp_path, [observer], max_epochs=1, limit_val_batches=0).fit(module)
    # Three batches with seven hooks and a step each, configure_optimizers, and the end of the epoch.
    assert len(observer.rows) == 3 * 8 + 2
    assert {hook for hook, accumulating in observer.rows if accumulating} == set()


@pytest.mark.parametrize(("every", "sent"), [(0, "FFFFFF"), (1, "TTTTTT"), (2, "FTFTFT"), (4, "FFFTFF"), (7, "FFFFFF")])
def test_should_update_logs_tells_which_steps_are_sent(every: int, sent: str, tmp_path: Path) -> None:
    observer = Observer(lambda trainer: trainer.should_update_logs, ["on_train_batch_start", "on_train_batch_end"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=2, limit_val_batches=0, log_every_n_steps=every)
    trainer.fit(QuietModule())
    assert "".join(cell(told) for hook, told in observer.rows if hook == "on_train_batch_start") == sent
    assert "".join(cell(told) for hook, told in observer.rows if hook == "on_train_batch_end") == sent


def test_should_update_logs_is_true_in_the_step_that_asks_to_stop(tmp_path: Path) -> None:
    class Stops(Observer):
        def on_before_zero_grad(self, trainer: TrainerView, pl_module: LightningModule, optimizer: Any) -> None:
            trainer.should_stop = trainer.batch_idx == 1

    observer = Stops(lambda trainer: trainer.should_update_logs, ["on_train_batch_start", "on_train_batch_end"])
    make_trainer(tmp_path, [observer], max_epochs=2, limit_val_batches=0).fit(QuietModule())
    assert "".join(cell(told) for _, told in observer.rows) == "FFFT"


def test_validation_inside_an_epoch_knows_how_many_batches_are_done(tmp_path: Path) -> None:
    observer = Observer(
        lambda trainer: (trainer.batch_idx, trainer.is_last_batch, trainer.global_step, trainer.is_accumulating),
        ["on_validation_start"],
    )
    arguments = {"max_epochs": 1, "val_check_interval": 1, "num_sanity_val_steps": 0, "accumulate_grad_batches": 2}
    make_trainer(tmp_path, [observer], **arguments).fit(QuietModule())
    assert [told for _, told in observer.rows] == [(1, False, 0, True), (2, False, 1, False), (3, True, 2, False)]


# The other entry points

ENTRY_POINTS = {
    "validate": (TrainerFn.VALIDATING, "validation"),
    "test": (TrainerFn.TESTING, "test"),
    "predict": (TrainerFn.PREDICTING, "predict"),
}


class TwoOfEach(QuietModule):
    """Two batches and three batches for validation and test, two for prediction."""

    def val_dataloader(self) -> Any:
        return [loader(2), loader(3)]

    def test_dataloader(self) -> Any:
        return [loader(2), loader(3)]

    def predict_dataloader(self) -> Any:
        return loader(2)


@pytest.mark.parametrize("entry", sorted(ENTRY_POINTS))
@pytest.mark.parametrize("fitted", [False, True], ids=["on its own", "after a fit"])
def test_the_other_entry_points_have_one_stage_from_setup_to_teardown(entry: str, fitted: bool, tmp_path: Path) -> None:
    fn, kind = ENTRY_POINTS[entry]
    hooks = ["setup", f"on_{kind}_start", f"on_{kind}_epoch_start", f"on_{kind}_batch_start", f"on_{kind}_batch_end"]
    hooks += [f"on_{kind}_epoch_end", f"on_{kind}_end", "teardown"]

    def ask(trainer: TrainerView) -> Any:
        return trainer.state.fn, stages_of(trainer), trainer.state.status, trainer.current_epoch

    observer = Observer(ask, hooks)
    module = TwoOfEach()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    if fitted:
        trainer.fit(module)
    trainer.callbacks.append(observer)
    getattr(trainer, entry)(module)

    told = (fn, entry, TrainerStatus.RUNNING, int(fitted))
    batches = 2 if entry == "predict" else 5
    assert observer.rows == [
        *((hook, told) for hook in hooks[:3]),
        *((hook, told) for _ in range(batches) for hook in hooks[3:5]),
        *((hook, told) for hook in hooks[5:]),
    ]
    assert (trainer.state.fn, trainer.state.stage, trainer.state.status) == (fn, None, TrainerStatus.FINISHED)
    assert trainer.state.finished
    assert trainer.state.stopped
    assert not trainer.interrupted
    assert not trainer.evaluating


def test_the_numbers_of_batches_are_those_of_the_entry_point_that_runs(tmp_path: Path) -> None:
    def numbers(trainer: TrainerView) -> list[Any]:
        return [
            *(trainer.num_training_batches, trainer.num_val_batches, trainer.num_sanity_val_batches),
            *(trainer.num_test_batches, trainer.num_predict_batches),
        ]

    trainer = make_trainer(tmp_path, [], max_epochs=1, limit_test_batches=2)
    module = TwoOfEach()
    assert numbers(trainer) == [0, [], [], [], []]
    trainer.fit(module)
    assert numbers(trainer) == [3, [2, 3], [2, 2], [], []]
    trainer.validate(module, verbose=False)
    assert numbers(trainer)[1] == [2, 3]
    trainer.test(module, verbose=False)
    assert numbers(trainer)[3] == [2, 2]
    trainer.predict(module)
    assert numbers(trainer)[4] == [2]


def test_the_predict_loaders_and_the_samples_of_a_batch_are_those_of_the_running_prediction(tmp_path: Path) -> None:
    class Follows(Callback):
        def on_predict_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.follow_samples()

    trainer, module = make_trainer(tmp_path, [Follows()]), TwoOfEach()
    assert trainer.predict_dataloaders is None
    trainer.predict(module)
    loaders: Any = trainer.predict_dataloaders
    assert len(loaders) == 2
    last = list(loaders.batch_sampler)[-1]
    assert trainer.batch_samples == last
    trainer.test(module, verbose=False)
    assert len(trainer.test_dataloaders) == 2


class Endless(IterableDataset[Batch]):
    def __iter__(self) -> Any:
        while True:
            yield [torch.ones(1, 2)]


def test_a_loader_without_a_length_has_infinitely_many_batches(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], max_steps=2, limit_val_batches=1)
    trainer.fit(QuietModule(), DataLoader(Endless(), batch_size=None), DataLoader(Endless(), batch_size=None))
    assert (trainer.num_training_batches, trainer.num_val_batches) == (math.inf, [1])
    assert trainer.estimated_stepping_batches == 2


# After an error


def test_after_an_error_the_trainer_is_interrupted_until_the_next_run(tmp_path: Path) -> None:
    class Fails(Observer):
        def on_train_batch_start(self, trainer: TrainerView, *args: Any) -> None:
            assert not trainer.interrupted
            if trainer.current_epoch == 1:
                raise RuntimeError("planted")

    def ask(trainer: TrainerView) -> Any:
        return trainer.interrupted, trainer.state.status, trainer.state.stage, trainer.current_epoch

    observer = Fails(ask, ["on_exception", "teardown"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=2)
    assert not trainer.interrupted
    with pytest.raises(RuntimeError, match="planted"):
        trainer.fit(QuietModule())
    told = (True, TrainerStatus.INTERRUPTED, RunningStage.TRAINING, 1)
    assert observer.rows == [("on_exception", told), ("teardown", told)]
    assert (trainer.interrupted, trainer.state.stage, trainer.state.stopped) == (True, None, True)
    assert not trainer.state.finished
    trainer.callbacks.clear()
    trainer.validate(QuietModule(), verbose=False)
    assert not trainer.interrupted


def test_a_fit_that_trains_nothing_ends_as_a_fit_and_not_in_the_sanity_check(tmp_path: Path) -> None:
    observer = Observer(lambda trainer: trainer.sanity_checking, ["on_sanity_check_end", "on_fit_end", "teardown"])
    make_trainer(tmp_path, [observer], max_epochs=0).fit(QuietModule())
    assert observer.rows == [("on_sanity_check_end", True), ("on_fit_end", False), ("teardown", False)]


# One test for each of the others


def test_should_stop_is_a_bool_that_the_next_fit_forgets(tmp_path: Path) -> None:
    class Stops(Callback):
        def on_train_epoch_end(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            trainer.should_stop = torch.tensor(True)  # type: ignore[assignment]
            assert trainer.should_stop is True
            assert trainer.state.should_stop is True

    trainer = make_trainer(tmp_path, [Stops()], max_epochs=5, limit_val_batches=0)
    assert trainer.should_stop is False
    module = QuietModule()
    trainer.fit(module)
    assert (trainer.current_epoch, trainer.should_stop) == (1, True)
    trainer.callbacks.clear()
    trainer.fit(module)
    assert (trainer.current_epoch, trainer.should_stop) == (5, False)


def test_received_sigterm_tells_of_a_signal_that_the_state_holds(tmp_path: Path) -> None:
    observer = Observer(lambda trainer: trainer.received_sigterm, ["setup", "teardown"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=1)
    assert not trainer.received_sigterm
    trainer.fit(QuietModule())
    assert [told for _, told in observer.rows] == [False, False]
    # Who writes it there is tested with the signals.
    trainer.state.received_signal = 15
    assert trainer.received_sigterm is True


def test_ckpt_path_is_the_file_of_the_running_entry_point(tmp_path: Path) -> None:
    observer = Observer(lambda trainer: trainer.ckpt_path, ["setup", "teardown"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=1)
    module = QuietModule()
    trainer.fit(module)
    assert trainer.ckpt_path is None
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer.validate(module, ckpt_path=tmp_path / "a.ckpt", verbose=False)
    assert trainer.ckpt_path == str(tmp_path / "a.ckpt")
    trainer.test(module, verbose=False)
    path = str(tmp_path / "a.ckpt")
    assert [told for _, told in observer.rows] == [None, None, path, path, None, None]


@pytest.mark.parametrize(
    ("arguments", "validates"),
    [
        ({}, True),
        ({"limit_val_batches": 0}, False),
        ({"limit_val_batches": 0.0}, False),
        ({"limit_val_batches": 1}, True),
    ],
    ids=repr,
)
def test_enable_validation_tells_whether_a_fit_validates(
    arguments: dict[str, Any], validates: bool, tmp_path: Path
) -> None:
    observer = Observer(lambda trainer: trainer.enable_validation, ["setup", "on_train_start", "teardown"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=1, **arguments)
    assert not trainer.enable_validation
    trainer.fit(QuietModule())
    assert [told for _, told in observer.rows] == [validates] * 3


def test_a_module_without_a_validation_step_does_not_validate(tmp_path: Path) -> None:
    class TrainsOnly(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
            loss: torch.Tensor = self.layer(batch[0]).mean()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    trainer = make_trainer(tmp_path, [], max_epochs=1)
    with pytest.warns(UserWarning, match=r"val_dataloaders .*TrainsOnly does not define validation_step\(\)"):
        trainer.fit(TrainsOnly(), loader(1), loader(1))
    assert not trainer.enable_validation


def test_estimated_stepping_batches_is_asked_for_inside_configure_optimizers(tmp_path: Path) -> None:
    class Asks(QuietModule):
        steps: float = 0

        def configure_optimizers(self) -> Any:
            self.steps = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    module = Asks()
    trainer = make_trainer(tmp_path, [], max_epochs=4, accumulate_grad_batches=2)
    with pytest.raises(MisconfigurationError, match=r"estimated_stepping_batches needs a module: call fit"):
        _ = trainer.estimated_stepping_batches
    trainer.fit(module)
    # Three batches make two steps, four times.
    assert module.steps == trainer.global_step == 8


def test_metrics_can_be_asked_for_at_any_time(tmp_path: Path) -> None:
    class Logs(QuietModule):
        def on_train_epoch_end(self) -> None:
            self.log("level", 3.0, prog_bar=True)

    trainer = make_trainer(tmp_path, [], max_epochs=1, limit_val_batches=0)
    assert (trainer.callback_metrics, trainer.logged_metrics, trainer.progress_bar_metrics) == ({}, {}, {})
    trainer.fit(Logs())
    assert trainer.callback_metrics == {"level": torch.tensor(3.0)}
    assert trainer.logged_metrics == {"level": torch.tensor(3.0)}
    assert trainer.progress_bar_metrics == {"level": 3.0}


def test_without_a_logger_logs_go_to_the_default_root_dir(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [])
    assert (trainer.logger, list(trainer.loggers)) == (None, [])
    assert trainer.log_dir == trainer.default_root_dir == str(tmp_path)


def test_the_log_dir_is_the_first_loggers_and_the_same_in_every_hook(tmp_path: Path) -> None:
    one, two = CSVLogger(tmp_path / "one", name="run", version=3), CSVLogger(tmp_path / "two")
    observer = Observer(lambda trainer: trainer.log_dir, ["setup", "on_train_start", "on_train_end", "teardown"])
    trainer = Trainer(
        logger=[one, two],
        callbacks=[observer],
        max_epochs=1,
        default_root_dir=tmp_path / "root",
        registered_callbacks=False,
        accelerator="cpu",
    )
    trainer.fit(QuietModule())
    assert {told for _, told in observer.rows} == {str(tmp_path / "one" / "run" / "version_3")}
    assert trainer.loggers == [one, two]
    # The answer is a list of its own.
    assert trainer.loggers is not trainer.loggers


def test_the_parts_of_a_run_can_be_asked_for_during_and_after_it(tmp_path: Path) -> None:
    names = ("lightning_module", "datamodule", "train_dataloader", "val_dataloaders", "optimizers")
    observer = Observer(lambda trainer: [getattr(trainer, name) for name in names], ["setup", "on_train_start"])
    trainer = make_trainer(tmp_path, [observer], max_epochs=1)
    assert [getattr(trainer, name) for name in names] == [None, None, None, None, []]
    module, training, validation = QuietModule(), loader(3), [loader(1), loader(2)]
    trainer.fit(module, training, validation)
    (_, in_setup), (_, in_training) = observer.rows
    assert in_setup == [module, None, None, None, trainer.optimizers]
    assert in_training == [getattr(trainer, name) for name in names]
    assert trainer.lightning_module is trainer.model is module
    assert trainer.train_dataloader is training
    assert trainer.val_dataloaders is validation

    data = QuietDataModule(Trace())
    trainer.test(module, datamodule=data, verbose=False)
    assert trainer.datamodule is data
    assert isinstance(trainer.datamodule, LightningDataModule)
    assert data.trainer is trainer
    assert trainer.train_dataloader is None


def test_optimizers_and_schedulers_are_those_that_configure_optimizers_returned(tmp_path: Path) -> None:
    class Keeps(QuietModule):
        kept: tuple[torch.optim.Optimizer, Any]

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
            self.kept = (optimizer, scheduler)
            settings = {"scheduler": scheduler, "interval": "step", "frequency": 2, "name": "rate"}
            return {"optimizer": optimizer, "lr_scheduler": settings}

    module = Keeps()
    trainer = make_trainer(tmp_path, [], max_epochs=1)
    trainer.fit(module)
    optimizer, scheduler = module.kept
    assert [one is optimizer for one in trainer.optimizers] == [True]
    (wrapped,) = trainer.lightning_optimizers
    assert isinstance(wrapped, LightningOptimizer)
    assert wrapped.optimizer is optimizer
    (config,) = trainer.lr_scheduler_configs
    assert config.scheduler is scheduler
    assert (config.interval, config.frequency, config.name) == ("step", 2, "rate")
    assert (config.monitor, config.strict, config.reduce_on_plateau) == (None, True, False)


def test_callbacks_are_found_by_their_family(tmp_path: Path) -> None:
    def of(family: str | None) -> Callback:
        own: Callback = type("Own", (Callback,), {"family": family})()
        return own

    plain, bar, stops = of(None), of("progress_bar"), of("early_stopping")
    one, two = of("checkpoint"), of("checkpoint")
    trainer = make_trainer(tmp_path, [])
    assert (trainer.checkpoint_callbacks, trainer.early_stopping_callbacks, list(trainer.callbacks)) == ([], [], [])
    assert (trainer.checkpoint_callback, trainer.progress_bar_callback, trainer.early_stopping_callback) == (None,) * 3
    trainer.callbacks.extend([plain, one, bar, two, stops])
    assert trainer.checkpoint_callbacks == [one, two]
    assert trainer.checkpoint_callback is one
    assert trainer.early_stopping_callbacks == [stops]
    assert trainer.early_stopping_callback is stops
    assert trainer.progress_bar_callback is bar
    assert list(trainer.callbacks) == [plain, one, bar, two, stops]


def test_one_process_on_the_cpu_is_what_this_trainer_says_it_is(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, [], precision="bf16-mixed")
    assert trainer.device == trainer.strategy.root_device == torch.device("cpu")
    assert (trainer.accelerator.name(), trainer.precision) == ("cpu", "bf16-mixed")
    assert (trainer.global_rank, trainer.local_rank, trainer.world_size, trainer.is_global_zero) == (0, 0, 1, True)
    assert type(trainer.profiler) is PassThroughProfiler
    strategy = trainer.strategy
    strategy.barrier("here")
    assert strategy.broadcast({"a": 1}) == {"a": 1}
    assert strategy.reduce(torch.tensor(3.0)) == 3.0
    assert strategy.all_gather(torch.ones(2)).shape == (1, 2)
    decisions = [strategy.reduce_boolean_decision(told, all=every) for told in (True, False) for every in (True, False)]
    assert decisions == [True, True, False, False]


def test_print_prints_or_hands_over_to_the_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Bar(Callback):
        family = "progress_bar"

        def __init__(self) -> None:
            self.printed: list[Any] = []

        def print(self, *args: Any, **kwargs: Any) -> None:
            self.printed.append((args, kwargs))

    class SilentBar(Callback):
        family = "progress_bar"

    make_trainer(tmp_path, []).print("one", 2, sep="-")
    make_trainer(tmp_path, [SilentBar()]).print("three", end="!")
    assert capsys.readouterr().out == "one-2\nthree!"
    bar = Bar()
    make_trainer(tmp_path, [bar]).print("four", 5, sep="-")
    assert bar.printed == [(("four", 5), {"sep": "-"})]
    assert capsys.readouterr().out == ""


def test_a_checkpoint_can_be_saved_from_a_hook_and_not_before_a_run(tmp_path: Path) -> None:
    saver = Saver(Trace(), tmp_path)
    trainer = make_trainer(tmp_path, [saver], max_epochs=2, limit_val_batches=0)
    with pytest.raises(HookloopError, match=r"trainer\.save_checkpoint\(\) needs a module: call fit"):
        trainer.save_checkpoint(tmp_path / "early.ckpt")
    trainer.fit(QuietModule())
    steps = [torch.load(saver.path(epoch), weights_only=True)["global_step"] for epoch in (0, 1)]
    assert steps == [3, 6]
    assert not (tmp_path / "early.ckpt").exists()
