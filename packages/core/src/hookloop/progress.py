"""How far the run has come. All of it is saved in a checkpoint, and all that a resumed run needs to know is here."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from hookloop.errors import CheckpointError

NOTHING = 0
PLATEAU_AND_ROW = 1
"""Plateau schedulers per step, unless validation follows, and a row for the loggers."""
SCHEDULERS_AND_ROW = 2
"""All schedulers whose turn it is, and the row."""
PLATEAU_OF_EPOCH = 3
"""The epoch's plateau schedulers."""


@dataclass(slots=True)
class Progress:
    """Counters of one fit, written by the loops alone.

    Attributes:
        epoch: index of the running epoch, 0-based; after an epoch has ended, of the next one.
        batch: training batches of the running epoch that are done, the last hook of their step included.
        global_step: optimizer steps since the start of training, over all optimizers.
        logged_step: batches after which the optimizer stepped: the x axis of the loggers.
        total_batches: training batches since the start of training.
        epoch_started: whether `on_train_epoch_start` has run for the running epoch.
        epoch_schedulers_stepped: whether the schedulers per epoch have stepped for the running epoch.
        epoch_ended: whether the running epoch's batches are over and its on_train_epoch_end has begun: a run that is
            resumed from here goes on with the next one.
        ended: whether training is over and its on_train_end has begun: a run that is resumed from here has nothing to
            do.
        validated_at: value of `batch` when the last validation of the running epoch ended, or -1.
        unvalidated_ms: milliseconds of training since the last validation ended, where val_check_interval is a time.
        window_size: batches of the running accumulation window, or of the last one.
        window_filled: batches of it that are done, 0 when the optimizer has stepped.
        batch_counted: whether the counters include the batch that hooks run for: so from on_train_batch_end on.
        last_batch: whether that batch is the epoch's last.
        accumulating: whether that batch only adds to the gradients, and the optimizer does not step in it.
        steps_before: `global_step` when that batch began.
        owes: what the last batch that is counted still owes, one of the constants of this file.
    """

    epoch: int = 0
    batch: int = 0
    global_step: int = 0
    logged_step: int = 0
    total_batches: int = 0
    epoch_started: bool = False
    epoch_schedulers_stepped: bool = False
    epoch_ended: bool = False
    ended: bool = False
    validated_at: int = -1
    unvalidated_ms: int = 0
    window_size: int = 1
    window_filled: int = 0
    batch_counted: bool = True
    last_batch: bool = False
    accumulating: bool = False
    steps_before: int = 0
    owes: int = NOTHING

    @property
    def begun(self) -> bool:
        """Whether the first epoch of training has begun."""
        return self.epoch_started or self.epoch > 0

    def begin_next_epoch(self) -> None:
        """Move to the epoch after a finished one."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Forget what was done of the running epoch: it begins again at its first batch."""
        anew = Progress()
        for name in _OF_AN_EPOCH:
            setattr(self, name, getattr(anew, name))

    def restart(self) -> None:
        """Forget everything: training begins."""
        anew = Progress()
        for field in fields(self):
            setattr(self, field.name, getattr(anew, field.name))

    def state_dict(self) -> dict[str, Any]:
        """The counters by name: plain ints and bools.

        After its optimizer step, a batch is done, but for what it owes. In the middle of a batch they are those of its
        beginning, and inside an accumulation window those of the window's beginning: which of its gradients are there
        already cannot be told, and the weights have not changed since then, so a resumed run repeats the window's
        batches. Between batches nothing is repeated.
        """
        state = {name: value for name, value in asdict(self).items() if name not in _OF_A_BATCH}
        if self.batch_counted:
            return state
        if self.global_step > self.steps_before:
            done = {"batch": self.batch + 1, "total_batches": self.total_batches + 1, "window_filled": 0}
            done |= {"logged_step": self.logged_step + 1, "batch_counted": True, "owes": SCHEDULERS_AND_ROW}
            return state | done
        repeated = max(self.window_filled - 1, 0)
        state["batch"] -= repeated
        state["total_batches"] -= repeated
        state["window_filled"] = 0
        if repeated:
            # Whatever validation was due at the window's beginning has run, or there would be no window.
            state["validated_at"] = state["batch"]
        state["last_batch"] = False
        state["batch_counted"] = True
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved counters.

        Raises:
            CheckpointError: a counter is missing or is no whole number.
        """
        if not isinstance(state, dict):
            raise CheckpointError(
                f"The checkpoint's progress is a {type(state).__name__} where a dict of counters "
                "is needed: the file is "
                "damaged or was not written by hookloop. Choose another checkpoint."
            )
        names = [field.name for field in fields(self) if field.name not in _OF_A_BATCH]
        for name in names:
            value = state.get(name)
            if not isinstance(value, int):
                raise CheckpointError(
                    f"The checkpoint's progress holds {name}={value!r} where a whole number is needed: "
                    "the file is damaged or was not written by hookloop. Choose another checkpoint."
                )
        for name in names:
            setattr(self, name, state[name])


_OF_AN_EPOCH = (
    "batch",
    "epoch_started",
    "epoch_schedulers_stepped",
    "epoch_ended",
    "validated_at",
    "window_size",
    "window_filled",
    "batch_counted",
    "last_batch",
    "accumulating",
    "owes",
    "ended",
)

_OF_A_BATCH = ("accumulating", "steps_before")
"""What is known anew with each batch, and not saved."""
