"""How far and how fast: counters and rates, on a clock that is turned by hand."""

from __future__ import annotations

import doctest
import math
from typing import TYPE_CHECKING

from hookloop_callbacks_progress import text
from hookloop_callbacks_progress.task import Task
from hookloop_callbacks_progress.text import format_metrics, format_value

if TYPE_CHECKING:
    from conftest import Hand


def test_there_is_no_rate_before_the_first_batch(hand: Hand) -> None:
    task = Task("Epoch 0", 10, clock=hand)
    hand.now += 5

    assert task.rate is None


def test_the_rate_is_batches_per_second(hand: Hand) -> None:
    task = Task("Epoch 0", 10, clock=hand)
    task.done = 8
    hand.now += 4

    assert task.rate == 2.0


def test_the_rate_counts_only_batches_of_this_process(hand: Hand) -> None:
    task = Task("Epoch 0", 1000, done=600, clock=hand)
    assert task.done == 600

    task.done = 606
    hand.now += 3

    assert task.rate == 2.0


def test_the_rate_leaves_out_pauses(hand: Hand) -> None:
    task = Task("Epoch 0", 10, clock=hand)
    hand.now += 1
    task.done = 3
    task.pause()
    hand.now += 1000
    assert task.rate == 3.0

    task.resume()
    hand.now += 1
    task.done = 6

    assert task.rate == 3.0


def test_pausing_twice_is_pausing_once(hand: Hand) -> None:
    task = Task("Epoch 0", 10, clock=hand)
    hand.now += 1
    task.pause()
    hand.now += 7
    task.pause()
    task.resume()
    hand.now += 1
    task.resume()
    task.done = 4

    assert task.rate == 2.0


def test_values_are_short() -> None:
    shown: dict[int | float | str, str] = {
        0.97132: "0.971",
        0.0: "0.000",
        -1.5: "-1.500",
        0.001: "0.001",
        0.0003: "3.00e-04",
        99999.0: "99999.000",
        100000.0: "1.00e+05",
        math.inf: "inf",
        7: "7",
        "n_17": "n_17",
    }

    assert {value: format_value(value) for value in shown} == shown
    assert format_value(math.nan) == "nan"


def test_metrics_keep_their_order() -> None:
    assert format_metrics({"v_num": 3, "loss": 0.25, "a": 1.0}) == "v_num=3, loss=0.250, a=1.000"
    assert format_metrics({}) == ""


def test_the_examples_in_the_docstrings_are_true() -> None:
    results = doctest.testmod(text)

    assert results.attempted == 2
    assert results.failed == 0
