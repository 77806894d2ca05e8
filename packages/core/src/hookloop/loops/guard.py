"""What happens around every entry point: whatever is raised, everybody hears of it and everything is torn down."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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
    watch = _Watch(run)
    run.state.status = TrainerStatus.RUNNING
    try:
        try:
            watch.begin()
            try:
                result = body(watch.callbacks_signals)
                run.saves.wait()
            finally:
                watch.unwind()
        except BaseException as raised:  # noqa: BLE001 - KeyboardInterrupt and SystemExit unwind too; raised again below
            failure = _reported(run, raised, watch)
        failure = _unwound(run, loggers, closing, failure, watch)
    finally:
        watch.restore()
    if failure is None:
        return result
    try:
        raise failure
    finally:
        # The exception's traceback holds this frame. If the frame held the exception too, whoever catches it would keep
        # the run's batches, workers and device memory until the garbage collector comes.
        failure = None


def guarded_steps(
    run: Run,
    loggers: Sequence[Logger],
    body: Callable[[Callable[[], None]], Iterator[T]],
    closing: Sequence[Closing],
    around: Callable[[], AbstractContextManager[None]],
) -> Iterator[T]:
    """The same for a body that gives something from time to time.

    Between two steps the process is whoever asked for the last one's: signal handlers and torch's switches are as they
    found them. Who asks for no more and closes the iterator ends the run: everything is torn down, and nobody hears of
    an exception, because there was none.

    Args:
        run: the run.
        loggers: see `guarded`.
        body: begins, and returns an iterator of its steps.
        closing: see `guarded`.
        around: what holds while a step, or the teardown, is under way.

    Raises:
        BaseException: see `guarded`.
    """
    failure: BaseException | None = None
    watch = _Watch(run)
    run.state.status = TrainerStatus.RUNNING
    steps: Iterator[T] = iter(())
    try:
        try:
            watch.begin()
            try:
                with around():
                    steps = body(watch.callbacks_signals)
                while True:
                    with around():
                        item = next(steps, _NO_MORE)
                    if item is _NO_MORE:
                        break
                    watch.restore()
                    try:
                        yield item  # type: ignore[misc]
                    finally:
                        watch.begin()
                    del item  # not kept while the next one is made
                run.saves.wait()
            except GeneratorExit:
                with around():
                    steps.close()  # type: ignore[attr-defined]
            finally:
                watch.unwind()
        except BaseException as raised:  # noqa: BLE001 - as above
            failure = _reported(run, raised, watch)
        with around():
            failure = _unwound(run, loggers, closing, failure, watch)
    finally:
        del steps
        watch.restore()
    if failure is not None:
        try:
            raise failure
        finally:
            failure = None


_NO_MORE = object()


class _Watch:
    """What the process does about signals while a run goes on. It can be restored and begun again."""

    def __init__(self, run: Run) -> None:
        run.state.pause_reason = None
        self.interrupts = Interrupts(run.state)
        self._run = run
        self._signals, self._workers = PreemptionSignals(run.state), LostWorkers(run.state)
        self._also = False

    def begin(self) -> None:
        self._signals.watch()
        self._workers.watch()
        self.interrupts.watch()
        if self._also:
            self._signals.watch_also(self._run.hooks)

    def callbacks_signals(self) -> None:
        """The run's callbacks are known: the signals that they ask for are watched too."""
        self._also = True
        self._signals.watch_also(self._run.hooks)

    def unwind(self) -> None:
        self.interrupts.defer()  # before anything is unwound, so that no Ctrl-C falls in between
        self._workers.unwind()

    def restore(self) -> None:
        self._workers.restore()
        self._signals.restore()
        self.interrupts.restore()


def _reported(run: Run, raised: BaseException, watch: _Watch) -> BaseException:
    """What was meant by an exception, after everybody has heard of it."""
    failure = _what_was_meant(run, raised, watch.interrupts)
    run.state.status = TrainerStatus.INTERRUPTED
    run.hooks.report_exception(failure)
    return failure


def _unwound(
    run: Run, loggers: Sequence[Logger], closing: Sequence[Closing], failure: BaseException | None, watch: _Watch
) -> BaseException | None:
    """The run's first exception, after everything was torn down."""
    assert run.state.fn is not None
    try:
        failure = _attempt(run, failure, run.saves, "wait")
        failure = run.hooks.tear_down(run.state.fn.value, failure)
        for logger in loggers:
            failure = _attempt(run, failure, logger, "finalize", "success" if failure is None else "failed")
        for owner, method, arguments in closing:
            failure = _attempt(run, failure, owner, method, *arguments)
        if failure is None and (late := _asked_to_end(run, watch.interrupts)) is not None:
            failure = late
            run.hooks.report_exception(late)
        run.hooks.detach()
        run.state.stage = None
        run.state.status = TrainerStatus.FINISHED if failure is None else TrainerStatus.INTERRUPTED
        return failure
    finally:
        failure = None  # its traceback holds this frame


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
