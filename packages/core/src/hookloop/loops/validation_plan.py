"""After which batches of an epoch validation runs."""

import math
from dataclasses import dataclass

from hookloop.hook_checks import overrides
from hookloop.module import LightningModule
from hookloop.run import Run


@dataclass(frozen=True, slots=True)
class ValidationPlan:
    """The plan of one training epoch.

    Attributes:
        interval: batches between validations; `math.inf`: at the end of the epoch, None: not in this epoch.
        batches_before: batches that count as done before the epoch's first.
    """

    interval: float | None
    batches_before: int = 0

    @classmethod
    def of(cls, run: Run) -> "ValidationPlan":
        """The plan of the running epoch."""
        limits, progress = run.limits, run.progress
        every_n_epochs = limits.check_val_every_n_epoch
        if not validates(run) or (every_n_epochs is not None and (progress.epoch + 1) % every_n_epochs):
            return cls(None)
        interval = limits.batches_between_validations(run.loaders.training_batches)
        return cls(interval, progress.total_batches - progress.batch if every_n_epochs is None else 0)

    def due(self, batches: int, is_last: bool, stopping: bool) -> bool:
        """Whether validation runs now.

        Args:
            batches: batches of the epoch that are done.
            is_last: whether there are no more.
            stopping: whether training ends here because somebody asked for it: then it ends with a validation.
        """
        if self.interval is None:
            return False
        if stopping:
            return True
        if self.interval == math.inf:
            return is_last
        return (self.batches_before + batches) % self.interval == 0


def validates(run: Run) -> bool:
    """Whether a fit validates: there is a validation_step, and somebody supplies batches for it."""
    return run.loaders.validates and overrides(run.module, LightningModule, "validation_step")
