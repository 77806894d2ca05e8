"""`trainer.explain()`: which callbacks run, in which order, who supplies each, and what each one does."""

import gc
import importlib
import itertools
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LambdaCallback, LightningModule, Order, Trainer
from hookloop.errors import MisconfigurationError
from hookloop.view import TrainerView

from .installing import Site, installed_for_one_test
from .recording import QuietModule, RecordingCallback, Trace

BARS = """
from hookloop import Callback, Order

class Bar(Callback):
    family = "progress_bar"

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx): ...
    def on_train_start(self, trainer, pl_module): ...

class Saver(Callback):
    order = Order.LAST
    family = "checkpoint"

    def on_train_epoch_end(self, trainer, pl_module): ...
    def state_dict(self): return {"kept": 1}

def make(options):
    return [Bar(), Saver()]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.chdir(tmp_path)
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


def test_callbacks_that_would_share_a_state_are_named_with_their_distributions(site: Site) -> None:
    site.install("acme-bars", "2.5", factories={"acme": "acme_bars:make"}, modules={"acme_bars": BARS})
    bars = importlib.import_module("acme_bars")
    mine = type("Mine", (Callback,), {"state_key": "Saver", "state_dict": lambda self: {}})
    message = r"Mine \(of .*test_explain\) and Saver \(of acme_bars; acme-bars 2\.5, {}\) both have the state_key"
    with pytest.raises(MisconfigurationError, match=message.format("passed by you")):
        Trainer(callbacks=[bars.Saver(), mine()], registered_callbacks=False)
    trainer = Trainer()
    with pytest.raises(MisconfigurationError, match=message.format("entry point acme = acme_bars:make")):
        trainer.callbacks.append(mine())


def explained(trainer: Trainer, capsys: pytest.CaptureFixture[str]) -> str:
    """What explain prints, after a line break, as it is easiest to write down."""
    capsys.readouterr()
    returned: Any = trainer.explain()  # type: ignore[func-returns-value]
    assert returned is None
    return "\n" + capsys.readouterr().out


class Early(Callback):
    order = Order.FIRST

    def on_fit_start(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...


class Watches(Callback):
    order = Order.MONITOR

    def on_validation_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...


class Idle(Callback):
    """Overrides nothing."""


class Base(Callback):
    def on_train_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...


class Inherits(Base):
    """Overrides what its base does."""

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...


def test_without_callbacks_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained(Trainer(registered_callbacks=False), capsys) == "\nNo callbacks.\n"


def test_one_callback_that_was_passed(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(callbacks=Early(), registered_callbacks=False)
    expected = """
1 callback, in the order in which they run:
  1. Early  FIRST    passed by you
     on_fit_start
"""
    assert explained(trainer, capsys) == expected


def test_callbacks_stand_in_the_order_in_which_they_run(capsys: pytest.CaptureFixture[str]) -> None:
    trainer = Trainer(callbacks=[Watches(), Inherits(), Idle(), Early()], registered_callbacks=False)
    expected = """
4 callbacks, in the order in which they run:
  1. Early     FIRST    passed by you
     on_fit_start
  2. Inherits  NORMAL   passed by you
     on_train_start, on_train_end
  3. Idle      NORMAL   passed by you
     overrides no hook
  4. Watches   MONITOR  passed by you
     on_validation_end
"""
    assert explained(trainer, capsys) == expected


def test_hooks_that_an_instance_was_given_count_too(capsys: pytest.CaptureFixture[str]) -> None:
    own = LambdaCallback(on_train_end=lambda trainer, pl_module: None, setup=lambda trainer, pl_module, stage: None)
    expected = """
1 callback, in the order in which they run:
  1. LambdaCallback  NORMAL   passed by you
     setup, on_train_end
"""
    assert explained(Trainer(callbacks=own, registered_callbacks=False), capsys) == expected


def test_many_hooks_go_on_in_the_next_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(Trainer(callbacks=RecordingCallback("C", Trace()), registered_callbacks=False), capsys)
    lines = text.strip().splitlines()
    assert max(map(len, lines)) <= 100
    # A line ends where the next hook would not fit in.
    assert all(len(f"{line} {after.split()[0]}") > 100 for line, after in itertools.pairwise(lines[2:]))
    assert len(lines) > 3
    assert all(line.startswith("     ") and line[5] != " " for line in lines[2:])
    # All 39 methods of the reference and the three of DESIGN.md, each whole.
    hooks = " ".join(line.strip() for line in lines[2:]).split(", ")
    assert len(set(hooks)) == len(hooks) == 42
    assert all(hasattr(Callback, hook) for hook in hooks)


def test_more_than_nine_callbacks_stay_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    text = explained(Trainer(callbacks=[Idle() for _ in range(10)], registered_callbacks=False), capsys)
    assert "\n  9. Idle  NORMAL   passed by you\n" in text
    assert "\n 10. Idle  NORMAL   passed by you\n" in text


def test_registered_callbacks_are_named_with_their_distribution_and_entry_point(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-bars", "2.5", factories={"acme": "acme_bars:make"}, modules={"acme_bars": BARS})
    expected = """
