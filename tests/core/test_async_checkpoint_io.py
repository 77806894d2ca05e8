"""`AsyncCheckpointIO`: a CheckpointIO that makes every save of a trainer a background one."""

import threading
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import pytest
import torch

from hookloop import Callback, LightningModule, Trainer
from hookloop.checkpoint_file import read_checkpoint
from hookloop.checkpoint_io import CheckpointIO, TorchCheckpointIO
from hookloop.errors import CheckpointError, MisconfigurationError, MisconfigurationTypeError
from hookloop.plugins.io import AsyncCheckpointIO
from hookloop.strategies import SingleDeviceStrategy
from hookloop.view import TrainerView

from .fitting import BATCHES, Regression, Saves, equal, loader, trainer_in
from .gates import Gate, writers, written


def state(value: float) -> dict[str, Any]:
    return {"state_dict": {"w": torch.full((3,), value)}}


class Hears(Callback):
    def __init__(self) -> None:
        self.heard: list[tuple[str, int, int]] = []

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.heard.append((Path(path).name, read_checkpoint(path)["global_step"], trainer.global_step))


def test_every_save_of_a_trainer_goes_through_the_thread_and_is_announced_once(tmp_path: Path) -> None:
    gate, hears = Gate(is_open=False), Hears()

    class Opens(Callback):
        def on_train_batch_start(self, trainer: TrainerView, *args: Any) -> None:
            if trainer.global_step == 3:
                assert hears.heard == []
                gate.opened.set()
                written()

    callbacks = [Saves("on_train_batch_end", tmp_path / "a.ckpt", n=2), Opens(), hears]
    trainer = trainer_in(tmp_path, *callbacks, max_epochs=1, plugins=AsyncCheckpointIO(gate))
    trainer.fit(Regression(), loader())
    assert hears.heard == [("a.ckpt", 2, 4)]
    assert len(gate.threads) == 1
    assert gate.threads[0] is not threading.current_thread()

    trainer.save_checkpoint(tmp_path / "b.ckpt", background=True)
    trainer.wait_for_checkpoints()
    assert hears.heard[1:] == [("b.ckpt", 5, 5)]
    assert len(gate.threads) == 2


def test_the_files_are_those_of_the_io_that_it_wraps(tmp_path: Path) -> None:
    for name, io in (("plain", TorchCheckpointIO()), ("async", AsyncCheckpointIO())):
        torch.manual_seed(1)
        saves = Saves("on_train_epoch_end", tmp_path / f"{name}.ckpt")
        trainer_in(tmp_path, saves, max_epochs=2, plugins=io).fit(Regression(), loader())
    assert equal(read_checkpoint(tmp_path / "plain.ckpt"), read_checkpoint(tmp_path / "async.ckpt"))


