"""Every error that hookloop raises on purpose. No logic.

All of them but one are `HookloopError`; those about what the user passed are `ValueError` too, so that code which
catches the standard exception keeps working. The one is `SIGTERMException`, which is no error but the end of the
process, or of this run alone (`PausedException`).
"""


class HookloopError(Exception):
    """Base of all errors that hookloop raises on purpose."""


class MisconfigurationError(HookloopError, ValueError):
    """Something that the user passed, defined or combined cannot work; the message says what to change."""


# Lightning's users import it under this name.
MisconfigurationException = MisconfigurationError


class MisconfigurationTypeError(MisconfigurationError, TypeError):
    """The same, where what was passed is not even of the right kind."""


class HookError(MisconfigurationError):
    """A hook has a wrong signature, or a method looks like a hook and is none."""


class CallbackFactoryError(MisconfigurationError):
    """One or more registered callback factories are broken; the message names them all and the way to go on."""


class CheckpointError(HookloopError, RuntimeError):
    """A checkpoint could not be written, read, or fitted to what is being restored."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint's bytes are not those that were written, or not all of them: nothing can be restored from it."""


class CallbackContractError(HookloopError, AssertionError):
    """A callback broke a rule of `hookloop.testing`; the message says what it did, where, and how to mend it."""


class AnomalyError(HookloopError, RuntimeError):
    """A loss or a gradient is NaN or infinite, and detect_anomaly=True asked for an error then."""


class SIGTERMException(SystemExit):
    """The process was asked to end by a signal (SIGTERM, or another that a callback asks for), and the run is unwound.

    Uncaught, it ends the process with exit code 128 + the signal's number, as a shell tells it: 143 for SIGTERM.

    Args:
        signum: the signal's number.
    """

    def __init__(self, signum: int = 15) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class PausedException(SIGTERMException):
    """A callback has ended the run by `trainer.pause`, and it is unwound as one that was preempted.

    Callbacks see it in `on_exception`. The entry point returns: whoever called it sees `trainer.interrupted`.

    Args:
        reason: what the callback said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(0)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason
