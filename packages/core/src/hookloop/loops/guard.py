"""What happens around every entry point: whatever is raised, everybody hears of it and everything is torn down."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from hookloop.hooks import add_note
from hookloop.loggers import Logger
from hookloop.run import Run
from hookloop.stage import TrainerStatus

T = TypeVar("T")


def guarded(run: Run, loggers: Sequence[Logger], body: Callable[[], T], closing: Sequence[Callable[[], None]]) -> T:
    """Run the body of an entry point and unwind it.

        body()
        on an exception: on_exception of every callback and the datamodule
        teardown of all that was set up; finalize of every logger; everything in `closing`

    Args:
        run: the run.
        loggers: finalized with "success" or "failed".
        body: sets up, runs, and returns the entry point's result.
        closing: what else has to be given back, whatever happened.

    Raises:
        BaseException: the first that was raised, unchanged; what was raised after it hangs on it as notes.
    """
    assert run.state.fn is not None
    failure: BaseException | None = None
    run.state.status = TrainerStatus.RUNNING
    try:
        result = body()
    except BaseException as raised:  # noqa: BLE001 - KeyboardInterrupt and SystemExit unwind too; raised again below
        failure = raised
        run.state.status = TrainerStatus.INTERRUPTED
        run.hooks.report_exception(raised)
    failure = run.hooks.tear_down(run.state.fn.value, failure)
    for logger in loggers:
        failure = _attempt(run, failure, logger, "finalize", "success" if failure is None else "failed")
    for close in closing:
        try:
            close()
        except BaseException as raised:  # noqa: BLE001
            failure = _first(run, failure, close, getattr(close, "__name__", "close"), raised)
    run.hooks.detach()
    run.state.stage = None
    if failure is not None:
        run.state.status = TrainerStatus.INTERRUPTED
        raise failure
    run.state.status = TrainerStatus.FINISHED
    return result


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
