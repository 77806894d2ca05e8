"""Workers of DataLoaders that are killed by the SIGTERM that ends the run: what torch raises then may have to wait.

Schedulers and terminals send a signal to a whole process group. The workers die at once, and torch raises a
RuntimeError of theirs from a handler of SIGCHLD, between any two instructions of the main process: in the middle of an
optimizer's step, or of the last save.
"""

import signal
import sys
import threading
from time import monotonic, sleep
from types import FrameType, TracebackType
from typing import Any

from torch.utils.data import _utils, dataloader

from hookloop.stage import TrainerState

_GRACE_S = 1.0
"""How long a SIGTERM may be under way to the main process when a worker has died of one: some platforms send it to one
process after the other."""


class LostWorkers:
    """Between `watch` and `restore`, the death of a worker is no error where the run is about to end anyway.

    It is still raised to whoever waits for a batch, as that will never come. Without a SIGTERM it is raised as torch
    has it. Off the main thread there is no handler to replace, and where SIGCHLD is ignored, torch hears of no death.

    Args:
        state: says whether SIGTERM or Ctrl-C has come; a death that was kept back is noted there.
    """

    def __init__(self, state: TrainerState) -> None:
        self._state = state
        self._before: Any = None
        self._unwinding = False
        state.lost_worker = None

    def watch(self) -> None:
        """Begin to keep errors back."""
        on_main_thread = threading.current_thread() is threading.main_thread()
        if not on_main_thread or not hasattr(signal, "SIGCHLD"):
            return
        if signal.getsignal(signal.SIGCHLD) in (None, signal.SIG_IGN):
            return
        _utils.signal_handling._set_SIGCHLD_handler()  # does so once in a process, or it would be put before this one
        self._before = signal.signal(signal.SIGCHLD, self._hear)

    def unwind(self) -> None:
        """The run is over: from now on nobody needs the workers."""
        self._unwinding = True

    def restore(self) -> None:
        """Put back the handler that was there before, unless somebody else has installed another one meanwhile."""
        if self._before is not None and signal.getsignal(signal.SIGCHLD) == self._hear:
            signal.signal(signal.SIGCHLD, self._before)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        try:
            if callable(self._before):  # somebody may have put the default one back, which is none
                self._before(number, frame)
        except RuntimeError as error:
            if not self._is_kept_back(error, frame):
                raise
            self._state.lost_worker = error

    def _is_kept_back(self, error: RuntimeError, frame: FrameType | None) -> bool:
        if not self._unwinding:
            self._wait_for_the_signal(error)
            if self._state.received_signal is None and not self._state.interrupt_noted:
                return False
        return not _waits_for_workers(frame)

    def _wait_for_the_signal(self, error: RuntimeError) -> None:
        if any((signal.strsignal(number) or "") in str(error) for number in self._state.watched_signals):
            deadline = monotonic() + _GRACE_S
            while self._state.received_signal is None and monotonic() < deadline:
                sleep(0.01)  # handlers run meanwhile


def _waits_for_workers(frame: FrameType | None) -> bool:
    """Whether the main process waits for what a dead worker will never do: give a batch, or give a lock back."""
    inside, ends, locks = False, False, False
    synchronize = sys.modules.get("multiprocessing.synchronize")  # who has no locks waits for none
    while frame is not None:
        code = frame.f_code
        inside = inside or code.co_filename == dataloader.__file__
        ends = ends or code.co_name == "_shutdown_workers"
        locks = locks or (synchronize is not None and code.co_filename == synchronize.__file__)
        frame = frame.f_back
    return inside and (locks or not ends)


def is_loss_of_workers(raised: BaseException, state: TrainerState) -> bool:
    """Whether an exception comes from waiting for a worker, and not from what the worker, or the user's code, did."""
    if raised is state.lost_worker:
        return True
    passed = list(_frames(raised.__traceback__))
    waited = any(file == dataloader.__file__ for file, _ in passed)
    return waited and not any(
        name.startswith("_SingleProcessDataLoaderIter.") or name == "ExceptionWrapper.reraise" for _, name in passed
    )


def told_as_torch_does(raised: BaseException) -> RuntimeError | None:
    """What torch says of a worker that is gone, where its death was noticed as a connection that broke.

    Tensors come through a connection to the worker. If that breaks before the signal of its death is there, the user
    sees a ConnectionResetError of multiprocessing, which names no worker.

    Returns:
        The error that names the workers; None if this is no such exception, or all workers are there.
    """
    if not isinstance(raised, ConnectionError | EOFError):
        return None
    traceback = raised.__traceback__
    while traceback is not None:
        owner = traceback.tb_frame.f_locals.get("self")
        if isinstance(owner, dataloader._MultiProcessingDataLoaderIter):
            deadline = monotonic() + _GRACE_S
            # The connection of a process breaks before the process is seen to be gone.
            while not (gone := [worker for worker in owner._workers if worker.exitcode is not None]):
                if monotonic() > deadline:
                    return None
                sleep(0.01)
            return RuntimeError(f"DataLoader worker {', '.join(map(_fate, gone))}.")
        traceback = traceback.tb_next
    return None


def _fate(worker: Any) -> str:
    code = worker.exitcode
    if code >= 0:
        return f"(pid {worker.pid}) exited unexpectedly with exit code {code}"
    return f"(pid {worker.pid}) is killed by signal: {signal.strsignal(-code) or -code}"


def _frames(traceback: TracebackType | None) -> list[tuple[str, str]]:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append((code.co_filename, code.co_qualname))
        traceback = traceback.tb_next
    return frames
