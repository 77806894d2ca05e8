"""Among batches, a first Ctrl-C waits for the running batch; a second one, or one between batches, does not."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from hookloop import Callback, LambdaCallback, LightningModule
from hookloop.checkpoint_file import read_checkpoint
from hookloop.checkpoint_file.writing import write_checkpoint
from hookloop.loops import interrupts

from .fitting import BATCHES, Regression, Saves, assert_same_training, loader, trainer_in
from .test_on_interrupt import entered


def press() -> None:
    signal.raise_signal(signal.SIGINT)


class Presses(Callback):
    """Presses Ctrl-C when a hook is called for the n-th time, and counts the batches that come to their end."""

    def __init__(self, hook: str, n: int = 1, times: int = 1) -> None:
        self.n, self.times = n, times
        self.calls = 0
        self.ended: list[str] = []
        self.heard: list[str] = []
        for kind in ("train", "validation", "test", "predict"):
            setattr(self, f"on_{kind}_batch_end", lambda *args, kind=kind: self.ended.append(kind))
        ends = getattr(self, hook, None) if hook.endswith("_batch_end") else None

        def count(*args: Any) -> None:
            if ends is not None:
                ends()
            self.calls += 1
            if self.calls == self.n:
                for _ in range(self.times):
                    press()

        setattr(self, hook, count)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.heard.append(type(exception).__name__)


@pytest.fixture
def each_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two presses are two, however quickly they follow each other."""
    monkeypatch.setattr(interrupts, "SAME_PRESS_S", 0.0)


@pytest.mark.parametrize(
    ("entry", "hook", "n", "ended"),
    [
        ("fit", "on_before_backward", 3, ["train"] * 3),
        ("fit", "on_train_batch_end", 3, ["train"] * 3),
        ("fit", "on_train_start", 1, []),
        ("fit", "on_validation_batch_start", 1, ["train"] * BATCHES + ["validation"]),
        ("fit", "on_train_epoch_end", 1, ["train"] * BATCHES + ["validation"] * 2),
        ("validate", "on_validation_batch_start", 1, ["validation"]),
        ("test", "on_test_batch_start", 2, ["test"] * 2),
        ("predict", "on_predict_batch_start", 2, ["predict"] * 2),
    ],
)
def test_the_running_batch_is_the_last_one(entry: str, hook: str, n: int, ended: list[str], tmp_path: Path) -> None:
    presses = Presses(hook, n)
    trainer = trainer_in(tmp_path, presses)
    with pytest.raises(KeyboardInterrupt):
        entered(trainer, entry)
    assert presses.ended == ended
    assert presses.heard == ["KeyboardInterrupt"]
    assert trainer.interrupted
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_is_saved_then_goes_on_as_if_nobody_had_pressed(tmp_path: Path) -> None:
    whole = trainer_in(tmp_path)
    whole.fit(Regression(), loader(), loader(2))
    path = tmp_path / "pressed.ckpt"
    for moment in ("on_before_backward", "on_before_zero_grad", "on_before_optimizer_step", "on_after_optimizer_step"):
        saves = Saves("on_exception", path)
        with pytest.raises(KeyboardInterrupt):
            trainer_in(tmp_path, Presses(moment, 3), saves).fit(Regression(), loader(), loader(2))
        assert read_checkpoint(path)["progress"]["global_step"] == 3
        resumed = trainer_in(tmp_path)
        resumed.fit(Regression(), loader(), loader(2), ckpt_path=path)
        assert_same_training(resumed, whole)


def test_one_after_the_last_batch_lets_the_run_end_and_is_raised_then(tmp_path: Path) -> None:
    presses = Presses("on_fit_end")
    ends: list[str] = []
    hooks = {name: lambda *args, name=name: ends.append(name) for name in ("on_train_end", "teardown")}
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, Presses("on_train_end"), LambdaCallback(**hooks)).fit(Regression(), loader())
    assert ends == ["on_train_end", "teardown"]
    assert presses.ended == []


