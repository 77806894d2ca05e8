"""How far the run has come. All of it is saved in a checkpoint, and all that a resumed run needs to know is here."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from hookloop.errors import CheckpointError


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
        validated_at: value of `batch` when the last validation of the running epoch ended, or -1.
        window_size: batches of the running accumulation window, or of the last one.
        window_filled: batches of it that are done, 0 when the optimizer has stepped.
        batch_counted: whether the counters include the batch that hooks run for: so from on_train_batch_end on.
        last_batch: whether that batch is the epoch's last.
    """

    epoch: int = 0
    batch: int = 0
    global_step: int = 0
    logged_step: int = 0
    total_batches: int = 0
    epoch_started: bool = False
    epoch_schedulers_stepped: bool = False
    epoch_ended: bool = False
    validated_at: int = -1
    window_size: int = 1
    window_filled: int = 0
    batch_counted: bool = True
    last_batch: bool = False

    def begin_next_epoch(self) -> None:
        """Move to the epoch after a finished one."""
        self.epoch += 1
        self.restart_epoch()

    def restart_epoch(self) -> None:
        """Forget what was done of the running epoch: it begins again at its first batch."""
        self.batch = 0
        self.epoch_started = False
        self.epoch_schedulers_stepped = False
        self.epoch_ended = False
        self.validated_at = -1
        self.window_filled = 0
        self.last_batch = False

    def state_dict(self) -> dict[str, Any]:
        """The counters by name: plain ints and bools."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over saved counters.

        Raises:
            CheckpointError: a counter is missing or is no whole number.
        """
        for field in fields(self):
            value = state.get(field.name)
            if not isinstance(value, int):
                raise CheckpointError(
                    f"The checkpoint's progress holds {field.name}={value!r} where a whole number is needed: "
                    "the file is damaged or was not written by hookloop. Choose another checkpoint."
                )
        for field in fields(self):
            setattr(self, field.name, state[field.name])
