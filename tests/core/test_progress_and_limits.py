"""How far a run has come, and how far it may go."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hookloop import LightningModule, Trainer
from hookloop.errors import CheckpointError, MisconfigurationError
from hookloop.limits import Limits
from hookloop.progress import Progress

from .fitting import Regression, loader, trainer_in

# ------------------------------------------------------------------------------------------------ progress

NOTHING_DONE = Progress().state_dict()
FLAGS = tuple(name for name, value in NOTHING_DONE.items() if isinstance(value, bool))
COUNTERS = tuple(name for name in NOTHING_DONE if name not in FLAGS)

STATES = st.fixed_dictionaries(
    {name: st.integers(0, 2**70) for name in COUNTERS} | {name: st.booleans() for name in FLAGS}
)
BETWEEN_BATCHES = STATES.map(lambda state: state | {"batch_counted": True})
BETWEEN_WINDOWS = BETWEEN_BATCHES.map(lambda state: state | {"window_filled": 0})
DAMAGED_VALUES = st.one_of(
    st.none(), st.floats(), st.text(max_size=3), st.lists(st.integers(), max_size=2), st.just(torch.tensor(3))
)


def test_a_run_begins_at_its_beginning() -> None:
    for name in ("epoch", "batch", "global_step", "logged_step", "total_batches", "window_filled"):
        assert NOTHING_DONE[name] == 0
    for name in ("epoch_started", "epoch_schedulers_stepped", "epoch_ended", "last_batch"):
        assert NOTHING_DONE[name] is False
    # No validation, and no batch before the first one: a window is one batch unless the run says otherwise.
    assert (NOTHING_DONE["validated_at"], NOTHING_DONE["window_size"]) == (-1, 1)


@given(BETWEEN_BATCHES)
def test_a_state_comes_back_as_it_was(state: dict[str, Any]) -> None:
    progress = Progress()
    progress.load_state_dict(state)
    assert progress.state_dict() == state
    assert {name: type(value) for name, value in progress.state_dict().items()} == {
        name: type(value) for name, value in state.items()
    }
    again = Progress()
    again.load_state_dict(progress.state_dict())
    assert again == progress


@given(BETWEEN_WINDOWS, st.integers(1, 50))
def test_a_state_inside_a_batch_of_a_window_is_that_of_the_window_s_beginning(state: dict[str, Any], done: int) -> None:
    beginning = state | {"last_batch": False}
    progress = Progress()
    progress.load_state_dict(
        beginning
        | {
            "batch": state["batch"] + done,
            "total_batches": state["total_batches"] + done,
            "window_filled": done + 1,
            "batch_counted": False,
        }
    )
    progress.steps_before = progress.global_step
    found = progress.state_dict()
    assert found | {"validated_at": state["validated_at"]} == beginning


def test_a_state_is_a_copy() -> None:
    progress = Progress(epoch=3)
    state = progress.state_dict()
    progress.epoch = 4
    assert state["epoch"] == 3
    state["epoch"] = 9
    assert progress.epoch == 4


def test_a_state_of_a_later_version_may_hold_more() -> None:
    progress = Progress()
    progress.load_state_dict(Progress(epoch=3).state_dict() | {"invented later": 7})
    assert progress == Progress(epoch=3)


@given(STATES, st.sampled_from(COUNTERS + FLAGS), DAMAGED_VALUES)
def test_a_damaged_counter_is_an_error_that_names_it_and_nothing_is_taken_over(
    state: dict[str, Any], name: str, value: Any
) -> None:
    progress = Progress(epoch=3, global_step=8)
    with pytest.raises(
        CheckpointError, match=rf"(?s)progress holds {name}=.*whole number.*damaged.*another checkpoint"
    ):
        progress.load_state_dict(state | {name: value})
    assert progress == Progress(epoch=3, global_step=8)


@pytest.mark.parametrize("name", COUNTERS + FLAGS)
def test_a_missing_counter_is_an_error_that_names_it(name: str) -> None:
    state = Progress().state_dict()
    del state[name]
    with pytest.raises(CheckpointError, match=f"progress holds {name}=None"):
        Progress().load_state_dict(state)


@given(STATES)
def test_the_next_epoch_keeps_what_was_done_in_all_and_forgets_the_rest(state: dict[str, Any]) -> None:
    progress = Progress()
    progress.load_state_dict(state)
    progress.begin_next_epoch()
    in_all = {name: state[name] for name in ("global_step", "logged_step", "total_batches", "unvalidated_ms")}
    assert progress.state_dict() == NOTHING_DONE | in_all | {"epoch": state["epoch"] + 1}


# ------------------------------------------------------------------------------------------------ limits, one by one

NO_NUMBERS: tuple[Any, ...] = ("", "3", 0.0, 2.0, 0.5, [], [3], math.nan, math.inf, True, False, torch.tensor(3))

WHOLE: dict[str, tuple[Any, ...]] = {
    # name: the least value, what else is allowed, and what is added to the message
    "max_epochs": (-1, (None,), r" \(-1 means no limit\)"),
    "max_steps": (-1, (), r" \(-1 means no limit\)"),
    "min_epochs": (0, (None,), ""),
    "min_steps": (0, (None,), ""),
    "num_sanity_val_steps": (-1, (), r" \(-1 runs all of them\)"),
    "accumulate_grad_batches": (1, (), ""),
    "log_every_n_steps": (0, (), r" \(0 logs no step\)"),
}
LIMITS_OF_BATCHES = tuple(f"limit_{stage}_batches" for stage in ("train", "val", "test", "predict"))


def bare(**arguments: Any) -> Trainer:
    return Trainer(accelerator="cpu", logger=False, registered_callbacks=False, **arguments)


def good_whole() -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, (least, others, _) in WHOLE.items()
        # Without max_epochs, 1000 is the limit that min_epochs must respect.
        for value in (least, least + 1, 7, *others, *([10**9] if name != "min_epochs" else [1000]))
    ]


def bad_whole() -> list[tuple[str, Any]]:
    return [
        (name, value)
        for name, (least, others, _) in WHOLE.items()
        for value in (least - 1, -(10**9), *NO_NUMBERS, *([None] if None not in others else []))
    ]


@pytest.mark.parametrize(("name", "value"), good_whole())
def test_a_whole_number_from_the_least_one_on_is_taken(name: str, value: Any) -> None:
    defaults = {"max_epochs": 1000, "min_epochs": 0, "min_steps": 0}
    trainer = bare(**{name: value})
    found = getattr(trainer, name, None) if name != "num_sanity_val_steps" else value
    assert found == (defaults[name] if value is None else value)


@pytest.mark.parametrize(("name", "value"), bad_whole(), ids=lambda each: repr(each))
def test_anything_else_is_refused_with_the_least_value(name: str, value: Any) -> None:
    least, _, hint = WHOLE[name]
    message = rf"^{name}=.* must be a whole number of at least {least}{hint}\.$"
    with pytest.raises(MisconfigurationError, match=message) as caught:
        bare(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize("name", [*LIMITS_OF_BATCHES, "val_check_interval"])
@pytest.mark.parametrize("value", [1, 7, 10**9, 5e-324, 0.25, 1.0])
def test_a_number_of_batches_or_a_share_is_taken(name: str, value: float) -> None:
    bare(**{name: value})


@pytest.mark.parametrize("name", LIMITS_OF_BATCHES)
@pytest.mark.parametrize("value", [0, 0.0])
def test_no_batches_at_all_is_a_limit(name: str, value: float) -> None:
    bare(**{name: value})


@pytest.mark.parametrize("name", [*LIMITS_OF_BATCHES, "val_check_interval"])
@pytest.mark.parametrize(
    "value", [-1, -0.1, 1.0000001, 1.5, 2.0, math.nan, math.inf, -math.inf, True, False, None, "0.5", [0.5]]
)
def test_any_other_amount_is_refused(name: str, value: Any) -> None:
    least = 1 if name == "val_check_interval" else 0
    message = rf"^{name}=.* must be a whole number of batches of at least {least}, or a fraction between 0\.0 and 1\.0"
    with pytest.raises(MisconfigurationError, match=message) as caught:
        bare(**{name: value})
    assert f"{name}={value!r}" in str(caught.value)


@pytest.mark.parametrize("value", [0, 0.0])
def test_validation_after_no_batch_is_refused(value: float) -> None:
    with pytest.raises(MisconfigurationError, match=rf"val_check_interval={value!r} must be"):
        bare(val_check_interval=value)


@pytest.mark.parametrize("value", [1, 2, 10**9])
def test_validation_after_so_many_epochs_is_taken(value: int) -> None:
    assert bare(check_val_every_n_epoch=value).check_val_every_n_epoch == value


def test_validation_by_batches_alone_is_taken() -> None:
    assert bare(check_val_every_n_epoch=None, val_check_interval=1000).check_val_every_n_epoch is None


@pytest.mark.parametrize("value", [0, -1, *NO_NUMBERS])
def test_validation_after_anything_else_is_refused(value: Any) -> None:
    message = r"^check_val_every_n_epoch=.* whole number of at least 1 \(None counts batches only\)"
    with pytest.raises(MisconfigurationError, match=message):
        bare(check_val_every_n_epoch=value)


# ------------------------------------------------------------------------------------------------ limits, together


@pytest.mark.parametrize(
    ("arguments", "max_epochs", "max_steps"),
    [
        ({}, 1000, -1),
        ({"max_epochs": 3}, 3, -1),
        ({"max_steps": 50}, -1, 50),
        ({"max_steps": 0}, -1, 0),
        ({"max_epochs": 3, "max_steps": 50}, 3, 50),
        ({"max_epochs": -1}, -1, -1),
        ({"max_epochs": -1, "max_steps": 50}, -1, 50),
        ({"max_epochs": 0}, 0, -1),
        ({"max_epochs": None, "max_steps": -1}, 1000, -1),
    ],
    ids=str,
)
def test_without_any_limit_a_fit_has_1000_epochs(arguments: dict[str, Any], max_epochs: int, max_steps: int) -> None:
    trainer = bare(**arguments)
    assert (trainer.max_epochs, trainer.max_steps) == (max_epochs, max_steps)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"min_epochs": 4, "max_epochs": 3},
            r"^min_epochs=4 is larger than max_epochs=3: raise max_epochs or lower min_epochs\.$",
        ),
        ({"min_epochs": 1001}, r"^min_epochs=1001 is larger than max_epochs=1000"),
        (
            {"min_steps": 51, "max_steps": 50},
            r"^min_steps=51 is larger than max_steps=50: raise max_steps or lower min_steps\.$",
        ),
        ({"min_steps": 1, "max_steps": 0}, r"^min_steps=1 is larger than max_steps=0"),
        (
            {"check_val_every_n_epoch": None},
            r"^val_check_interval=1\.0 is a fraction.*check_val_every_n_epoch=None.*val_check_interval=1000",
        ),
        ({"check_val_every_n_epoch": None, "val_check_interval": 0.5}, r"^val_check_interval=0\.5 is a fraction"),
    ],
    ids=str,
)
def test_limits_that_contradict_each_other_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        bare(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_epochs": 3, "max_epochs": 3},
        {"min_epochs": 5000, "max_epochs": -1},
        {"min_epochs": 5000, "max_steps": 50},
        {"min_steps": 50, "max_steps": 50},
        {"min_steps": 50},
        {"min_steps": 50, "max_epochs": 1},
    ],
    ids=str,
)
def test_limits_that_do_not_are_taken(arguments: dict[str, Any]) -> None:
    trainer = bare(**arguments)
    for name, value in arguments.items():
        assert getattr(trainer, name) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_epochs", 7), ("max_epochs", -1), ("max_steps", 7), ("max_steps", -1), ("accumulate_grad_batches", 7)],
)
def test_a_limit_can_be_changed(name: str, value: int) -> None:
    trainer = bare(min_epochs=2, max_epochs=5, min_steps=2)
    setattr(trainer, name, value)
    assert getattr(trainer, name) == value


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("max_epochs", 1, "min_epochs=2 is larger than max_epochs=1"),
        ("max_epochs", -2, "max_epochs=-2 must be"),
        ("max_epochs", None, "max_epochs=None must be"),
        ("max_steps", 1, "min_steps=2 is larger than max_steps=1"),
        ("max_steps", 2.5, r"max_steps=2\.5 must be"),
        ("accumulate_grad_batches", 0, "accumulate_grad_batches=0 must be"),
    ],
)
def test_a_change_that_cannot_be_is_refused_and_nothing_changes(name: str, value: Any, message: str) -> None:
    trainer = bare(min_epochs=2, max_epochs=5, min_steps=2)
    before = getattr(trainer, name)
    with pytest.raises(MisconfigurationError, match=message):
        setattr(trainer, name, value)
    assert getattr(trainer, name) == before


def test_several_limits_change_together_or_not_at_all() -> None:
    limits = Limits(min_epochs=2, max_epochs=3)
    limits.change(min_epochs=5, max_epochs=6)
    assert (limits.min_epochs, limits.max_epochs) == (5, 6)
    with pytest.raises(MisconfigurationError, match="min_epochs=9 is larger than max_epochs=8"):
        limits.change(max_epochs=8, min_epochs=9)
    assert (limits.min_epochs, limits.max_epochs) == (5, 6)


# ------------------------------------------------------------------------------------------------ how many batches


@pytest.mark.parametrize(
    ("limit", "length", "batches"),
    [
        (1.0, 7, 7),
        (1.0, math.inf, math.inf),
        (1.0, 0, 0),
        (0.0, 7, 0),
        (0.0, math.inf, 0),
        (0, 7, 0),
        (1, 7, 1),
        (7, 7, 7),
        (8, 7, 7),
        (8, math.inf, 8),
        (5, 0, 0),
        (0.5, 7, 3),
        (0.5, 2, 1),
        (0.25, 7, 1),
        (0.75, 100, 75),
        (0.999, 7, 6),
        (0.5, 0, 0),
    ],
)
@pytest.mark.parametrize("stage", ["train", "val", "test", "predict"])
def test_a_limit_leaves_so_many_batches(stage: str, limit: float, length: float, batches: float) -> None:
    arguments: dict[str, Any] = {f"limit_{stage}_batches": limit}
    limits = Limits(**arguments)
    assert limits.batches(stage, length) == batches
    for other in {"train", "val", "test", "predict"} - {stage}:
        assert limits.batches(other, length) == length


@given(st.one_of(st.integers(0, 10**6), st.floats(0.0, 1.0)), st.integers(0, 10**6))
def test_a_limit_never_leaves_more_than_there_is(limit: float, length: int) -> None:
    limits = Limits(limit_val_batches=limit)
    try:
        batches = limits.batches("val", length)
    except MisconfigurationError:
        assert isinstance(limit, float)
        assert 0 < limit * length < 1
    else:
        assert batches == int(batches)
        assert 0 <= batches <= length
        assert batches == min(limit, length) if isinstance(limit, int) else abs(batches - limit * length) < 1


def test_a_share_of_an_unknown_length_is_refused() -> None:
    message = (
        r"^limit_test_batches=0\.5 is a fraction, and the test dataloader has no length.*limit_test_batches=100\.$"
    )
    with pytest.raises(MisconfigurationError, match=message):
        Limits(limit_test_batches=0.5).batches("test", math.inf)


def test_a_share_of_less_than_a_batch_is_refused_with_the_least_share() -> None:
    message = r"^limit_train_batches=0\.1 of 4 batches is less than one batch\. Give at least limit_train_batches=0\.25"
    with pytest.raises(MisconfigurationError, match=message):
        Limits(limit_train_batches=0.1).batches("train", 4)


@given(st.integers(2, 10**6))
def test_the_least_share_that_is_named_is_enough(length: int) -> None:
    with pytest.raises(MisconfigurationError) as caught:
        Limits(limit_train_batches=0.5 / length).batches("train", length)
    least = float(str(caught.value).split("Give at least limit_train_batches=")[1].split(",")[0])
    assert Limits(limit_train_batches=least).batches("train", length) >= 1


@pytest.mark.parametrize(
    ("interval", "length", "batches"),
    [
        (1.0, 7, math.inf),
        (1.0, math.inf, math.inf),
        (1, 7, 1),
        (7, 7, 7),
        (3, math.inf, 3),
        (0.5, 7, 3),
        (0.25, 8, 2),
        (0.01, 7, 1),
        (0.999, 7, 6),
    ],
)
def test_validation_comes_after_so_many_batches(interval: float, length: float, batches: float) -> None:
    assert Limits(val_check_interval=interval).batches_between_validations(length) == batches


def test_an_interval_longer_than_the_epoch_is_refused_unless_it_spans_epochs() -> None:
    message = (
        r"^val_check_interval=8 batches is longer than the training epoch of 7 batches.*check_val_every_n_epoch=None"
    )
    with pytest.raises(MisconfigurationError, match=message):
        Limits(val_check_interval=8).batches_between_validations(7)
    spanning = Limits(val_check_interval=8, check_val_every_n_epoch=None)
    assert spanning.batches_between_validations(7) == 8


def test_an_interval_that_is_a_share_of_an_unknown_length_is_refused() -> None:
    message = r"^val_check_interval=0\.5 is a fraction of an epoch, and the training dataloader has no length"
    with pytest.raises(MisconfigurationError, match=message):
        Limits(val_check_interval=0.5).batches_between_validations(math.inf)


# ------------------------------------------------------------------------------------------------ fast_dev_run


@pytest.mark.parametrize(("value", "batches"), [(True, 1), (1, 1), (2, 2), (4, 4)])
def test_fast_dev_run_overrules_every_other_limit(value: bool | int, batches: int, tmp_path: Path) -> None:
    module = Regression()
    trainer = trainer_in(
        tmp_path,
        fast_dev_run=value,
        max_epochs=7,
        min_epochs=5,
        max_steps=1000,
        min_steps=900,
        limit_train_batches=0.2,
        limit_val_batches=0,
        val_check_interval=1,
        check_val_every_n_epoch=3,
        num_sanity_val_steps=2,
        log_every_n_steps=0,
    )
    trainer.fit(module, loader(5), loader(5))
    assert module.marks == [*(f"t{index}" for index in range(batches)), *(f"v{index}" for index in range(batches))]
    assert (trainer.current_epoch, trainer.global_step) == (1, batches)
    assert trainer.fast_dev_run == value


@pytest.mark.parametrize("value", [False, 0])
def test_fast_dev_run_is_off_by_these(value: bool | int, tmp_path: Path) -> None:
    module = Regression()
    trainer_in(tmp_path, fast_dev_run=value, max_epochs=1, limit_val_batches=1).fit(module, loader(3), loader(3))
    assert module.marks == ["t0", "t1", "t2", "v0"]


@pytest.mark.parametrize("value", [-1, 1.0, 2.5, "yes", None, [1]])
def test_fast_dev_run_is_a_truth_value_or_a_number(value: Any) -> None:
    message = r"^fast_dev_run=.* must be a whole number of at least 0 \(True runs one batch of everything\)\.$"
    with pytest.raises(MisconfigurationError, match=message):
        bare(fast_dev_run=value)


def test_fast_dev_run_does_not_hide_another_argument_s_error() -> None:
    with pytest.raises(MisconfigurationError, match="accumulate_grad_batches=0 must be"):
        bare(fast_dev_run=True, accumulate_grad_batches=0)


def test_fast_dev_run_counts_batches_and_not_the_steps_of_several_optimizers(tmp_path: Path) -> None:
    class Two(Regression):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.marks.append(f"t{batch_idx}")
            for optimizer in self.optimizers():
                optimizer.step()

        def configure_optimizers(self) -> Sequence[torch.optim.Optimizer]:
            return [torch.optim.SGD(self.net[index].parameters(), lr=0.1) for index in (0, 2)]

    module: LightningModule = Two()
    trainer_in(tmp_path, fast_dev_run=4).fit(module, loader(5))
    assert isinstance(module, Two)
    assert module.marks == ["t0", "t1", "t2", "t3"]