def test_a_strategy_may_be_built_with_it_and_a_run_resumes_from_what_it_wrote(tmp_path: Path) -> None:
    strategy = SingleDeviceStrategy(checkpoint_io=AsyncCheckpointIO())
    trainer = trainer_in(tmp_path, max_epochs=1, accelerator="auto", strategy=strategy)
    trainer.fit(Regression(), loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    trainer.max_epochs = 2
    trainer.fit(Regression(), loader(), ckpt_path=tmp_path / "a.ckpt")
    assert trainer.global_step == 2 * BATCHES


def test_by_itself_it_copies_what_it_is_given_and_returns_a_future(tmp_path: Path) -> None:
    gate, given = Gate(is_open=False), state(1.0)
    io = AsyncCheckpointIO(gate)
    done = io.save_checkpoint(given, tmp_path / "a.ckpt")
    assert isinstance(done, Future)
    assert not done.done()
    given["state_dict"]["w"].zero_()
    gate.opened.set()
    assert done.result(60) is None
    assert equal(read_checkpoint(tmp_path / "a.ckpt"), state(1.0))


def test_reading_and_removing_wait_for_what_is_being_written(tmp_path: Path) -> None:
    gate = Gate(is_open=False)
    io = AsyncCheckpointIO(gate)
    for ask in (io.check_is_there, io.load_checkpoint, io.remove_checkpoint):
        gate.opened.clear()
        io.save_checkpoint(state(1.0), tmp_path / "a.ckpt")
        opening = threading.Timer(0.05, gate.opened.set)
        opening.start()
        ask(tmp_path / "a.ckpt")
        opening.join()
    assert not (tmp_path / "a.ckpt").exists()
    with pytest.raises(CheckpointError, match="There is no checkpoint"):
        io.check_is_there(tmp_path / "a.ckpt")


def test_an_error_that_nobody_asked_for_is_raised_by_the_next_save_which_is_written(tmp_path: Path) -> None:
    io = AsyncCheckpointIO(Gate(fails=("a.ckpt",)))
    io.save_checkpoint(state(1.0), tmp_path / "a.ckpt")
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.ckpt'"):
        io.save_checkpoint(state(2.0), tmp_path / "b.ckpt")
    io.teardown()
    assert equal(read_checkpoint(tmp_path / "b.ckpt"), state(2.0))


def test_or_by_teardown_once(tmp_path: Path) -> None:
    io = AsyncCheckpointIO(Gate(fails=("a.ckpt",)))
    io.save_checkpoint(state(1.0), tmp_path / "a.ckpt")
    with pytest.raises(OSError, match="No space"):
        io.teardown()
    io.teardown()


def test_an_error_that_was_asked_for_is_told_once(tmp_path: Path) -> None:
    io = AsyncCheckpointIO(Gate(fails=("a.ckpt",)))
    done = io.save_checkpoint(state(1.0), tmp_path / "a.ckpt")
    with pytest.raises(OSError, match="No space"):
        done.result(60)
    io.teardown()


def test_a_run_raises_its_error_once_or_warns(tmp_path: Path) -> None:
    io = AsyncCheckpointIO(Gate(fails=("a.ckpt",)))
    trainer = trainer_in(tmp_path, Saves("on_train_epoch_end", tmp_path / "a.ckpt", n=2), max_epochs=2, plugins=io)
    with pytest.raises(OSError, match="No space") as caught:
        trainer.fit(Regression(), loader())
    assert not hasattr(caught.value, "__notes__")

    trainer.save_checkpoint(tmp_path / "a.ckpt", on_error="warn")
    with pytest.warns(UserWarning, match="goes on without the checkpoint .*a.ckpt: OSError"):
        trainer.wait_for_checkpoints()
    io.teardown()


def test_after_teardown_it_goes_on(tmp_path: Path) -> None:
    io = AsyncCheckpointIO()
    for value in (1.0, 2.0):
        io.save_checkpoint(state(value), tmp_path / "a.ckpt")
        io.teardown()
        assert writers() == []
        assert equal(io.load_checkpoint(tmp_path / "a.ckpt"), state(value))


def test_teardown_reaches_the_io_that_it_wraps() -> None:
    class Closes(TorchCheckpointIO):
        closed = 0

        def teardown(self) -> None:
            self.closed += 1

    inner = Closes()
    AsyncCheckpointIO(inner).teardown()
    assert inner.closed == 1


def test_an_io_of_ones_own_may_return_a_future(tmp_path: Path) -> None:
    futures: list[Future[None]] = []

    class Uploads(TorchCheckpointIO):
        saves_in_background = True

        def save_checkpoint(  # type: ignore[override]
            self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None
        ) -> "Future[None]":
            super().save_checkpoint(checkpoint, path, storage_options)
            futures.append(Future())
            return futures[-1]

    hears = Hears()
    trainer = trainer_in(tmp_path, hears, max_epochs=1, plugins=Uploads())
    trainer.fit(Regression(), loader())
    trainer.save_checkpoint(tmp_path / "a.ckpt", background=True)
    assert hears.heard == []
    futures[0].set_result(None)
    trainer.wait_for_checkpoints()
    assert hears.heard == [("a.ckpt", 5, 5)]

    trainer.save_checkpoint(tmp_path / "b.ckpt")
    futures[1].cancel()
    with pytest.raises(CancelledError):
        trainer.wait_for_checkpoints()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("disk", MisconfigurationTypeError, r"checkpoint_io='disk'\): pass an instance of CheckpointIO"),
        (TorchCheckpointIO, MisconfigurationTypeError, r"checkpoint_io=TorchCheckpointIO\): pass an instance"),
        (
            AsyncCheckpointIO(),
            MisconfigurationError,
            r"AsyncCheckpointIO\(\.\.\.\)\): that one saves in the background",
        ),
    ],
    ids=["text", "class", "another one"],
)
def test_what_it_cannot_wrap_is_refused(given: CheckpointIO, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        AsyncCheckpointIO(given)


def test_it_stands_where_lightnings_users_look_for_it() -> None:
    from hookloop import plugins
    from hookloop.plugins.io import async_plugin

    assert plugins.AsyncCheckpointIO is async_plugin.AsyncCheckpointIO is AsyncCheckpointIO
    assert isinstance(Trainer(plugins=AsyncCheckpointIO(), logger=False).strategy.checkpoint_io, AsyncCheckpointIO)
