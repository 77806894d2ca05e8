"""The bars keep the contract for callbacks, on a terminal and elsewhere; two of them are refused."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LightningModule, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.testing import CallbackContract
from hookloop_callbacks_progress import ProgressBar, TQDMProgressBar, tqdm_bar


class TestProgressBar(CallbackContract):
    max_calls_per_step = 0

    def callback(self) -> Callback:
        return ProgressBar()


class TestTQDMProgressBarInALogFile(CallbackContract):
    def callback(self) -> Callback:
        return TQDMProgressBar(line_interval=0)

    def others(self) -> Sequence[Callable[[], Callback]]:
        return [lambda: TQDMProgressBar(refresh_rate=5)]


class TestTQDMProgressBarOnATerminal(CallbackContract):
    # Counting, and asking the clock: what is drawn, ten times a second at most, is not counted in most steps.
    max_calls_per_step = 20

    @pytest.fixture(autouse=True)
    def terminal(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tqdm_bar, "is_terminal", lambda stream: True)

    def callback(self) -> Callback:
        return TQDMProgressBar(leave=True)


class TestTQDMProgressBarThatShowsNothing(CallbackContract):
    max_calls_per_step = 2

    def callback(self) -> Callback:
        return TQDMProgressBar(refresh_rate=0)


class OwnBar(Callback):
    """No subclass of hookloop's."""

    family = "progress_bar"


@pytest.mark.parametrize("other", [ProgressBar, TQDMProgressBar, OwnBar])
def test_a_second_bar_is_refused_and_both_are_named(other: type[Callback]) -> None:
    message = rf"TQDMProgressBar \(of .*\) cannot be in a run with {other.__name__} \(of .*Keep one of the two"
    with pytest.raises(MisconfigurationError, match=message):
        Trainer(callbacks=[TQDMProgressBar(), other()], registered_callbacks=False)


def test_a_second_bar_that_a_module_brings_is_refused_when_the_run_begins(model: Any, tmp_path: Path) -> None:
    class Brings(type(model)):  # type: ignore[misc]
        def configure_callbacks(self) -> Callback:
            return OwnBar()

    trainer = Trainer(
        callbacks=[TQDMProgressBar()], registered_callbacks=False, default_root_dir=tmp_path, logger=False, max_epochs=1
    )
    module: LightningModule = Brings()
    with pytest.raises(MisconfigurationError, match=r"TQDMProgressBar .* cannot be in a run with OwnBar"):
        trainer.fit(module, [])