3 callbacks, in the order in which they run:
  1. Watched  NORMAL   passed by you
     on_test_end
  2. Bar      NORMAL   acme-bars 2.5, entry point acme = acme_bars:make
     on_train_start, on_train_batch_end
  3. Saver    LAST     acme-bars 2.5, entry point acme = acme_bars:make
     on_train_epoch_end, state_dict
"""

    class Watched(Callback):
        def on_test_end(self, trainer: TrainerView, pl_module: LightningModule) -> None: ...

    assert explained(Trainer(callbacks=Watched()), capsys) == expected


def test_a_callback_of_an_installed_package_that_the_user_passed_is_the_users(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-bars", "2.5", factories={"acme": "acme_bars:make"}, modules={"acme_bars": BARS})
    own = importlib.import_module("acme_bars").Bar()
    expected = """
2 callbacks, in the order in which they run:
  1. Bar    NORMAL   acme-bars 2.5, passed by you
     on_train_start, on_train_batch_end
  2. Saver  LAST     acme-bars 2.5, entry point acme = acme_bars:make
     on_train_epoch_end, state_dict
"""
    assert explained(Trainer(callbacks=own), capsys) == expected


class BringsSome(QuietModule):
    """Needs two callbacks of its own."""

    def configure_callbacks(self) -> list[Callback]:
        return [Watches(), Inherits()]


def test_callbacks_of_the_module_are_named_with_the_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Explains(Callback):
        def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
            assert isinstance(trainer, Trainer)
            self.text = explained(trainer, capsys)

    during = """
3 callbacks, in the order in which they run:
  1. Explains  NORMAL   passed by you
     on_train_start
  2. Inherits  NORMAL   BringsSome.configure_callbacks()
     on_train_start, on_train_end
  3. Watches   MONITOR  BringsSome.configure_callbacks()
     on_validation_end
"""
    explains = Explains()
    # The user's Watches steps aside for the module's.
    trainer = Trainer(
        callbacks=[Watches(), explains],
        registered_callbacks=False,
        max_epochs=1,
        logger=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(BringsSome())
    assert explains.text == during
    # After a run, it tells of the last one.
    assert explained(trainer, capsys) == during

    trainer.validate(QuietModule(), verbose=False)
    assert (
        explained(trainer, capsys)
        == """
2 callbacks, in the order in which they run:
  1. Explains  NORMAL   passed by you
     on_train_start
  2. Watches   MONITOR  passed by you
     on_validation_end
"""
    )


def test_a_callback_of_the_users_that_the_module_returns_as_well_stays_the_users(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Idle()

    class ReturnsIt(QuietModule):
        def configure_callbacks(self) -> Callback:
            return own

    trainer = Trainer(callbacks=own, registered_callbacks=False, max_epochs=1, logger=False, default_root_dir=tmp_path)
    trainer.fit(ReturnsIt())
    passed = """
1 callback, in the order in which they run:
  1. Idle  NORMAL   passed by you
     overrides no hook
"""
    assert trainer.callbacks == [own]
    assert explained(trainer, capsys) == passed
    trainer.fit(QuietModule())
    assert trainer.callbacks == [own]
    assert explained(trainer, capsys) == passed


def test_a_callback_that_a_module_replaced_is_back_in_its_place_in_the_next_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Replaces(QuietModule):
        def configure_callbacks(self) -> Callback:
            return Inherits()

    replaced, other = Inherits(), Idle()
    trainer = Trainer(callbacks=[replaced, other], registered_callbacks=False, logger=False, default_root_dir=tmp_path)
    trainer.validate(Replaces(), verbose=False)
    assert trainer.callbacks[0] is other
    trainer.validate(QuietModule(), verbose=False)
    assert trainer.callbacks == [replaced, other]


def test_a_callback_that_was_added_later_is_not_taken_for_one_that_is_gone(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    site.install("acme-bars", "2.5", factories={"acme": "acme_bars:make"}, modules={"acme_bars": BARS})
    trainer = Trainer()
    saver = trainer.callbacks[1]
    # What is freed is soon used again: a new object may stand exactly where the bar was.
    freed = id(trainer.callbacks[0])
    del trainer.callbacks[0]
    later: list[Callback] = []
    while len(later) < 1000 and (not later or id(later[-1]) != freed):
        later.append(Idle())
    trainer.callbacks.insert(0, later[-1])
    assert list(trainer.callbacks) == [later[-1], saver]
    assert (
        explained(trainer, capsys)
        == """
2 callbacks, in the order in which they run:
  1. Idle   NORMAL   passed by you
     overrides no hook
  2. Saver  LAST     acme-bars 2.5, entry point acme = acme_bars:make
     on_train_epoch_end, state_dict
"""
    )


def test_a_trainer_does_not_keep_what_the_modules_of_earlier_runs_brought(tmp_path: Path) -> None:
    made: list[weakref.ref[Callback]] = []

    class Brings(QuietModule):
        def configure_callbacks(self) -> Callback:
            callback = Idle()
            made.append(weakref.ref(callback))
            return callback

    trainer = Trainer(registered_callbacks=False, logger=False, default_root_dir=tmp_path)
    module = Brings()
    for _ in range(3):
        trainer.validate(module, verbose=False)
    gc.collect()
    assert [one() is None for one in made] == [True, True, False]
