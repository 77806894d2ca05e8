"""What a log file holds: whole lines, and nothing that only a terminal understands."""

from __future__ import annotations

import io
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import Callback, LambdaCallback, Trainer
from hookloop_callbacks_progress import TQDMProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Model, Screen

    Loader = Callable[[int], DataLoader[Any]]

RATE = re.compile(r"[0-9.]+ (?:it/s|s/it)")


def trainer(*callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 1, "logger": False, "num_sanity_val_steps": 0}
    return Trainer(callbacks=list(callbacks), registered_callbacks=False, **{**given, **arguments})


def lines(pipe: io.StringIO) -> list[str]:
    """The lines, with R for what is different each time."""
    assert pipe.getvalue() == "" or pipe.getvalue().endswith("\n")
    assert not set(pipe.getvalue()) & {"\r", "\x1b", "\b"}
    return [RATE.sub("R", line) for line in pipe.getvalue().splitlines()]


def test_there_is_one_line_an_epoch(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(), max_epochs=2, num_sanity_val_steps=2).fit(model, loader(4))

    assert lines(pipe) == ["Epoch 0/1 | step 4/4 | R | loss=3.500", "Epoch 1/1 | step 4/4 | R | loss=3.500"]


def test_the_line_of_an_epoch_has_the_metrics_of_its_validation(
    pipe: io.StringIO, model: Model, loader: Loader
) -> None:
    trainer(TQDMProgressBar(), max_epochs=2, num_sanity_val_steps=2).fit(model, loader(4), loader(2))

    assert len(lines(pipe)) == 2
    for epoch, line in enumerate(lines(pipe)):
        assert line.startswith(f"Epoch {epoch}/1 | step 4/4 | R | ")
        assert set(line.split(" | ")[3].split(", ")) == {"loss=3.500", f"val_score={epoch}.000"}


def test_a_line_comes_when_the_interval_is_over(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(line_interval=0)).fit(model, loader(3), loader(2))

    assert [line.split(" | R")[0] for line in lines(pipe)] == [
        "Epoch 0/0 | step 1/3",
        "Epoch 0/0 | step 2/3",
        "Epoch 0/0 | step 3/3",
        "Validating | step 1/2",
        "Validating | step 2/2",
        "Epoch 0/0 | step 3/3",
    ]


def test_a_line_comes_after_so_many_batches_at_the_earliest(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(refresh_rate=4, line_interval=0)).fit(model, loader(10))

    assert [line.split(" | ")[1] for line in lines(pipe)] == ["step 4/10", "step 8/10", "step 10/10"]


def test_evaluations_and_predictions_end_with_a_line(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    run = trainer(TQDMProgressBar())
    run.validate(model, loader(2), verbose=False)
    run.test(model, loader(3), verbose=False)
    run.predict(model, [loader(4), loader(1)])

    assert lines(pipe) == ["Validating | step 2/2 | R", "Testing | step 3/3 | R", "Predicting | step 5/5 | R"]


def test_the_rate_is_that_of_training_alone(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    validating = 0.2
    in_batches: list[float] = []

    def take_long(*_: Any) -> None:
        until = time.perf_counter() + validating
        while time.perf_counter() < until:
            pass

    timer = LambdaCallback(
        on_validation_batch_start=take_long,
        on_train_batch_start=lambda *_: in_batches.append(-time.perf_counter()),
        on_train_batch_end=lambda *_: in_batches.append(time.perf_counter()),
    )

    trainer(timer, TQDMProgressBar(), val_check_interval=1).fit(model, loader(4), loader(1))

    rate = float(pipe.getvalue().split(" | ")[2].removesuffix(" it/s"))
    assert 1 / validating < rate <= 4 / sum(in_batches)


def test_every_line_is_flushed(model: Model, loader: Loader, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    pipe = Pipe()
    seen: list[str] = []
    monkeypatch.setattr(sys, "stdout", pipe)
    looker = LambdaCallback(on_train_epoch_start=lambda *_: seen.append(pipe.flushed))

    trainer(looker, TQDMProgressBar(), max_epochs=2).fit(model, loader(2))

    assert [text.count("\n") for text in seen] == [0, 1]


def test_printing_is_printing(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    talker = LambdaCallback(on_train_start=lambda trainer, module: trainer.print("a", "b", sep="+"))

    trainer(talker, TQDMProgressBar()).fit(model, loader(1))

    assert lines(pipe) == ["a+b", "Epoch 0/0 | step 1/1 | R | loss=0.500"]


def test_a_dumb_terminal_gets_lines(
    screen: Screen, model: Model, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")

    trainer(TQDMProgressBar()).fit(model, loader(1))

    assert lines(screen) == ["Epoch 0/0 | step 1/1 | R | loss=0.500"]


def test_a_process_without_standard_output_trains_in_silence(
    model: Model, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    run = trainer(TQDMProgressBar())

    run.fit(model, loader(1))

    assert run.state.finished


def test_an_error_leaves_whole_lines(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        trainer(LambdaCallback(on_train_epoch_end=fail), TQDMProgressBar(line_interval=0)).fit(model, loader(1))

    assert lines(pipe) == ["Epoch 0/0 | step 1/1 | R | loss=0.500"]