def test_a_second_press_ends_the_batch_in_its_middle(each_counts: None, tmp_path: Path) -> None:
    presses = Presses("on_before_backward", 3, times=2)
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, presses).fit(Regression(), loader())
    assert presses.ended == ["train"] * 2


def test_a_key_that_is_held_down_is_one_press(tmp_path: Path) -> None:
    presses = Presses("on_before_backward", 3, times=50)
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, presses).fit(Regression(), loader())
    assert presses.ended == ["train"] * 3


def test_before_the_first_batch_it_ends_the_run_at_once(tmp_path: Path) -> None:
    reached: list[str] = []

    class Downloads(Regression):
        def prepare_data(self) -> None:
            press()
            reached.append("after it")

    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path).fit(Downloads(), loader())
    assert reached == []


def test_it_is_said_when_the_batch_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "TELL_AFTER_S", 0.0)
    said = Screen(monkeypatch)

    def waits(*args: Any) -> None:
        press()
        assert said.wait_for("Ctrl-C: the run ends after this batch. Press again to end it at once.\n")

    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, LambdaCallback(on_before_backward=waits)).fit(Regression(), loader())


def test_it_is_said_when_the_unwinding_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts, "TELL_AFTER_S", 0.0)
    said = Screen(monkeypatch)

    def waits(*args: Any) -> None:
        press()
        assert said.wait_for("Finishing up. Press Ctrl-C again to interrupt what takes so long.\n")

    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, LambdaCallback(teardown=waits)).fit(Regression(), loader())


class Screen:
    """Stands for standard error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.text = ""
        self.changed = threading.Condition()
        monkeypatch.setattr(sys, "stderr", self)

    def write(self, text: str) -> int:
        with self.changed:
            self.text += text
            self.changed.notify_all()
        return len(text)

    def flush(self) -> None:
        pass

    def wait_for(self, text: str) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: text in self.text, timeout=60)


def test_one_in_a_finalizer_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python prints what is raised in a `__del__`, and goes on."""

    class Dropped:
        def __del__(self) -> None:
            press()

    swallowed: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", swallowed.append)
    ends = Presses("on_fit_start", n=0)
    trainer = trainer_in(tmp_path, LambdaCallback(on_before_backward=lambda *args: Dropped() and None), ends)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(Regression(), loader())
    assert swallowed == []
    assert ends.ended == ["train"]


class Pressed(logging.Handler):
    """Ctrl-C is pressed twice while a record is written, whose writing ends when somebody says so."""

    def __init__(self, ends: Callable[[], bool]) -> None:
        super().__init__()
        self.ends = ends
        self.written: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        press()
        press()
        while not self.ends():
            threading.Event().wait(0.001)
        self.written.append(record.getMessage())


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("hookloop.test_ctrl_c_waits")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    yield logger
    logger.handlers.clear()


def test_a_second_press_while_a_record_is_logged_leaves_no_lock_held(
    each_counts: None, tmp_path: Path, logger: logging.Logger
) -> None:
    handler = Pressed(ends=lambda: True)
    logger.addHandler(handler)
    presses = Presses("on_fit_start", n=0)
    logs = LambdaCallback(on_before_backward=lambda *args: logger.info("in the middle"))
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, presses, logs, max_epochs=-1).fit(Regression(), loader())

    def take_the_lock() -> None:
        handler.acquire()
        handler.release()

    taken = threading.Thread(target=take_the_lock, daemon=True)
    taken.start()
    taken.join(30)
    assert not taken.is_alive()
    assert handler.written
    assert presses.heard == ["KeyboardInterrupt"]


def test_a_second_press_comes_through_where_logging_never_ends(
    each_counts: None, tmp_path: Path, logger: logging.Logger
) -> None:
    handler = Pressed(ends=lambda: False)
    logger.addHandler(handler)
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, LambdaCallback(on_before_backward=lambda *args: logger.info("never"))).fit(
            Regression(), loader()
        )
    assert handler.written == []


