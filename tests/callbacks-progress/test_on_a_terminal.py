"""What stands on a terminal's screen during and after a run."""

from __future__ import annotations

import io
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from torch.utils.data import DataLoader, IterableDataset

from hookloop import Callback, LambdaCallback, LightningModule, Order, Trainer
from hookloop.loggers import CSVLogger
from hookloop.view import TrainerView
from hookloop_callbacks_progress import TQDMProgressBar

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Model, Screen

    Loader = Callable[[int], DataLoader[Any]]


def trainer(*callbacks: Callback, **arguments: Any) -> Trainer:
    given = {"max_epochs": 1, "logger": False, "num_sanity_val_steps": 0}
    return Trainer(callbacks=list(callbacks), registered_callbacks=False, **{**given, **arguments})


def parts(line: str) -> tuple[str, str, dict[str, str]]:
    """A bar's name, its count, and its metrics."""
    found = re.fullmatch(r"(.*?): .*?(\d+(?:/\d+)?)(?:it)? \[[^,]*, *[^,]*?(?:, (.*))?\]", line)
    assert found, line
    return found[1], found[2], dict(item.split("=") for item in found[3].split(", ")) if found[3] else {}


def looks(screen: Screen, hook: str) -> tuple[list[list[str]], Callback]:
    """Lists what is on the screen whenever a hook runs, after the bar's own."""
    seen: list[list[str]] = []

    class Look(Callback):
        order = Order.LAST

    callback = Look()
    setattr(callback, hook, lambda *_: seen.append(screen.lines))
    return seen, callback


def test_the_last_epoch_stays_on_the_screen_with_its_metrics(screen: Screen, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(), max_epochs=3).fit(model, loader(4), loader(2))

    assert [parts(line) for line in screen.lines] == [("Epoch 2/2", "4/4", {"loss": "3.500", "val_score": "2.000"})]
    assert screen.getvalue().endswith("\n")


def test_every_epoch_stays_if_so_wished(screen: Screen, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(leave=True), max_epochs=3).fit(model, loader(4), loader(2))

    assert [parts(line) for line in screen.lines] == [
        ("Epoch 0/2", "4/4", {"loss": "3.500", "val_score": "0.000"}),
        ("Epoch 1/2", "4/4", {"loss": "3.500", "val_score": "1.000"}),
        ("Epoch 2/2", "4/4", {"loss": "3.500", "val_score": "2.000"}),
    ]


def test_validation_is_shown_below_training_and_then_goes_away(screen: Screen, model: Model, loader: Loader) -> None:
    during, look_during = looks(screen, "on_validation_batch_start")
    after, look_after = looks(screen, "on_train_epoch_end")

    trainer(TQDMProgressBar(), look_during, look_after).fit(model, loader(4), loader(2))

    assert [parts(line)[:2] for line in during[0]] == [("Epoch 0/0", "4/4"), ("Validating", "0/2")]
    assert [parts(line)[:2] for line in after[0]] == [("Epoch 0/0", "4/4")]


def test_the_sanity_check_is_shown_and_then_goes_away(screen: Screen, model: Model, loader: Loader) -> None:
    during, look_during = looks(screen, "on_validation_batch_start")
    after, look_after = looks(screen, "on_train_start")

    trainer(TQDMProgressBar(), look_during, look_after, num_sanity_val_steps=3).fit(model, loader(4), loader(5))

    assert [parts(line)[:2] for line in during[0]] == [("Sanity checking", "0/3")]
    assert after == [[]]


@pytest.mark.parametrize(("entry_point", "name"), [("validate", "Validating"), ("test", "Testing")])
def test_an_evaluation_leaves_its_bar(
    screen: Screen, model: Model, loader: Loader, entry_point: str, name: str
) -> None:
    getattr(trainer(TQDMProgressBar()), entry_point)(model, loader(4), verbose=False)

    assert [parts(line) for line in screen.lines] == [(name, "4/4", {})]


def test_a_prediction_leaves_its_bar(screen: Screen, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar()).predict(model, loader(4))

    assert [parts(line) for line in screen.lines] == [("Predicting", "4/4", {})]


def test_several_loaders_are_one_bar(screen: Screen, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar()).predict(model, [loader(4), loader(3)])

    assert [parts(line) for line in screen.lines] == [("Predicting", "7/7", {})]


