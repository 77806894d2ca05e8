"""`Loaders`: the loaders of a run, asked for once, and how many batches of each are used."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hookloop.errors import MisconfigurationError
from hookloop.limits import Limits
from hookloop.loaders.iterate import length
from hookloop.loaders.source import Source

Batches: TypeAlias = list[float]


@dataclass(slots=True)
class Loaders:
    """The loaders of every stage of a run.

    Attributes:
        sources: who supplies them, by stage: "train", "val", "test", "predict".
        limits: how much of them is used.
        given: the loader or loaders as they were supplied, by stage, once they were asked for.
        batches: batches used of each loader, by stage; `math.inf` for all of a loader without a length.
    """

    sources: Mapping[str, Source]
    limits: Limits
    given: dict[str, Any] = field(default_factory=dict)
    batches: dict[str, Batches] = field(default_factory=dict)

    def training(self) -> Any:
        """The training loader, asked for on the first call.

        Raises:
            MisconfigurationError: there is none, there are several, or a limit does not fit its length.
        """
        if "train" not in self.given:
            loader = self.sources["train"].load("train")
            if isinstance(loader, list | tuple | Mapping):
                raise MisconfigurationError(
                    f"The training dataloader is a {type(loader).__name__}, which stands for "
                    "several loaders, and today "
                    "hookloop trains on one. Combine the datasets, for example with torch.utils.data.ConcatDataset; if "
                    "these are batches, wrap them: DataLoader(batches, batch_size=None)."
                )
            batches = self.limits.batches("train", length(loader))
            if batches == 0 and self.limits.limit_train_batches != 0:
                warnings.warn("The training dataloader has no batch: this fit does nothing.", stacklevel=2)
            self.limits.batches_between_validations(batches)
            self.given["train"], self.batches["train"] = loader, [batches]
        return self.given["train"]

    @property
    def training_batches(self) -> float:
        """Batches of a training epoch, 0 before the loader was asked for."""
        return self.batches.get("train", [0])[0]

    def evaluation(self, stage: str) -> list[Any]:
        """The loaders of "val", "test" or "predict" in a list, asked for on the first call.

        Raises:
            MisconfigurationError: there is none, or a limit does not fit a loader's length.
        """
        if stage not in self.given:
            given = self.sources[stage].load(stage)
            if isinstance(given, Mapping):
                raise MisconfigurationError(
                    f"The {stage} dataloaders are a {type(given).__name__}. Pass several loaders as a list: "
                    "list(loaders.values())."
                )
            loaders = list(given) if isinstance(given, list | tuple) else [given]
            self.batches[stage] = [self.limits.batches(stage, length(loader)) for loader in loaders]
            self.given[stage] = given
            for index, batches in enumerate(self.batches[stage]):
                if batches == 0 and getattr(self.limits, f"limit_{stage}_batches") != 0:
                    warnings.warn(f"The {stage} dataloader {index} has no batch: it is passed over.", stacklevel=2)
        given = self.given[stage]
        return list(given) if isinstance(given, list | tuple) else [given]

    def sanity_batches(self) -> Batches:
        """Batches of each validation loader for the sanity check; num_sanity_val_steps=-1 takes all."""
        steps = math.inf if self.limits.num_sanity_val_steps == -1 else self.limits.num_sanity_val_steps
        return [min(steps, batches) for batches in self.batches.get("val", [])]

    @property
    def validates(self) -> bool:
        """Whether anybody supplies validation batches and the limits leave some."""
        return self.sources["val"].exists and self.limits.limit_val_batches != 0
