"""`RequeueOnSignal`: a job that is about to be ended saves, and asks its scheduler to run it again."""

import os
import shutil
import signal as signals
import subprocess
import warnings
from collections.abc import Sequence

from hookloop import Callback, LightningModule, Order
from hookloop.errors import MisconfigurationError, SIGTERMException
from hookloop.view import TrainerView

_JOB = "{job_id}"


class RequeueOnSignal(Callback):
    """On a signal, the run is saved and unwound, and then a command queues the job again.

    The running batch is done, checkpoint callbacks save in `on_preemption`, and when the files are on disk the command
    runs, in `teardown`. Then the process ends with exit code 128 + the signal's number (138 for
    SIGUSR1). A job that is started again resumes with `ckpt_path="auto"`.

    SLURM sends a signal before the time of a job is over where it was asked to: `#SBATCH --signal=USR1@120`, and
    `#SBATCH --requeue` lets the job be queued again. SIGTERM, which means that somebody wants the job to end, saves and
    requeues nothing.

    The command runs once, on rank zero. What goes wrong with it is a warning, as the files are there all the same. It
    is not run after an error in a callback's `on_preemption`.

    Args:
        signal: which signal, by its name or number.
        command: program and arguments. "{job_id}" in them stands for the job: SLURM_ARRAY_JOB_ID_SLURM_ARRAY_TASK_ID in
            an array, else SLURM_JOB_ID. Where there is none, because the script runs outside of SLURM, such a command
            is left out; one without "{job_id}" works anywhere.
        timeout: seconds that the command may take.

    Raises:
        MisconfigurationError: the signal is not known or cannot be handled, or the command is no list of texts.
    """

    order = Order.LAST

    def __init__(
        self,
        signal: str | int = "SIGUSR1",
        command: Sequence[str] = ("scontrol", "requeue", _JOB),
        timeout: float = 30.0,
    ) -> None:
        self.signal = _signal(signal)
        self.preemption_signals = (self.signal,)
        if isinstance(command, str) or not command or not all(isinstance(part, str) for part in command):
            raise MisconfigurationError(
                f"RequeueOnSignal(command={command!r}): give the program and its arguments as a list of texts, such as "
                '["scontrol", "requeue", "{job_id}"].'
            )
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout > 0:
            raise MisconfigurationError(f"RequeueOnSignal(timeout={timeout!r}) must be a number of seconds above 0.")
        self.command = tuple(command)
        self.timeout = timeout
        self._due = False

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Say now what would keep the job from being queued again, and not when its time is over."""
        self._due = False
        if not trainer.is_global_zero:
            return
        command = self._complete()
        if command is None:
            why = "it runs outside of SLURM (SLURM_JOB_ID is not set). Pass a command without {job_id}, if there is one"
        elif shutil.which(command[0]) is None:
            why = f"there is no program {command[0]!r} here. Pass its path in command=[...]"
        elif not trainer.checkpoint_callbacks:
            why = None
            warnings.warn(
                f"RequeueOnSignal: no checkpoint callback is there, so nothing is saved on {self.signal.name}, and the "
                "job would begin anew. Add a ModelCheckpoint.",
                stacklevel=2,
            )
        else:
            why = None
        if why is not None:
            warnings.warn(
                f"RequeueOnSignal: on {self.signal.name} the run is saved, and the job is not queued again: {why}.",
                stacklevel=2,
            )

    def on_exception(self, trainer: TrainerView, pl_module: LightningModule, exception: BaseException) -> None:
        """Note that the signal has ended the run: everybody has saved by now."""
        self._due = isinstance(exception, SIGTERMException) and exception.signum == self.signal

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        """Queue the job again."""
        due, self._due = self._due, False
        command = self._complete()
        if not due or not trainer.is_global_zero or command is None:
            return
        if (problem := self._run(command)) is not None:
            warnings.warn(
                f"RequeueOnSignal: the job was not queued again: {' '.join(command)} {problem}. The run is saved; "
                "queue it by hand.",
                stacklevel=2,
            )

    def _complete(self) -> list[str] | None:
        """The command with the job in it; None if it needs one and there is none."""
        if not any(_JOB in part for part in self.command):
            return list(self.command)
        array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
        job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
        return None if not job else [part.replace(_JOB, job) for part in self.command]

    def _run(self, command: list[str]) -> str | None:
        """Run it; what went wrong, in words, if anything did."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=self.timeout
            )
        except FileNotFoundError:
            return "cannot be run, as there is no such program"
        except subprocess.TimeoutExpired:
            return f"did not end within {self.timeout:g} s"
        except OSError as error:
            return f"cannot be run ({type(error).__name__}: {error})"
        if done.returncode == 0:
            return None
        said = (done.stderr or done.stdout).strip() or "it said nothing"
        return f"ended with exit code {done.returncode} ({said})"


def _signal(given: str | int) -> signals.Signals:
    """A signal by its name, with or without SIG, or its number."""
    try:
        if isinstance(given, bool):
            raise ValueError("a bool")
        if isinstance(given, int):
            found = signals.Signals(given)
        else:
            name = str(given).upper()
            found = signals.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except (ValueError, KeyError):
        raise MisconfigurationError(
            f'RequeueOnSignal(signal={given!r}) is no signal. Give its name or number, such as "SIGUSR1".'
        ) from None
    if found.name in ("SIGKILL", "SIGSTOP", "SIGINT", "SIGCHLD", "SIGTERM"):
        raise MisconfigurationError(
            f"RequeueOnSignal(signal={given!r}): {found.name} means something else, or cannot be handled. Have the "
            'scheduler send another one, such as "SIGUSR1".'
        )
    return found