def test_a_loader_without_a_length_has_no_total(screen: Screen, model: Model, loader: Loader) -> None:
    class Endless(IterableDataset[Any]):
        def __iter__(self) -> Any:
            yield from loader(3)

    trainer(TQDMProgressBar(), max_epochs=-1, max_steps=3).fit(model, DataLoader(Endless(), batch_size=None))

    assert [parts(line) for line in screen.lines] == [("Epoch 0", "3", {"loss": "2.500"})]


def test_a_run_that_ends_inside_an_epoch_shows_how_far_it_came(screen: Screen, model: Model, loader: Loader) -> None:
    trainer(TQDMProgressBar(), max_epochs=2, max_steps=6).fit(model, loader(4))

    assert [parts(line) for line in screen.lines] == [("Epoch 1/1", "2/4", {"loss": "1.500"})]


def test_the_version_of_the_logger_is_shown(screen: Screen, model: Model, loader: Loader, tmp_path: Path) -> None:
    trainer(TQDMProgressBar(), logger=CSVLogger(tmp_path, version=12)).fit(model, loader(1))

    assert parts(screen.lines[0])[2] == {"v_num": "12", "loss": "0.500"}


def test_of_a_long_version_the_end_is_shown(screen: Screen, model: Model, loader: Loader, tmp_path: Path) -> None:
    trainer(TQDMProgressBar(), logger=CSVLogger(tmp_path, version="run-a17f")).fit(model, loader(1))

    assert parts(screen.lines[0])[2] == {"v_num": "a17f", "loss": "0.500"}


def test_what_is_shown_can_be_changed_in_a_subclass(screen: Screen, model: Model, loader: Loader) -> None:
    class Mine(TQDMProgressBar):
        def get_metrics(self, trainer: TrainerView, pl_module: LightningModule) -> dict[str, int | float | str]:
            return {"step": trainer.global_step, **super().get_metrics(trainer, pl_module)}

    trainer(Mine()).fit(model, loader(4))

    assert parts(screen.lines[0])[2] == {"step": "4", "loss": "3.500"}


def test_what_the_module_logs_at_the_end_of_an_epoch_is_shown(screen: Screen, model: Model, loader: Loader) -> None:
    def log_it() -> None:
        model.log("late", 8.0, prog_bar=True)

    model.on_train_epoch_end = log_it  # type: ignore[method-assign]

    trainer(TQDMProgressBar()).fit(model, loader(1))

    assert parts(screen.lines[0])[2] == {"loss": "0.500", "late": "8.000"}


def test_printing_leaves_the_bar_whole(screen: Screen, model: Model, loader: Loader) -> None:
    talker = LambdaCallback(on_train_batch_end=lambda trainer, module, *_: trainer.print("batch", _[-1], sep=": "))

    trainer(talker, TQDMProgressBar()).fit(model, loader(3))

    assert screen.lines[:3] == ["batch: 0", "batch: 1", "batch: 2"]
    assert [parts(line)[:2] for line in screen.lines[3:]] == [("Epoch 0/0", "3/3")]


def test_printing_outside_of_a_run_is_printing(screen: Screen) -> None:
    TQDMProgressBar().print("a", 1, sep="-", end="!\n")

    assert screen.getvalue() == "a-1!\n"


def test_printing_elsewhere_goes_there(screen: Screen, model: Model, loader: Loader) -> None:
    elsewhere = io.StringIO()
    talker = LambdaCallback(on_train_end=lambda trainer, module: trainer.print("done", file=elsewhere))

    trainer(talker, TQDMProgressBar()).fit(model, loader(3))

    assert elsewhere.getvalue() == "done\n"
    assert "done" not in screen.getvalue()


def test_metrics_are_read_only_to_draw_and_that_seldom(screen: Screen, model: Model, loader: Loader) -> None:
    class Counting(TQDMProgressBar):
        reads = 0

        def get_metrics(self, trainer: TrainerView, pl_module: LightningModule) -> dict[str, int | float | str]:
            self.reads += 1
            return super().get_metrics(trainer, pl_module)

    bar = Counting()
    fit = trainer(bar, max_epochs=2)
    started = time.monotonic()
    fit.fit(model, loader(2000), loader(1))
    seconds = time.monotonic() - started

    assert screen.getvalue().count("\rEpoch") == bar.reads + 1  # tqdm draws once more when the last bar is closed
    assert 4 <= bar.reads <= 10 * seconds + 7
    assert bar.reads < 400


