"""When `EarlyStopping` ends a run, and what it keeps of why."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, Order
from hookloop.callbacks import early_stopping as face
from hookloop.errors import MisconfigurationError
from hookloop_callbacks_monitoring import EarlyStopping, EarlyStoppingReason

# Better until epoch 2, then never again.
UNTIL_2 = (0.9, 0.5, 0.4, 0.6, 0.5, 0.45, 0.7)

DIVERGED = EarlyStoppingReason.DIVERGENCE_THRESHOLD
EXHAUSTED = EarlyStoppingReason.PATIENCE_EXHAUSTED
NOT_FINITE = EarlyStoppingReason.NON_FINITE_METRIC
NOT_STOPPED = EarlyStoppingReason.NOT_STOPPED
REACHED = EarlyStoppingReason.STOPPING_THRESHOLD


@pytest.mark.parametrize(
    ("arguments", "scores", "epochs", "reason", "message"),
    [
        ({}, UNTIL_2, 6, EXHAUSTED, "score has not improved for 3 checks; the best was 0.4, in epoch 2"),
        ({"patience": 1}, UNTIL_2, 4, EXHAUSTED, "score has not improved for 1 check; the best was 0.4, in epoch 2"),
        ({"patience": 0}, UNTIL_2, 4, EXHAUSTED, "score has not improved for 1 check; the best was 0.4, in epoch 2"),
        ({"patience": 9}, UNTIL_2, 10, NOT_STOPPED, None),
        ({"mode": "max"}, (1, 2, 3, 2, 3, 2.5), 6, EXHAUSTED, "score has not improved for 3 checks; the best was 3, "),
        ({"min_delta": 0.1}, (1.0, 0.85, 0.8, 0.76, 0.7, 0.5), 10, NOT_STOPPED, None),
        ({"min_delta": 0.2}, (1.0, 0.85, 0.81, 0.8, 0.1), 4, EXHAUSTED, "the best was 1, in epoch 0"),
        ({"min_delta": 0.5, "mode": "max"}, (1, 1.5, 1.4, 1.3, 9), 4, EXHAUSTED, "the best was 1, in epoch 0"),
        ({"stopping_threshold": 0.4}, UNTIL_2, 3, REACHED, "score=0.4 has reached 0.4"),
        ({"stopping_threshold": 1.0, "mode": "max"}, (0.5, 1.0), 2, REACHED, "score=1 has reached 1"),
        (
            {"divergence_threshold": 0.55},
            (0.5, 0.55, 0.6),
            3,
            DIVERGED,
            "score=0.6 is worse than 0.55; the best was 0.5",
        ),
        ({"divergence_threshold": 0.5, "mode": "max"}, (0.6, 0.5, 0.4), 3, DIVERGED, "score=0.4 is worse than 0.5"),
        ({}, (0.5, math.nan), 2, NOT_FINITE, "score=nan is not finite; the best was 0.5, in epoch 0"),
        ({}, (math.inf,), 1, NOT_FINITE, "score=inf is not finite; there was no number before"),
        ({"mode": "max"}, (1, math.inf), 2, NOT_FINITE, "score=inf is not finite"),
        ({"check_finite": False}, (0.5, math.nan, 0.6, 0.6, 0.1), 4, EXHAUSTED, "the best was 0.5, in epoch 0"),
        ({"check_finite": False}, (math.nan, math.nan, 0.5, 0.6, 0.4), 10, NOT_STOPPED, None),
        ({"check_finite": False}, (0.5, -math.inf, -9, -9, -9), 5, EXHAUSTED, "the best was -inf, in epoch 1"),
        ({"check_finite": False}, (0.5, math.inf, 0.6, 0.6), 4, EXHAUSTED, "the best was 0.5, in epoch 0"),
        ({"start_from": 3}, (0.1, 0.2, 0.3, 0.9, 0.8, 0.9, 0.9, 0.9), 8, EXHAUSTED, "the best was 0.8, in epoch 4"),
        ({"start_from": 2}, (math.nan, math.nan, 0.5, 0.4), 10, NOT_STOPPED, None),
        ({"baseline": 0.5}, (0.9, 0.6, 0.5, 0.4), 3, EXHAUSTED, "3 checks; it never was better than 0.5"),
        ({"baseline": 0.5}, (0.9, 0.6, 0.4, 0.4, 0.4, 0.4), 6, EXHAUSTED, "the best was 0.4, in epoch 2"),
        ({"monitor": "train_score"}, (0,), 4, EXHAUSTED, "train_score has not improved for 3 checks"),
    ],
)
def test_it_ends_the_run_there_and_says_why(
    runs: Any,
    capsys: pytest.CaptureFixture[str],
    arguments: dict[str, Any],
    scores: tuple[float, ...],
    epochs: int,
    reason: EarlyStoppingReason,
    message: str | None,
) -> None:
    # A run that is not ended goes on improving.
    endless = (*scores, *(scores[-1] - index / 2 for index in range(1, 10))) if reason is NOT_STOPPED else scores
    if arguments.get("patience") == 9:
        endless = scores
    stopping = EarlyStopping(**{"monitor": "score", **arguments})

    trainer = runs.fit(stopping, scores=endless)

    assert trainer.current_epoch == epochs
    assert stopping.stopping_reason is reason
    printed = capsys.readouterr().out
    if message is None:
        assert (stopping.stopping_reason_message, stopping.stopped_epoch, printed) == (None, 0, "")
    else:
        assert stopping.stopping_reason_message is not None
        assert message in stopping.stopping_reason_message
        assert stopping.stopped_epoch == epochs - 1
        assert printed == f"EarlyStopping: {stopping.stopping_reason_message}\n"


def test_what_it_has_seen_can_be_asked_for(runs: Any) -> None:
    stopping = EarlyStopping("score")
    assert (stopping.best_score.item(), stopping.best_epoch, stopping.wait_count) == (math.inf, None, 0)
    assert EarlyStopping("score", mode="max").best_score.item() == -math.inf

    trainer = runs.fit(stopping, scores=UNTIL_2)

    assert abs(stopping.best_score.item() - 0.4) < 1e-7
    assert (stopping.best_epoch, stopping.wait_count, stopping.patience) == (2, 3, 3)
    assert trainer.early_stopping_callbacks == [stopping]
    assert EarlyStopping.order is Order.MONITOR


def test_its_names_are_where_lightning_s_users_look_for_them() -> None:
    assert face.EarlyStopping is EarlyStopping
    assert face.EarlyStoppingReason is EarlyStoppingReason
    values = {reason.name: reason.value for reason in EarlyStoppingReason}
    assert values == {
        "NOT_STOPPED": 0,
        "STOPPING_THRESHOLD": 1,
        "DIVERGENCE_THRESHOLD": 2,
        "PATIENCE_EXHAUSTED": 3,
        "NON_FINITE_METRIC": 4,
    }


# Before min_epochs and min_steps


def test_what_it_says_before_min_epochs_is_not_kept_for_a_run_that_recovers(runs: Any) -> None:
    scores = (0.5, 0.6, 0.6, 0.6, 0.4, 0.3, 0.2, 0.1, 0.05, 0.01)
    stopping = EarlyStopping("score", patience=2)

    trainer = runs.fit(stopping, scores=scores, min_epochs=5)

    assert (trainer.current_epoch, trainer.should_stop, stopping.stopping_reason) == (10, False, NOT_STOPPED)
    alone = EarlyStopping("score", patience=2)
    assert runs.fit(alone, scores=scores).current_epoch == 3


def test_a_run_that_does_not_recover_ends_with_min_epochs(runs: Any) -> None:
    stopping = EarlyStopping("score", patience=2)

    trainer = runs.fit(stopping, scores=(0.5, 0.6), min_epochs=5)

    assert (trainer.current_epoch, stopping.wait_count, stopping.stopped_epoch) == (5, 4, 4)


@pytest.mark.parametrize(("min_steps", "epochs"), [(8, 3), (12, 3), (13, 4), (20, 5)])
def test_it_waits_for_min_steps_too(runs: Any, min_steps: int, epochs: int) -> None:
    trainer = runs.fit(EarlyStopping("score", patience=2), scores=(0.5, 0.6), min_steps=min_steps)

    assert trainer.current_epoch == epochs


def test_inside_the_last_of_min_epochs_it_waits_too(runs: Any) -> None:
    # Two validations an epoch: patience is spent in the middle of epoch 1, and at its end the run has recovered.
    scores = (0.5, 0.6, 0.6, 0.4, 0.3, 0.2)
    stopping = EarlyStopping("score", patience=2)

    trainer = runs.fit(stopping, scores=scores, min_epochs=2, max_epochs=3, val_check_interval=2)

    assert (trainer.current_epoch, trainer.global_step, stopping.stopping_reason) == (3, 12, NOT_STOPPED)


# What patience counts


@pytest.mark.parametrize(
    ("unit", "patience", "validations", "steps"),
    [
        ("checks", 3, 4, 8),  # two checks an epoch, the first of which is the best
        ("epochs", 1, 3, 6),  # the first check in another epoch than the best
        ("epochs", 2, 5, 10),
        ("steps", 1, 2, 4),
        ("steps", 4, 3, 6),
        ("steps", 5, 4, 8),
    ],
)
def test_patience_counts_checks_epochs_or_steps(
    runs: Any, unit: Any, patience: int, validations: int, steps: int
) -> None:
    stopping = EarlyStopping("score", patience=patience, unit=unit)

    trainer = runs.fit(stopping, scores=(0.1, 0.2), val_check_interval=2)

    assert (runs.module.validations, trainer.global_step) == (validations, steps)
    assert stopping.stopping_reason is EXHAUSTED


@pytest.mark.parametrize(("unit", "start_from", "best_epoch"), [("checks", 5, 2), ("epochs", 2, 2), ("steps", 9, 2)])
def test_the_first_check_comes_after_so_many_of_the_same_unit(
    runs: Any, unit: Any, start_from: int, best_epoch: int
) -> None:
    scores = [float(index) for index in range(20)]  # worse and worse, from the first one that is looked at on
    stopping = EarlyStopping("score", unit=unit, start_from=start_from, patience=100)

    runs.fit(stopping, scores=scores, val_check_interval=2)

    expected = {"checks": 5.0, "epochs": 4.0, "steps": 4.0}[unit]
    assert (stopping.best_score.item(), stopping.best_epoch) == (expected, best_epoch)


# When it looks


@pytest.mark.parametrize(
    ("arguments", "checks"),
    [
        ({}, 10),
        ({"val_check_interval": 2}, 20),
        ({"val_check_interval": 0.5}, 20),
        ({"val_check_interval": 1}, 40),  # after each batch, which is not 1.0
        ({"check_val_every_n_epoch": 3}, 3),
        ({"check_val_every_n_epoch": 3, "at_epoch_end": True}, 3),
        ({"at_epoch_end": False}, 10),
        ({"val_check_interval": 2, "at_epoch_end": True}, 10),
        ({"num_sanity_val_steps": 2}, 10),
    ],
)
def test_it_looks_once_at_each_value(runs: Any, arguments: dict[str, Any], checks: int) -> None:
    stopping = EarlyStopping("score", check_on_train_epoch_end=arguments.pop("at_epoch_end", None))

    runs.fit(stopping, scores=[-float(index) for index in range(40)], **arguments)

    assert stopping.state_dict()["checks"] == checks


def test_a_value_of_training_is_looked_at_where_nothing_validates(runs: Any) -> None:
    stopping = EarlyStopping("train_score", patience=2)

    trainer = runs.fit(stopping, scores=(), validate=False, val_check_interval=0.5)

    assert trainer.current_epoch == 3


def test_what_the_module_logs_at_the_epoch_s_end_is_seen_in_that_epoch(runs: Any) -> None:
    class Logs(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log("late", float(trainer.current_epoch))

    assert runs.fit(Logs(), EarlyStopping("late", patience=1), scores=(0.1,)).current_epoch == 2


def test_a_value_that_was_left_out_is_not_looked_at_again(runs: Any) -> None:
    stopping = EarlyStopping("score", patience=2)

    trainer = runs.fit(stopping, scores=(0.5, None, None, None, 0.6, None, 0.7, 0.1))

    assert (trainer.current_epoch, stopping.wait_count) == (7, 2)


def test_outside_of_a_fit_and_in_a_trial_run_nothing_is_decided(runs: Any) -> None:
    stopping = EarlyStopping("score", patience=0)
    trainer = runs.fit(stopping, scores=(math.nan,), fast_dev_run=3)
    assert trainer.global_step == 3
    assert stopping.state_dict()["checks"] == 0

    trainer.validate(runs.module, DataLoader(TensorDataset(torch.zeros(1, 1))), verbose=False)

    assert stopping.state_dict()["checks"] == 0


def test_a_trial_run_finds_a_metric_that_is_misspelt(runs: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"'skore' was not logged; logged until now: 'score'"):
        runs.fit(EarlyStopping("skore"), scores=(0.1,), fast_dev_run=True)


# Missing and wrong


def test_a_metric_that_is_not_logged_is_an_error_that_lists_what_is(runs: Any) -> None:
    expected = (
        r"^EarlyStopping\(monitor='val_loss'\): The monitored metric 'val_loss' was not logged; logged until now: "
        r"'score', 'train_score'\. .* With strict=False the check is left out\.$"
    )
    with pytest.raises(MisconfigurationError, match=expected):
        runs.fit(EarlyStopping("val_loss"), scores=(0.1,))


def test_at_validations_the_error_says_how_a_metric_of_training_is_monitored(runs: Any) -> None:
    with pytest.raises(MisconfigurationError, match=r"needs check_on_train_epoch_end=True\."):
        runs.fit(EarlyStopping("train_score"), scores=(0.1,), val_check_interval=2)


def test_without_strict_a_missing_metric_is_left_out(runs: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer = runs.fit(EarlyStopping("val_loss", strict=False), scores=(0.1,))

    assert trainer.current_epoch == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"monitor": None}, r"monitor=None\) must be the name of a metric"),
        ({"monitor": ""}, r"monitor=''\) must be the name of a metric"),
        ({"mode": "auto"}, r"mode='auto' for the monitored metric 'score' must be \"min\""),
        ({"patience": -1}, r"patience=-1\) must be a whole number of at least 0: how many checks"),
        ({"patience": 2.0}, r"patience=2.0\) must be a whole number"),
        ({"patience": True}, r"patience=True\) must be a whole number"),
        ({"unit": "batches"}, r"unit='batches'\): patience and start_from count 'checks', 'epochs', 'steps'"),
        ({"start_from": -1, "unit": "steps"}, r"start_from=-1\) .* how many steps go by"),
        ({"min_delta": -0.1}, r"min_delta=-0.1\) must be at least 0, in both modes"),
        ({"min_delta": math.inf}, r"min_delta=inf\) must be at least 0"),
        ({"min_delta": math.nan}, r"min_delta=nan\) must be a number"),
        ({"stopping_threshold": "0.1"}, r"stopping_threshold='0.1'\) must be a number"),
        ({"divergence_threshold": math.nan}, r"divergence_threshold=nan\) must be a number"),
        ({"baseline": "best"}, r"baseline='best'\) must be a number"),
    ],
)
def test_an_argument_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        EarlyStopping(**{"monitor": "score", **arguments})


def test_each_improvement_is_told_if_asked_for(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    runs.fit(EarlyStopping("score", patience=1, verbose=True), scores=(0.5, 0.25, 0.3))

    assert capsys.readouterr().out.splitlines() == [
        "EarlyStopping: score=0.5 is the best so far.",
        "EarlyStopping: score=0.25 is the best so far (was 0.5).",
        "EarlyStopping: Training ends in epoch 2: score has not improved for 1 check; the best was 0.25, in epoch 1.",
    ]


def test_of_several_each_can_end_the_run(runs: Any, capsys: pytest.CaptureFixture[str]) -> None:
    patient, quick = EarlyStopping("score", patience=9), EarlyStopping("train_score", patience=2)

    trainer = runs.fit(patient, quick, scores=UNTIL_2)

    assert trainer.current_epoch == 3
    assert (patient.stopping_reason, quick.stopping_reason) == (NOT_STOPPED, EXHAUSTED)
    assert capsys.readouterr().out.count("EarlyStopping:") == 1


def test_one_that_is_used_for_another_run_begins_anew(runs: Any) -> None:
    stopping = EarlyStopping("score", patience=2)
    assert runs.fit(stopping, scores=(0.1, 0.2)).current_epoch == 3

    assert runs.fit(stopping, scores=(0.9, 0.8, 0.7, 0.9)).current_epoch == 5
    assert stopping.best_epoch == 2
