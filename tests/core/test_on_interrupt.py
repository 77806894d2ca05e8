"""Trainer(on_interrupt=...): whether a Ctrl-C raises, or ends the entry point; and signals that callbacks ask for."""

import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookloop import Callback, LambdaCallback, Trainer
from hookloop.errors import MisconfigurationError, SIGTERMException

from .fitting import Regression, Saves, assert_same_training, loader, trainer_in

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = [signal.getsignal(number) for number in WATCHED]
    yield
    after = [signal.getsignal(number) for number in WATCHED]
    for number, handler in zip(WATCHED, before, strict=True):
        signal.signal(number, handler)
    assert after == before


def raises(number: int, hook: str, n: int = 1) -> LambdaCallback:
    """Has the process get a signal when a hook is called for the n-th time."""
    calls = []

    def count(*args: Any) -> None:
        calls.append(hook)
        if len(calls) == n:
            signal.raise_signal(number)

    return LambdaCallback(**{hook: count})


class Ends(Callback):
    """Writes down how a run ends."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        self.heard.append(type(exception).__name__)

    def on_preemption(self, trainer: Any, pl_module: Any, signum: int) -> None:
        self.heard.append(signal.Signals(signum).name)

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.heard.append(f"teardown {stage}")


def entered(trainer: Trainer, entry: str) -> Any:
    if entry == "fit":
        return trainer.fit(Regression(), loader(), loader(2))
    arguments = {} if entry == "predict" else {"verbose": False}
    return getattr(trainer, entry)(Regression(), loader(2), **arguments)


CASES: list[tuple[str, str, Any]] = [
    ("fit", "on_before_backward", None),
    ("fit", "on_sanity_check_start", None),
    ("fit", "on_validation_batch_start", None),
    ("validate", "on_validation_batch_start", []),
    ("test", "on_test_batch_start", []),
    ("predict", "on_predict_batch_start", None),
]


@pytest.mark.parametrize(("entry", "hook", "returned"), CASES)
def test_an_entry_point_returns_after_a_ctrl_c(entry: str, hook: str, returned: Any, tmp_path: Path) -> None:
    ends = Ends()
    trainer = trainer_in(tmp_path, raises(signal.SIGINT, hook), ends, on_interrupt="return", num_sanity_val_steps=1)
    assert entered(trainer, entry) == returned
    assert trainer.interrupted
    assert ends.heard == ["KeyboardInterrupt", f"teardown {entry}"]


@pytest.mark.parametrize(("entry", "hook", "returned"), CASES)
def test_by_default_the_interrupt_reaches_the_caller_after_teardown(
    entry: str, hook: str, returned: Any, tmp_path: Path
) -> None:
    ends = Ends()
    trainer = trainer_in(tmp_path, raises(signal.SIGINT, hook), ends, num_sanity_val_steps=1)
    with pytest.raises(KeyboardInterrupt):
        entered(trainer, entry)
    assert trainer.interrupted
    assert ends.heard == ["KeyboardInterrupt", f"teardown {entry}"]


def test_a_run_that_is_not_interrupted_says_so(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, raises(signal.SIGINT, "on_before_backward"), on_interrupt="return")
    trainer.fit(Regression(), loader())
    assert trainer.interrupted
    trainer.fit(Regression(), loader())
    assert not trainer.interrupted


def test_what_failed_while_an_interrupted_run_was_torn_down_is_a_warning(tmp_path: Path) -> None:
    def fails(*args: Any) -> None:
        raise ValueError("no space left")

    interrupts = raises(signal.SIGINT, "on_before_backward")
    trainer = trainer_in(tmp_path, interrupts, LambdaCallback(teardown=fails), on_interrupt="return")
    with pytest.warns(UserWarning, match=r"fit was interrupted\. .*no space left"):
        trainer.fit(Regression(), loader())


def test_other_exceptions_and_sigterm_are_raised_all_the_same(tmp_path: Path) -> None:
    trainer = trainer_in(tmp_path, raises(signal.SIGTERM, "on_before_backward"), on_interrupt="return")
    with pytest.raises(SIGTERMException):
        trainer.fit(Regression(), loader())
    zero = LambdaCallback(on_before_backward=lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer_in(tmp_path, zero, on_interrupt="return").fit(Regression(), loader())


def test_the_environment_can_set_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLOOP_TRAINER_ON_INTERRUPT", "return")
    trainer = trainer_in(tmp_path, raises(signal.SIGINT, "on_before_backward"))
    trainer.fit(Regression(), loader())
    assert trainer.interrupted


# signals that callbacks ask for


class Asks(Ends):
    """Asks to be told of SIGUSR1 as of SIGTERM."""

    preemption_signals = (signal.SIGUSR1,)


@pytest.mark.parametrize(
    ("entry", "hook", "n", "done"),
    [
        ("fit", "on_before_backward", 3, 2 + 3),  # a sanity check of two batches comes first
        ("fit", "on_sanity_check_start", 1, 1),
        ("fit", "on_validation_batch_start", 3, 2 + 5 + 1),
        ("validate", "on_validation_batch_start", 1, 1),
        ("test", "on_test_batch_start", 1, 1),
        ("predict", "on_predict_batch_start", 1, 1),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_that_a_callback_asks_for_ends_a_run_within_one_batch(
    number: signal.Signals, entry: str, hook: str, n: int, done: int, tmp_path: Path
) -> None:
    batches: list[Any] = []
    asks = Asks()
    kinds = ("train", "validation", "test", "predict")
    counts = LambdaCallback(**{f"on_{kind}_batch_end": lambda *args: batches.append(1) for kind in kinds})
    trainer = trainer_in(tmp_path, raises(number, hook, n), asks, counts, num_sanity_val_steps=2)
    with pytest.raises(SIGTERMException) as ended:
        entered(trainer, entry)
    assert ended.value.code == 128 + number
    assert ended.value.signum == number
    assert asks.heard == [number.name, "SIGTERMException", f"teardown {entry}"]
    assert trainer.received_sigterm
    assert len(batches) == done  # the batch in which it came was the last one


def test_the_run_goes_on_from_there_as_if_it_had_not_ended(tmp_path: Path) -> None:
    whole = trainer_in(tmp_path)
    whole.fit(Regression(), loader(), loader(2))
    saves = Saves("on_preemption", tmp_path / "saved.ckpt")
    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, raises(signal.SIGUSR1, "on_after_backward", 3), Asks(), saves).fit(
            Regression(), loader(), loader(2)
        )
    resumed = trainer_in(tmp_path)
    resumed.fit(Regression(), loader(), loader(2), ckpt_path=tmp_path / "saved.ckpt")
    assert_same_training(resumed, whole)


def test_the_users_handlers_are_called_and_put_back_also_after_an_exception(tmp_path: Path) -> None:
    called: list[int] = []

    def mine(number: int, frame: Any) -> None:
        called.append(number)

    for number in (signal.SIGTERM, signal.SIGUSR1):
        before = signal.signal(number, mine)
        with pytest.raises(SIGTERMException):
            trainer_in(tmp_path, raises(number, "on_before_backward"), Asks()).fit(Regression(), loader())
        assert signal.getsignal(number) is mine
        zero = LambdaCallback(on_before_backward=lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer_in(tmp_path, zero, Asks()).fit(Regression(), loader())
        assert signal.getsignal(number) is mine
        signal.signal(number, before)
    assert called == [signal.SIGTERM, signal.SIGUSR1]


def test_the_first_signal_says_why_the_run_ends(tmp_path: Path) -> None:
    asks = Asks()
    both = (raises(signal.SIGUSR1, "on_before_backward"), raises(signal.SIGTERM, "on_after_backward"))
    with pytest.raises(SIGTERMException) as ended:
        trainer_in(tmp_path, *both, asks).fit(Regression(), loader())
    assert ended.value.signum == signal.SIGUSR1
    assert asks.heard[0] == "SIGUSR1"


def test_a_callback_that_the_module_adds_is_asked_too(tmp_path: Path) -> None:
    asks = Asks()

    class Adds(Regression):
        def configure_callbacks(self) -> Any:
            return [asks]

    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, raises(signal.SIGUSR1, "on_before_backward")).fit(Adds(), loader())
    assert asks.heard[0] == "SIGUSR1"


def test_nobody_is_watched_for_who_was_not_asked_for(tmp_path: Path) -> None:
    seen: list[Any] = []
    look = LambdaCallback(on_train_start=lambda *args: seen.append(signal.getsignal(signal.SIGUSR1)))
    trainer_in(tmp_path, look).fit(Regression(), loader())
    assert seen == [signal.getsignal(signal.SIGUSR1)]


def test_a_process_that_ignores_the_signal_goes_on_ignoring_it(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        trainer = trainer_in(tmp_path, raises(signal.SIGUSR1, "on_before_backward"), Asks())
        trainer.fit(Regression(), loader())
        assert not trainer.interrupted
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_off_the_main_thread_a_fit_works_without_handlers(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in WATCHED]
    seen: list[Any] = []
    look = LambdaCallback(on_train_start=lambda *args: seen.extend(signal.getsignal(number) for number in WATCHED))
    trainer = trainer_in(tmp_path, look, Asks(), on_interrupt="return")
    thread = threading.Thread(target=trainer.fit, args=(Regression(), loader()))
    thread.start()
    thread.join()
    assert seen == before
    assert not trainer.interrupted


@pytest.mark.parametrize("given", [signal.SIGINT, signal.SIGKILL, signal.SIGCHLD, 0, 9999, "SIGUSR1"])
def test_what_cannot_be_watched_is_refused_before_anything_begins(given: Any, tmp_path: Path) -> None:
    asks = Asks()
    asks.preemption_signals = (given,)
    with (
        warnings.catch_warnings(),
        pytest.raises(MisconfigurationError, match=r"Asks\.preemption_signals holds .* Use signals that a process can"),
    ):
        trainer_in(tmp_path, asks).fit(Regression(), loader())
    assert asks.heard[0] == "MisconfigurationError"
