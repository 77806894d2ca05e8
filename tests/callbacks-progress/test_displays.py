"""The two displays by themselves: what they write, and how often."""

from __future__ import annotations

import io
import math
import threading
from typing import TYPE_CHECKING

import pytest

from hookloop_callbacks_progress.plain import PlainLines
from hookloop_callbacks_progress.task import Task
from hookloop_callbacks_progress.terminal import Terminal, is_terminal

if TYPE_CHECKING:
    from conftest import Hand, Screen


class Flushed(io.StringIO):
    """Remembers what was there at the last flush."""

    seen = ""

    def flush(self) -> None:
        self.seen = self.getvalue()


def test_a_plain_line_has_name_step_rate_and_metrics(hand: Hand) -> None:
    stream = Flushed()
    task = Task("Epoch 3/9", 450, clock=hand)
    task.done = 120
    hand.now += 60

    PlainLines(stream, clock=hand).draw(task, {"v_num": 0, "loss": 0.125})

    assert stream.seen == "Epoch 3/9 | step 120/450 | 2.0 it/s | v_num=0, loss=0.125\n"


def test_a_plain_line_leaves_out_what_is_not_known(hand: Hand) -> None:
    stream = Flushed()

    PlainLines(stream, clock=hand).draw(Task("Validating", math.inf, clock=hand), {})

    assert stream.seen == "Validating | step 0\n"


def test_a_plain_line_is_due_once_an_interval(hand: Hand) -> None:
    lines = PlainLines(Flushed(), interval=30, clock=hand)
    task = Task("Epoch 0", 10, clock=hand)
    due = []
    for _ in range(100):
        hand.now += 1
        due.append(lines.due())
        if lines.due():
            lines.draw(task, {})

    assert [second + 1 for second, is_due in enumerate(due) if is_due] == [30, 60, 90]


def test_a_plain_line_that_came_early_puts_off_the_next(hand: Hand) -> None:
    lines = PlainLines(Flushed(), interval=30, clock=hand)
    hand.now += 20
    lines.draw(Task("Epoch 0", 10, clock=hand), {})
    hand.now += 29
    assert not lines.due()

    hand.now += 1
    assert lines.due()


def test_a_terminal_is_drawn_on_at_most_ten_times_a_second(screen: Screen, hand: Hand) -> None:
    terminal = Terminal(screen, clock=hand)
    task = Task("Epoch 0", 10_000, clock=hand)
    drawn = 0
    for _ in range(10_000):
        hand.now += 0.001
        if terminal.due():
            terminal.draw(task, {})
            drawn += 1
    terminal.close(task, keep=False)

    assert 99 <= drawn <= 101


def test_what_is_drawn_ahead_of_time_is_made_up_for(screen: Screen, hand: Hand) -> None:
    terminal = Terminal(screen, clock=hand)
    task = Task("Epoch 0", 10_000, clock=hand)
    drawn = 0
    for _ in range(10_000):
        hand.now += 0.001
        if terminal.due(ahead=0.4):
            terminal.draw(task, {})
            drawn += 1
    terminal.close(task, keep=False)

    assert 100 <= drawn <= 105


def test_drawings_that_cannot_wait_do_not_delay_the_others_for_long(screen: Screen, hand: Hand) -> None:
    terminal = Terminal(screen, clock=hand)
    task = Task("Epoch 0", 10_000, clock=hand)
    for _ in range(1000):
        terminal.draw(task, {})
    hand.now += 0.5

    assert terminal.due()
    terminal.close(task, keep=False)


def test_bars_stand_below_each_other_and_only_what_is_kept_stays(screen: Screen) -> None:
    terminal = Terminal(screen)
    training, validation = Task("Epoch 0/1", 4), Task("Validating", 2)
    training.done = 3
    terminal.draw(training, {"loss": 0.5})
    terminal.draw(validation, {})
    validation.done = 1
    terminal.draw(validation, {})

    assert [line.split("|")[0] for line in screen.lines] == ["Epoch 0/1:  75%", "Validating:  50%"]
    assert screen.lines[0].endswith("loss=0.500]")

    terminal.close(validation, keep=False)
    terminal.close(training, keep=True)

    assert [line.split("|")[0] for line in screen.lines] == ["Epoch 0/1:  75%"]
    assert screen.getvalue().endswith("\n")


def test_a_bar_without_a_total_shows_what_is_done(screen: Screen) -> None:
    terminal = Terminal(screen)
    task = Task("Epoch 0", math.inf)
    task.done = 7
    terminal.draw(task, {})

    assert screen.lines[0].startswith("Epoch 0: 7it [")
    terminal.close(task, keep=False)


def test_a_bar_shows_the_rate_of_its_task(screen: Screen, hand: Hand) -> None:
    terminal = Terminal(screen)
    task = Task("Epoch 0", 1000, done=600, clock=hand)
    task.done = 700
    hand.now += 4
    terminal.draw(task, {})

    # 100 batches in 4 seconds; at that rate the other 300 take 12 seconds.
    assert "700/1000" in screen.lines[0]
    assert "<00:12, 25.00it/s]" in screen.lines[0]
    terminal.close(task, keep=False)


def test_a_bar_leaves_free_the_lines_that_belong_to_others(screen: Screen) -> None:
    terminal = Terminal(screen, position=2)
    task = Task("Epoch 0", 10)
    terminal.draw(task, {})

    assert [bool(line) for line in screen.lines] == [False, False, True]
    terminal.close(task, keep=False)


def test_text_appears_above_the_bars(screen: Screen) -> None:
    terminal = Terminal(screen)
    task = Task("Epoch 0", 10)
    terminal.draw(task, {})
    terminal.write("one\ntwo\n", None, flush=True)

    assert screen.lines[:2] == ["one", "two"]
    assert screen.lines[2].startswith("Epoch 0:")
    assert len(screen.lines) == 3
    terminal.close(task, keep=False)


def test_drawing_starts_no_thread(screen: Screen) -> None:
    terminal = Terminal(screen)
    task = Task("Epoch 0", 10)
    terminal.draw(task, {})

    assert "TMonitor" not in {type(thread).__name__ for thread in threading.enumerate()}
    terminal.close(task, keep=False)


@pytest.mark.parametrize(("term", "expected"), [("xterm", True), ("dumb", False)])
def test_a_dumb_terminal_counts_as_none(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, term: str, expected: bool
) -> None:
    monkeypatch.setenv("TERM", term)

    assert is_terminal(screen) is expected
    assert is_terminal(io.StringIO()) is False
