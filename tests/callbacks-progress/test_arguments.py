"""What a progress bar takes, what registers it, and what a bar of one's own gets from the base."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from hookloop import LightningModule, Order, Trainer, TrainerOptions
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView
from hookloop_callbacks_progress import ProgressBar, TQDMProgressBar, factory

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.utils.data import DataLoader

    from conftest import Model, Screen

    Loader = Callable[[int], DataLoader[Any]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"refresh_rate": -1}, r"refresh_rate=-1\) must be a whole number of at least 0 \(0 shows nothing"),
        ({"refresh_rate": 0.5}, r"refresh_rate=0.5\) must be"),
        ({"refresh_rate": True}, r"refresh_rate=True\) must be"),
        ({"process_position": -1}, r"process_position=-1\) must be a whole number of at least 0 \(the number of lines"),
        ({"line_interval": -1}, r"line_interval=-1\) must be a number of seconds of at least 0; leave it out"),
        ({"line_interval": float("nan")}, r"line_interval=nan\) must be"),
        ({"line_interval": "30"}, r"line_interval='30'\) must be"),
        ({"line_interval": True}, r"line_interval=True\) must be"),
    ],
)
def test_an_argument_that_cannot_work_is_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationError, match=message):
        TQDMProgressBar(**arguments)


def test_lightning_s_arguments_come_in_lightning_s_order() -> None:
    bar = TQDMProgressBar(20, 3, True)

    assert (bar.refresh_rate, bar.process_position) == (20, 3)


def test_it_reads_metrics_after_the_module_and_is_a_progress_bar() -> None:
    assert TQDMProgressBar.order is Order.MONITOR
    assert TQDMProgressBar.family == "progress_bar"


def test_the_factory_makes_a_bar() -> None:
    [bar] = factory(TrainerOptions())
    assert isinstance(bar, TQDMProgressBar)

    [bar] = factory(TrainerOptions(enable_progress_bar=True))
    assert isinstance(bar, TQDMProgressBar)


def test_the_factory_makes_none_where_none_is_wanted() -> None:
    assert factory(TrainerOptions(enable_progress_bar=False)) == []


def test_a_bar_of_one_s_own_gets_metrics_and_a_place_to_print(pipe: io.StringIO, model: Model, loader: Loader) -> None:
    class Mine(ProgressBar):
        def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *_: Any) -> None:
            if self.is_enabled:
                self.print(self.get_metrics(trainer, pl_module), end=";\n")

    bar = Mine()
    for use in (bar.enable, bar.disable):
        use()
        Trainer(callbacks=[bar], registered_callbacks=False, logger=False, max_epochs=1).fit(model, loader(2))

    assert pipe.getvalue() == "{'loss': 0.5};\n{'loss': 1.5};\n"


class SecondRank(Trainer):
    """One process of several, and not the first."""

    @property
    def is_global_zero(self) -> bool:
        return False


def test_only_rank_zero_shows_and_prints(screen: Screen, model: Model, loader: Loader) -> None:
    for bar in (TQDMProgressBar(), ProgressBar()):
        SecondRank(callbacks=[bar], registered_callbacks=False, logger=False, max_epochs=1).fit(model, loader(2))
        bar.print("here")

    assert screen.getvalue() == ""
