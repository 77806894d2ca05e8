"""Which files are kept, against a list that is sorted anew each time."""

from __future__ import annotations

import math
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from hookloop.monitor import Monitor
from hookloop_callbacks_checkpoint.record import Record

SCORES = st.lists(st.one_of(st.sampled_from([1.0, 2.0, 3.0, math.nan, math.inf, -math.inf]), st.floats()), max_size=12)
MODES: list[Literal["min", "max"]] = ["min", "max"]


def ranking(score: float, mode: str) -> tuple[bool, float]:
    """The smaller, the better; NaN comes last."""
    return (True, 0.0) if math.isnan(score) else (False, score if mode == "min" else -score)


@given(SCORES, st.integers(1, 4), st.sampled_from(MODES))
def test_the_k_best_are_kept_and_of_equal_ones_the_earlier(
    scores: list[float], k: int, mode: Literal["min", "max"]
) -> None:
    monitor, record, deleted = Monitor("score", mode), Record(), set[str]()
    for number, score in enumerate(scores):
        if record.has_room(score, k, monitor):
            record = record.with_file(str(number), score, k, monitor)
            deleted |= set(record.leaving)

        best_first = sorted(range(number + 1), key=lambda one: (ranking(scores[one], mode), one))
        kept = [int(one.path) for one in record.kept]
        assert sorted(kept) == sorted(best_first[:k])
        assert record.best == str(best_first[0])
        worst = record.worst(monitor)
        assert worst is not None
        assert worst.path == str(best_first[:k][-1])
        assert deleted.isdisjoint(one.path for one in record.kept)
        assert len(record.kept) + len(deleted) <= number + 1


@given(SCORES, st.sampled_from(MODES))
def test_all_are_kept_with_minus_one_and_none_with_zero(scores: list[float], mode: Literal["min", "max"]) -> None:
    monitor, record = Monitor("score", mode), Record()
    for number, score in enumerate(scores):
        assert record.has_room(score, -1, monitor)
        assert not record.has_room(score, 0, monitor)
        record = record.with_file(str(number), score, -1, monitor)

    assert [one.path for one in record.kept] == [str(number) for number in range(len(scores))]
    assert record.leaving == ()


@given(st.integers(1, 9))
def test_without_a_monitor_the_newest_is_kept(saves: int) -> None:
    record = Record()
    for number in range(saves):
        assert record.has_room(None, 1, None)
        record = record.with_file(str(number), None, 1, None)

    assert (record.best, [one.path for one in record.kept]) == (str(saves - 1), [str(saves - 1)])
    assert record.leaving == tuple(str(number) for number in range(saves - 1))


@given(SCORES, st.integers(-1, 4), st.sampled_from(MODES))
def test_a_state_gives_the_record_back(scores: list[float], k: int, mode: Literal["min", "max"]) -> None:
    monitor, record = Monitor("score", mode), Record().with_last("last")
    for number, score in enumerate(scores):
        if record.has_room(score, k, monitor):
            record = record.with_file(str(number), score, k, monitor)

    assert repr(Record.from_state(record.state_dict())) == repr(record)


def test_fewer_are_kept_when_a_resumed_run_wants_fewer() -> None:
    monitor, record = Monitor("score"), Record()
    for number, score in enumerate([3.0, 1.0, 2.0]):
        record = record.with_file(str(number), score, 3, monitor)

    record = record.with_file("new", 0.5, 1, monitor)

    assert [one.path for one in record.kept] == ["new"]
    assert set(record.leaving) == {"0", "1", "2"}


def test_a_file_written_over_an_older_one_counts_once() -> None:
    monitor = Monitor("score")
    record = Record().with_file("best", 2.0, 1, monitor).with_file("best", 1.0, 1, monitor)

    assert record.scores() == {"best": 1.0}
    assert record.leaving == ()


def test_files_that_are_gone_are_forgotten_and_the_next_best_is_the_best() -> None:
    monitor, record = Monitor("score"), Record().with_last("last")
    for number, score in enumerate([3.0, 1.0, 2.0]):
        record = record.with_file(str(number), score, 3, monitor)

    left = record.without(["1", "last"], monitor)

    assert (left.best, left.last, left.scores()) == ("2", "", {"0": 3.0, "2": 2.0})


def test_a_last_file_of_another_name_takes_the_place_of_the_former_one() -> None:
    record = Record().with_last("epoch=0-last").with_last("epoch=1-last")

    assert (record.last, record.leaving) == ("epoch=1-last", ("epoch=0-last",))
