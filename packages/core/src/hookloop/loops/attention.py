"""Between two batches: what has happened meanwhile that the run has to see to."""

import warnings

from hookloop.loops.signals import end_paused, end_preempted
from hookloop.run import Run


def attend(run: Run) -> None:
    """See to what asked for attention: a file that is written, a signal that has come, a pause.

    Called where the counters and the weights agree: after a batch, or before the first one of an epoch. The loops look
    at one flag, `run.state.attention`, whoever set it, so that a batch in which nothing happened costs no more.

    Raises:
        SIGTERMException: the process was asked to end, or a callback has paused the run.
        KeyboardInterrupt: Ctrl-C was pressed.
        Exception: a file could not be written.
    """
    # First: whoever asks from now on is seen below, or after the next batch.
    run.state.attention = False
    try:
        run.saves.look()
    except Exception as error:
        if run.state.received_signal is None and not run.state.interrupt_noted:
            raise
        warnings.warn(f"{type(error).__name__}: {error}", stacklevel=2)  # must not cost the last save of all
    if run.state.received_signal is not None:
        end_preempted(run)
    if run.state.interrupt_noted:
        raise KeyboardInterrupt
    if run.state.pause_reason is not None:
        end_paused(run, run.state.pause_reason)
