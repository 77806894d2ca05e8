"""The process is asked to end (SIGTERM): a handler takes a note, and the loops honour it after the running batch."""

import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from hookloop.errors import MisconfigurationError, PausedException, SIGTERMException
from hookloop.hooks import CompiledHooks
from hookloop.loops.lost_workers import is_loss_of_workers, told_as_torch_does
from hookloop.run import Run
from hookloop.stage import TrainerState


class PreemptionSignals:
    """Between `watch` and `restore`, SIGTERM is noted in `state.received_signal`, and nothing else happens.

    A handler runs between any two instructions: in a save, in a lock of the logging module, in a collective that other
    ranks do not take part in. What it did there could deadlock or save half a step, so it does not do anything.

    A handler that the user installed before is called after the note is taken, and is there again afterwards. A process
    that was told to ignore the signal goes on ignoring it. Off the main thread Python can install no
    handler, so nothing is watched there.

    Args:
        state: where the note goes.
    """

    def __init__(self, state: TrainerState) -> None:
        self._state = state
        self._before: dict[int, Any] = {}
        state.received_signal = None
        state.watched_signals = (signal.SIGTERM,)

    def watch(self) -> None:
        """Begin to take notes."""
        self._watch(signal.SIGTERM)

    def watch_also(self, hooks: CompiledHooks) -> None:
        """Take notes of the signals too that callbacks of the run ask for.

        Raises:
            MisconfigurationError: one of them is no signal that a process can handle, or is Ctrl-C's.
        """
        for callback in hooks.callbacks:
            numbers: object = callback.preemption_signals
            if isinstance(numbers, int):
                raise MisconfigurationError(
                    f"{type(callback).__qualname__}.preemption_signals is {numbers!r}, and a sequence is needed: "
                    f"({numbers!r},)."
                )
            if not isinstance(numbers, Iterable):
                continue  # what stands in for a callback, such as a mock, has something of every name
            for number in numbers:
                _check_signal(type(callback).__qualname__, number)
                self._watch(number)

    def _watch(self, number: int) -> None:
        if threading.current_thread() is not threading.main_thread() or number in self._before:
            return
        before = signal.getsignal(number)
        # None: installed by code that is not Python's, which could not be put back.
        if before is not None and before != signal.SIG_IGN:
            self._before[number] = before
            self._state.watched_signals = tuple(self._before)
            signal.signal(number, self._note)

    def restore(self) -> None:
        """Put back the handlers that were there before, unless somebody else has installed others meanwhile."""
        for number, before in self._before.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, before)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._state.received_signal is None:  # the first one says why the run ends
            self._state.received_signal = number
            self._state.attention = True
        before = self._before.get(number)
        if callable(before):
            before(number, frame)


def _check_signal(owner: str, number: object) -> None:
    refused = {getattr(signal, name, None) for name in ("SIGINT", "SIGKILL", "SIGSTOP", "SIGCHLD")}
    if not isinstance(number, int) or number not in signal.valid_signals() or number in refused:
        raise MisconfigurationError(
            f"{owner}.preemption_signals holds {number!r}. Use signals that a process can handle and that mean nothing "
            "else, such as signal.SIGUSR1; Ctrl-C (SIGINT) has its own way to end a run."
        )


@contextmanager
def preemptible(run: Run) -> Iterator[None]:
    """Within it, requests to end the run wait for the running batch.

    A batch that never comes, because its worker died of the signal, ends the run as the signal does.

    Raises:
        SIGTERMException: a loader waited in vain after SIGTERM had come.
        RuntimeError: a worker is gone, and all that was noticed of it was a connection that broke.
    """
    around, run.state.finishes_batches = run.state.finishes_batches, True
    try:
        yield
    except Exception as raised:
        if run.state.received_signal is None or not is_loss_of_workers(raised, run.state):
            if (told := told_as_torch_does(raised)) is not None:
                raise told from raised
            raise
        run.loaders.rewind(run.progress.batch)
        end_preempted(run)
    finally:
        run.state.finishes_batches = around


def end_preempted(run: Run) -> None:
    """End a run whose process was asked to end: `on_preemption` of every callback, in which those of Order LAST save.

    Called where the counters and the weights agree: after a batch, or before the first one of an epoch.

    Raises:
        SIGTERMException: always.
    """
    signum = run.state.received_signal
    assert signum is not None
    if run.strategy.is_global_zero:
        name = signal.Signals(signum).name
        print(f"{name} received: the batch is done, and the run ends here.", file=sys.stderr, flush=True)
    run.hooks.on_preemption(signum)
    raise SIGTERMException(signum)


def end_paused(run: Run, reason: str) -> None:
    """End a run that a callback has paused: as one whose process was asked to end, but for the process.

    Raises:
        PausedException: always; the entry point returns then.
    """
    run.hooks.on_preemption(0)
    raise PausedException(reason)