# loaders with workers


class Silent(Dataset[torch.Tensor]):
    """Gives `n` samples, and then none: whoever asks for more waits until somebody writes into the pipe."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.readable, self.writable = os.pipe()

    def __len__(self) -> int:
        return 64

    def __getitem__(self, index: int) -> torch.Tensor:
        if index >= self.n:
            os.read(self.readable, 1)
        return torch.ones(1)


class Counts(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight * batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def when_main_waits_in(name: str, do: Callable[[], None]) -> threading.Thread:
    """Do something as soon as the main thread waits in a function of that name."""
    main = threading.main_thread().ident
    assert main is not None

    def names(frame: FrameType | None) -> Iterator[str]:
        while frame is not None:
            yield frame.f_code.co_name
            frame = frame.f_back

    def look() -> None:
        pause = threading.Event()
        while True:
            inside = list(names(sys._current_frames()[main]))
            if inside[0] == "select" and name in inside:
                return do()
            pause.wait(0.001)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


def test_who_waits_for_a_batch_is_interrupted_at_once(tmp_path: Path) -> None:
    data = Silent(8)
    presses = Presses("on_fit_start", n=0)
    frees = LambdaCallback(on_exception=lambda *args: os.write(data.writable, b"x" * 64) and None)
    watcher = when_main_waits_in("_try_get_data", lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        trainer_in(tmp_path, presses, frees).fit(Counts(), DataLoader(data, num_workers=2, batch_size=2))
    watcher.join(30)
    assert len(presses.ended) <= 4  # of 32: nothing came any more
    assert multiprocessing.active_children() == []


def test_a_worker_that_gets_it_too_goes_on_until_it_is_told(tmp_path: Path) -> None:
    """A terminal interrupts the whole group; the batch that runs may need one more from the workers."""
    presses = Presses("on_fit_start", n=0)

    def group(*args: Any) -> None:
        for child in multiprocessing.active_children():
            assert child.pid is not None
            os.kill(child.pid, signal.SIGINT)

    alive: list[bool] = []
    look = LambdaCallback(
        on_before_zero_grad=group,
        on_train_batch_end=lambda *args: alive.extend(child.is_alive() for child in multiprocessing.active_children()),
    )
    trainer_in(tmp_path, presses, look, max_epochs=1).fit(Counts(), DataLoader(Silent(99), num_workers=2, batch_size=2))
    assert len(presses.ended) == 32
    assert alive == [True] * 64


def test_workers_that_die_of_it_are_a_keyboard_interrupt(tmp_path: Path) -> None:
    """Those of another start method than fork do not know that they are to go on."""

    class Killing(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            yield 0
            press()
            for child in multiprocessing.active_children():
                child.kill()
            yield from range(1, 64)

        def __len__(self) -> int:
            return 64

    presses = Presses("on_fit_start", n=0)
    data = DataLoader(Silent(99), num_workers=2, sampler=Killing())
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer_in(tmp_path, presses).fit(Counts(), data)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert presses.heard == ["KeyboardInterrupt"]
    assert multiprocessing.active_children() == []


# saves


class Interrupted:
    """A file; Ctrl-C is pressed when something is written into it for the n-th time."""

    def __init__(self, file: Any, n: int) -> None:
        self.file, self.n = file, n

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: Any) -> int:
        written: int = self.file.write(data)
        self.n -= 1
        if self.n == 0:
            press()
        return written


@pytest.mark.parametrize("n", range(1, 10))
def test_one_in_the_middle_of_a_save_is_not_taken_for_an_error_of_the_save(
    n: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing a half-written archive, torch raises an error of its own over it."""
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda checkpoint, file: save(checkpoint, Interrupted(file, n)))
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint({"epoch": 1}, tmp_path / "file.ckpt")
    assert list(tmp_path.iterdir()) == []
