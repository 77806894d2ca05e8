"""`Triggers`: when a save is due. Arithmetic alone: no trainer, no file, no clock."""

from dataclasses import dataclass
from datetime import timedelta

from hookloop.errors import MisconfigurationError


@dataclass(frozen=True, slots=True)
class Triggers:
    """One of three ways to say when: after so many optimizer steps, so much time, or so many epochs.

    Attributes:
        steps: optimizer steps between two saves; 0 is off.
        seconds: time between two saves; None is off.
        epochs: epochs between two saves; 0 is off.
    """

    steps: int = 0
    seconds: float | None = None
    epochs: int = 0

    @classmethod
    def of(
        cls, every_n_train_steps: int | None, train_time_interval: timedelta | None, every_n_epochs: int | None
    ) -> "Triggers":
        """From the arguments of a ModelCheckpoint; without any of them, every epoch.

        Raises:
            MisconfigurationError: an argument that is no number of steps or epochs, or no time; or more than one.
        """
        for name, value in (("every_n_train_steps", every_n_train_steps), ("every_n_epochs", every_n_epochs)):
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
                raise MisconfigurationError(
                    f"ModelCheckpoint({name}={value!r}) must be a whole number of at least 1, or 0 for never; "
                    "leave all triggers out to save in every epoch."
                )
        if train_time_interval is not None and (
            not isinstance(train_time_interval, timedelta) or train_time_interval < timedelta(0)
        ):
            raise MisconfigurationError(
                f"ModelCheckpoint(train_time_interval={train_time_interval!r}) must be a datetime.timedelta that is "
                "not negative, as timedelta(minutes=30)."
            )
        if every_n_train_steps is None and train_time_interval is None and every_n_epochs is None:
            return cls(epochs=1)
        seconds = None if train_time_interval is None else train_time_interval.total_seconds()
        triggers = cls(every_n_train_steps or 0, seconds, every_n_epochs or 0)
        if (triggers.steps > 0) + (triggers.seconds is not None) + (triggers.epochs > 0) > 1:
            raise MisconfigurationError(
                f"ModelCheckpoint got several triggers: every_n_train_steps={every_n_train_steps!r}, "
                f"train_time_interval={train_time_interval!r}, every_n_epochs={every_n_epochs!r}. Give one, and "
                "pass a second ModelCheckpoint for the other one: any two that differ in an argument work together."
            )
        return triggers

    @property
    def within_epochs(self) -> bool:
        """Whether batches have to be looked at."""
        return self.steps > 0 or self.seconds is not None

    def steps_due(self, before: int, now: int) -> bool:
        """Whether a multiple of `steps` was reached.

        Args:
            before: optimizer steps at the former look.
            now: optimizer steps now. A batch may take several, with manual optimization, and jump over a multiple.
        """
        return self.steps > 0 and now // self.steps > before // self.steps

    def time_due(self, seconds: float) -> bool:
        """Whether so many seconds since the last save by time are enough."""
        return self.seconds is not None and seconds >= self.seconds

    def epoch_due(self, epoch: int) -> bool:
        """Whether the epoch of this index, 0-based, is one of those that save."""
        return self.epochs > 0 and (epoch + 1) % self.epochs == 0
