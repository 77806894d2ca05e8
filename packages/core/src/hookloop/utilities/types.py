"""Types for the annotations of modules and callbacks, where Lightning's users look for them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NotRequired, Required, TypeAlias, TypedDict

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from hookloop.absent import absent
from hookloop.batches import Movable as TransferableDataType
from hookloop.optimizers import LRSchedulerConfig

__all__ = [
    "EVALUATE_OUTPUT",
    "EVAL_DATALOADERS",
    "PREDICT_OUTPUT",
    "STEP_OUTPUT",
    "TRAIN_DATALOADERS",
    "LRSchedulerConfig",
    "LRSchedulerConfigType",
    "LRSchedulerPLType",
    "LRSchedulerType",
    "LRSchedulerTypeTuple",
    "LRSchedulerTypeUnion",
    "OptimizerConfig",
    "OptimizerLRScheduler",
    "OptimizerLRSchedulerConfig",
    "TransferableDataType",
]

STEP_OUTPUT: TypeAlias = Tensor | Mapping[str, Any] | None
"""What `training_step` returns: the loss, a mapping with the loss under "loss", or None to skip the batch."""

EVALUATE_OUTPUT: TypeAlias = list[Mapping[str, float]]
"""What `Trainer.validate` and `Trainer.test` return: the metrics by name, for each loader."""

PREDICT_OUTPUT: TypeAlias = list[Any] | list[list[Any]]
"""What `Trainer.predict` returns: what `predict_step` returned for each batch, for each loader if there are several."""

TRAIN_DATALOADERS: TypeAlias = Any
"""Any iterable of batches, or a collection of them."""

EVAL_DATALOADERS: TypeAlias = Any
"""Any iterable of batches, or a sequence of them."""

# Lightning's own spelling, which scripts import in spite of the underscore.
_EVALUATE_OUTPUT: TypeAlias = EVALUATE_OUTPUT
_PREDICT_OUTPUT: TypeAlias = PREDICT_OUTPUT

LRSchedulerTypeTuple = (LRScheduler, ReduceLROnPlateau)
"""For isinstance."""

LRSchedulerTypeUnion: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerPLType: TypeAlias = LRScheduler | ReduceLROnPlateau
LRSchedulerType: TypeAlias = type[LRScheduler] | type[ReduceLROnPlateau]


class LRSchedulerConfigType(TypedDict, total=False):
    """A scheduler and when it steps, as a dict; `LRSchedulerConfig` says what the keys mean."""

    scheduler: Required[LRSchedulerTypeUnion]
    name: str | None
    interval: str
    frequency: int
    reduce_on_plateau: bool
    monitor: str | None
    strict: bool


class OptimizerConfig(TypedDict):
    """An optimizer, as a dict."""

    optimizer: Optimizer


class OptimizerLRSchedulerConfig(TypedDict):
    """An optimizer and its scheduler, as a dict."""

    optimizer: Optimizer
    lr_scheduler: LRSchedulerTypeUnion | LRSchedulerConfigType
    monitor: NotRequired[str]


OptimizerLRScheduler: TypeAlias = (
    Optimizer
    | Sequence[Optimizer]
    | tuple[Sequence[Optimizer], Sequence[LRSchedulerTypeUnion | LRSchedulerConfig]]
    | OptimizerConfig
    | OptimizerLRSchedulerConfig
    | Sequence[OptimizerConfig]
    | Sequence[OptimizerLRSchedulerConfig]
    | None
)
"""What `configure_optimizers` may return."""

if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> object:
        raise absent(__name__, name)
