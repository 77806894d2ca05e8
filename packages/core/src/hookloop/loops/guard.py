"""What happens around every entry point: whatever is raised, everybody hears of it and everything is torn down."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

from hookloop.errors import SIGTERMException
from hookloop.hooks import add_note
from hookloop.loggers import Logger
from hookloop.loops.interrupts import Interrupts
from hookloop.loops.lost_workers import LostWorkers, is_loss_of_workers
from hookloop.loops.signals import PreemptionSignals
from hookloop.run import Run
from hookloop.stage import TrainerStatus

T = TypeVar("T")


class Closing(NamedTuple):
    """Something that is done at the end of an entry point, by name, so that an error in it names whose it was."""

    owner: object
    method: str
    arguments: tuple[object, ...] = ()


def guarded(
    run: Run, loggers: Sequence[Logger], body: Callable[[Callable[[], None]], T], closing: Sequence[Closing]
) -> T:
    """Run the body of an entry point and unwind it.

        body(watch)                        # SIGTERM is noted meanwhile, and honoured by the loops
        a file that is being written in the background: waited for, announced
        on an exception: on_exception of every callback and the datamodule
        teardown of all that was set up; finalize of every logger; everything in `closing`

    Args:
        run: the run.
        loggers: finalized with "success" or "failed".
        body: sets up, runs, and returns the entry point's result. Calls what it is given when the run's callbacks are
            known: from then on the signals that they ask for are noted too.
        closing: what else is done at the end, whatever happened.

    Raises:
        BaseException: the first that was raised, unchanged; what was raised after it hangs on it as notes.
    """
    assert run.state.fn is not None
    failure: BaseException | None = None
    interrupts = Interrupts(run.state)
    signals, workers = PreemptionSignals(run.state), LostWorkers(run.state)
    run.state.status = TrainerStatus.RUNNING
    try:
        try:
            signals.watch()
            workers.watch()
            interrupts.watch()
            try:
                result = body(partial(signals.watch_also, run.hooks))
                run.saves.wait()
            finally:
                interrupts.defer()  # before anything is unwound, so that no Ctrl-C falls in between
                workers.unwind()
        except BaseException as raised:  # noqa: BLE001 - KeyboardInterrupt and SystemExit unwind too; raised again below
            failure = _what_was_meant(run, raised, interrupts)
            run.state.status = TrainerStatus.INTERRUPTED
            run.hooks.report_exception(failure)
        failure = _attempt(run, failure, run.saves, "wait")
        failure = run.hooks.tear_down(run.state.fn.value, failure)
        for logger in loggers:
            failure = _attempt(run, failure, logger, "finalize", "success" if failure is None else "failed")
        for owner, method, arguments in closing:
            failure = _attempt(run, failure, owner, method, *arguments)
        if failure is None and (late := _asked_to_end(run, interrupts)) is not None:
            failure = late
            run.hooks.report_exception(late)
        run.hooks.detach()
        run.state.stage = None
        run.state.status = TrainerStatus.FINISHED if failure is None else TrainerStatus.INTERRUPTED
    finally:
        workers.restore()
        signals.restore()
        interrupts.restore()
    if failure is None:
        return result
    try:
        raise failure
    finally:
        # The exception's traceback holds this frame. If the frame held the exception too, whoever catches it would keep
        # the run's batches, workers and device memory until the garbage collector comes.
        failure = None


def _what_was_meant(run: Run, raised: BaseException, interrupts: Interrupts) -> BaseException:
    """The exception itself, but for the loss of a worker after a Ctrl-C, which the terminal sends to workers too."""
    if not interrupts.pressed or not isinstance(raised, Exception) or not is_loss_of_workers(raised, run.state):
        return raised
    pressed = KeyboardInterrupt()
    pressed.__cause__ = raised
    return pressed


def _asked_to_end(run: Run, interrupts: Interrupts) -> BaseException | None:
    """What is raised when the body was through before a request to end was honoured."""
    if interrupts.deferred or run.state.interrupt_noted:
        return KeyboardInterrupt()
    return None if run.state.received_signal is None else SIGTERMException(run.state.received_signal)


def _attempt(
    run: Run, failure: BaseException | None, owner: object, name: str, *arguments: object
) -> BaseException | None:
    try:
        getattr(owner, name)(*arguments)
    except BaseException as raised:  # noqa: BLE001
        return _first(run, failure, owner, name, raised)
    return failure


def _first(run: Run, failure: BaseException | None, owner: object, name: str, raised: BaseException) -> BaseException:
    if failure is None:
        run.hooks.report_exception(raised)
        return raised
    add_note(failure, owner, name, raised)
    return failure
