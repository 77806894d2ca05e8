"""How far a run may go, how much of each loader it uses and how often it does things; validated at construction."""

import math
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from numbers import Integral, Rational, Real
from typing import Any

from hookloop.errors import MisconfigurationError

UNLIMITED = -1
"""The value of max_epochs and max_steps that means "no limit"."""

DEFAULT_MAX_EPOCHS = 1000
"""The limit when neither max_epochs nor max_steps was given."""


@dataclass(slots=True)
class Limits:
    """The Trainer's numeric arguments, under their own names and with their meaning.

    Numbers of NumPy are numbers, and are kept as Python's. A tensor is none, and neither is a bool.

    Changed during a run by the Trainer's setters alone, through `change`, which validates again.

    Raises:
        MisconfigurationError: a value is of the wrong type or out of range; the message names the argument.
    """

    max_epochs: int = DEFAULT_MAX_EPOCHS
    min_epochs: int = 0
    max_steps: int = UNLIMITED
    min_steps: int = 0
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    limit_test_batches: int | float = 1.0
    limit_predict_batches: int | float = 1.0
    val_check_interval: int | float | timedelta = 1.0
    check_val_every_n_epoch: int | None = 1
    num_sanity_val_steps: int = 2
    accumulate_grad_batches: int = 1
    log_every_n_steps: int = 50
    overfit_batches: int | float = 0.0
    reload_dataloaders_every_n_epochs: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            setattr(self, field.name, plain_number(getattr(self, field.name)))
        _whole("max_epochs", self.max_epochs, least=UNLIMITED, hint="-1 means no limit")
        _whole("max_steps", self.max_steps, least=UNLIMITED, hint="-1 means no limit")
        _whole("min_epochs", self.min_epochs, least=0)
        _whole("min_steps", self.min_steps, least=0)
        _whole("num_sanity_val_steps", self.num_sanity_val_steps, least=-1, hint="-1 runs all of them")
        _whole("accumulate_grad_batches", self.accumulate_grad_batches, least=1)
        _whole("log_every_n_steps", self.log_every_n_steps, least=0, hint="0 logs no step")
        if self.check_val_every_n_epoch is not None:
            _whole("check_val_every_n_epoch", self.check_val_every_n_epoch, least=1, hint="None counts batches only")
        for stage in ("train", "val", "test", "predict"):
            name = f"limit_{stage}_batches"
            _batches_or_fraction(name, getattr(self, name), least=0)
        _batches_or_fraction("overfit_batches", self.overfit_batches, least=0)
        _whole(
            "reload_dataloaders_every_n_epochs",
            self.reload_dataloaders_every_n_epochs,
            least=0,
            hint="0 asks for the loaders once",
        )
        if not isinstance(self.val_check_interval, timedelta):
            _batches_or_fraction(
                "val_check_interval",
                self.val_check_interval,
                least=1,
                hint=', or a time such as "00:00:10:00" (10 minutes)',
            )
        if self.check_val_every_n_epoch is None and isinstance(self.val_check_interval, float):
            raise MisconfigurationError(
                f"val_check_interval={self.val_check_interval!r} is a fraction of an epoch, and "
                "check_val_every_n_epoch=None counts batches across epochs. "
                "Give val_check_interval as a number of batches, for example val_check_interval=1000, or as a time."
            )
        if self.max_epochs != UNLIMITED and self.min_epochs > self.max_epochs:
            raise MisconfigurationError(
                f"min_epochs={self.min_epochs} is larger than max_epochs={self.max_epochs}: raise max_epochs or "
                "lower min_epochs."
            )
        if self.max_steps != UNLIMITED and self.min_steps > self.max_steps:
            raise MisconfigurationError(
                f"min_steps={self.min_steps} is larger than max_steps={self.max_steps}: raise max_steps or "
                "lower min_steps."
            )

    @classmethod
    def from_arguments(
        cls,
        *,
        max_epochs: int | None,
        min_epochs: int | None,
        max_steps: int,
        min_steps: int | None,
        fast_dev_run: bool | int,
        **others: Any,
    ) -> "Limits":
        """The limits for what the user passed to the Trainer, where None means "not given".

        Without max_epochs, training is limited by max_steps alone, or to 1000 epochs when neither is given.
        `fast_dev_run` (True is 1) overrules: that many batches of every loader, one epoch, no sanity check.

        Raises:
            MisconfigurationError: see the class; also a fast_dev_run that is neither a bool nor a number >= 0.
        """
        max_steps, fast_dev_run = plain_number(max_steps), plain_number(fast_dev_run)
        if max_epochs is None:
            max_epochs = DEFAULT_MAX_EPOCHS if max_steps == UNLIMITED else UNLIMITED
        limits = cls(
            max_epochs=max_epochs,
            min_epochs=0 if min_epochs is None else min_epochs,
            max_steps=max_steps,
            min_steps=0 if min_steps is None else min_steps,
            **others,
        )
        if not isinstance(fast_dev_run, bool):
            _whole("fast_dev_run", fast_dev_run, least=0, hint="True runs one batch of everything")
        if limits.overfit_batches:
            # As in Lightning, they take the place of both limits, and of what fast_dev_run would make of them.
            limits.limit_train_batches = limits.limit_val_batches = limits.overfit_batches
        if not fast_dev_run:
            return limits
        batches = int(fast_dev_run)
        return replace(
            limits,
            max_epochs=1,
            min_epochs=0,
            max_steps=UNLIMITED,
            min_steps=0,
            limit_train_batches=limits.overfit_batches or batches,
            limit_val_batches=limits.overfit_batches or batches,
            limit_test_batches=batches,
            limit_predict_batches=batches,
            val_check_interval=1.0,
            check_val_every_n_epoch=1,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )

    def change(self, **values: Any) -> None:
        """Set some of them; either all are valid and hold from now on, or nothing changes.

        Raises:
            MisconfigurationError: see the class.
        """
        checked = replace(self, **values)
        for name in values:
            setattr(self, name, getattr(checked, name))

    def batches(self, stage: str, loader_length: float) -> float:
        """How many batches of a loader are used.

        Args:
            stage: "train", "val", "test" or "predict".
            loader_length: the loader's number of batches, `math.inf` if it has no length.

        Returns:
            A whole number, or `math.inf` for all of a loader without a length.

        Raises:
            MisconfigurationError: a fraction was asked for and the loader has no length, or it leaves no batch.
        """
        name = f"limit_{stage}_batches"
        limit: int | float = getattr(self, name)
        if self.overfit_batches and stage in ("train", "val"):
            name = "overfit_batches"  # what the user passed
        if isinstance(limit, int):
            return min(limit, loader_length)
        if limit in (0.0, 1.0):
            return 0 if limit == 0.0 else loader_length
        if loader_length == math.inf:
            raise MisconfigurationError(
                f"{name}={limit!r} is a fraction, and the {stage} dataloader has no length. "
                f"Give a number of batches, for example {name}=100."
            )
        batches = int(loader_length * limit)
        if batches == 0 and loader_length > 0:
            raise MisconfigurationError(
                f"{name}={limit!r} of {loader_length} batches is less than one batch. Give at least "
                f"{name}={math.ceil(1e6 / loader_length) / 1e6:g}, or a number of batches."
            )
        return batches

    def batches_between_validations(self, training_batches: float) -> float:
        """val_check_interval in batches.

        Args:
            training_batches: batches of one training epoch, `math.inf` if unknown.

        Returns:
            A whole number >= 1, or `math.inf` when the end of the epoch triggers, wherever that is, or the clock.

        Raises:
            MisconfigurationError: the interval is longer than the epoch, or a fraction of an unknown length.
        """
        interval = self.val_check_interval
        if isinstance(interval, timedelta):
            return math.inf
        if isinstance(interval, int):
            if interval > training_batches and self.check_val_every_n_epoch is not None:
                raise MisconfigurationError(
                    f"val_check_interval={interval} batches is longer than the training epoch of "
                    f"{training_batches} batches, so validation would never run. Lower it, or count across epochs "
                    "with check_val_every_n_epoch=None."
                )
            return interval
        if interval == 1.0:
            return math.inf
        if training_batches == math.inf:
            raise MisconfigurationError(
                f"val_check_interval={interval!r} is a fraction of an epoch, and the training dataloader has no "
                "length. Give a number of batches, for example val_check_interval=1000."
            )
        return max(1, int(training_batches * interval))


def plain_number(value: Any) -> Any:
    """Python's own number for one of another library, such as NumPy; anything else as it is, bools and tensors too."""
    if isinstance(value, bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real) and not isinstance(value, Rational):
        # The shortest decimal that means it: np.float32(0.7) was meant as 0.7, and not as 0.699999988.
        return float(str(value))
    return value


def _whole(name: str, value: object, *, least: int, hint: str = "") -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        suffix = f" ({hint})" if hint else ""
        raise MisconfigurationError(f"{name}={value!r} must be a whole number of at least {least}{suffix}.")


def _batches_or_fraction(name: str, value: object, *, least: int, hint: str = "") -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number and isinstance(value, int) and value >= least:
        return
    if number and isinstance(value, float) and 0.0 <= value <= 1.0 and (least == 0 or value > 0.0):
        return
    raise MisconfigurationError(
        f"{name}={value!r} must be a whole number of batches of at least {least}, or a fraction between 0.0 and 1.0"
        f"{hint}."
    )