def test_short_epochs_and_many_validations_are_drawn_as_seldom(screen: Screen, model: Model, loader: Loader) -> None:
    fit = trainer(TQDMProgressBar(), max_epochs=150, val_check_interval=1)
    started = time.monotonic()
    fit.fit(model, loader(2), loader(1))
    seconds = time.monotonic() - started

    drawn = screen.getvalue().count("Epoch") + screen.getvalue().count("Validating")
    assert drawn <= 10 * seconds + 10
    assert drawn < 600
    assert [parts(line)[:2] for line in screen.lines] == [("Epoch 149/149", "2/2")]


def test_nothing_is_shown_with_a_refresh_rate_of_zero(screen: Screen, model: Model, loader: Loader) -> None:
    bar = TQDMProgressBar(refresh_rate=0)
    trainer(bar).fit(model, loader(4), loader(2))

    assert screen.getvalue() == ""
    assert bar.is_disabled


def test_a_disabled_bar_shows_nothing_until_it_is_enabled(screen: Screen, model: Model, loader: Loader) -> None:
    bar = TQDMProgressBar()
    fit = trainer(bar)
    bar.disable()
    assert not bar.is_enabled

    fit.fit(model, loader(4), loader(2))
    assert screen.getvalue() == ""

    bar.enable()
    fit.validate(model, loader(2), verbose=False)
    assert [parts(line)[:2] for line in screen.lines] == [("Validating", "2/2")]


def test_a_bar_that_is_disabled_in_a_run_stays_as_it_is(screen: Screen, model: Model, loader: Loader) -> None:
    bar = TQDMProgressBar()

    def disable(trainer: TrainerView, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1:
            bar.disable()

    trainer(LambdaCallback(on_train_batch_end=disable), bar, max_epochs=2).fit(model, loader(4), loader(1))

    assert [parts(line)[:2] for line in screen.lines] == [("Epoch 0/1", "1/4")]


def test_an_exception_leaves_a_clean_screen_and_the_next_fit_works(
    screen: Screen, model: Model, loader: Loader
) -> None:
    heard: list[list[str]] = []

    class Failing(Callback):
        fails = True

        def on_validation_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *_: Any) -> None:
            if self.fails:
                raise RuntimeError("no")

    bar, failing = TQDMProgressBar(), Failing()
    fit = trainer(bar, failing)
    listener = LambdaCallback(teardown=lambda *_: heard.append(screen.lines))
    fit.callbacks.append(listener)
    with pytest.raises(RuntimeError, match="no"):
        fit.fit(model, loader(4), loader(2))

    assert [parts(line)[:2] for line in screen.lines] == [("Epoch 0/0", "4/4")]
    assert heard[0] == screen.lines
    assert screen.getvalue().endswith("\n")

    failing.fails = False
    fit.fit(model, loader(4), loader(2))
    assert [parts(line)[:2] for line in screen.lines] == [("Epoch 0/0", "4/4"), ("Epoch 0/0", "4/4")]


def test_after_a_resume_inside_an_epoch_only_new_batches_count_for_the_rate(
    screen: Screen, model: Model, loader: Loader, tmp_path: Path
) -> None:
    def save_after_90(trainer: TrainerView, module: LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 89:
            trainer.save_checkpoint(tmp_path / "inside.ckpt")

    trainer(LambdaCallback(on_train_batch_end=save_after_90)).fit(model, loader(100))
    times: list[float] = []
    clock = LambdaCallback(
        on_train_batch_start=lambda *_: times.append(time.perf_counter()),
        on_train_batch_end=lambda *_: times.append(time.perf_counter()),
    )

    trainer(TQDMProgressBar(), clock).fit(type(model)(), loader(100), ckpt_path=tmp_path / "inside.ckpt")

    drawn = re.findall(r"(\d+)/100 \[[^,]*, *([^,\]]*)it/s", screen.getvalue())
    assert drawn[0] == ("90", "?")
    assert drawn[-1][0] == "100"
    # What is measured runs from a little before the first batch to a little after the last one.
    assert 0 < float(drawn[-1][1]) <= 10 / (times[-1] - times[0])
