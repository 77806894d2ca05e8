"""`Loaders`: the loaders of a run, asked for when they are needed, and how many batches of each are used."""

import math
import warnings
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from torch.utils.data import DataLoader

from hookloop.limits import Limits
from hookloop.loaders.iterate import iterate, keeps_its_length, length
from hookloop.loaders.source import Source

if TYPE_CHECKING:
    from hookloop.loaders.combined import CombinedLoader, Mode

Batches: TypeAlias = list[float]


@dataclass(slots=True)
class Loaders:
    """The loaders of every stage of a run.

    Attributes:
        sources: who supplies them, by stage: "train", "val", "test", "predict".
        limits: how much of them is used.
        given: the loader, or the collection of loaders, by stage, once they were asked for.
        parts: every single loader in it.
        combined: what stands for several loaders; in evaluation, only if it puts their batches together.
        streams: what the loops go through, one after another: in training one, in evaluation perhaps several.
        batches: batches used of each stream, by stage; `math.inf` for all of one without a length.
        asked_in: the epoch from which `reload_dataloaders_every_n_epochs` counts, by stage.
    """

    sources: Mapping[str, Source]
    limits: Limits
    given: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[Any]] = field(default_factory=dict)
    combined: "dict[str, CombinedLoader]" = field(default_factory=dict)
    streams: dict[str, list[Any]] = field(default_factory=dict)
    batches: dict[str, Batches] = field(default_factory=dict)
    asked_in: dict[str, float] = field(default_factory=dict)
    _opened: "list[weakref.ref[Any]]" = field(default_factory=list)

    def training(self) -> Any:
        """The training loader, asked for on the first call; several are one CombinedLoader.

        Raises:
            MisconfigurationError: there is none, a limit does not fit its length, or a list looks like one of batches.
        """
        if "train" not in self.given:
            given, combined, counts = self._ask("train", "max_size_cycle")
            if combined is None:
                stream, batches = self.parts["train"][0], counts[0]
            else:
                stream, batches = combined, combined.length(counts)
                self.combined["train"] = combined
            if batches == 0 and self.limits.limit_train_batches != 0:
                which = "The training dataloader"
                if combined is not None and len(counts) > 1:
                    empty = ", ".join(str(index) for index, count in enumerate(counts) if count == 0)
                    which = f'Of the training dataloaders, which are in mode "{combined.mode}", number {empty}'
                warnings.warn(f"{which} has no batch: this fit does nothing.", stacklevel=2)
            self.limits.batches_between_validations(batches)
            self._keep("train", given, [stream], [batches])
        return self.streams["train"][0]

    @property
    def training_batches(self) -> float:
        """Batches of a training epoch, 0 before the loader was asked for."""
        return self.batches.get("train", [0])[0]

    def evaluation(self, stage: str) -> list[Any]:
        """What is gone through in "val", "test" or "predict", one after another; asked for on the first call.

        Raises:
            MisconfigurationError: there is none, or a limit does not fit a loader's length.
        """
        if stage not in self.given:
            given, combined, counts = self._ask(stage, "sequential")
            for index, count in enumerate(counts):
                if count == 0 and getattr(self.limits, f"limit_{stage}_batches") != 0:
                    warnings.warn(f"The {stage} dataloader {index} has no batch: it is passed over.", stacklevel=2)
            if combined is not None and combined.mode != "sequential":
                self.combined[stage] = combined
                self._keep(stage, given, [combined], [combined.length(counts)])
            else:
                self._keep(stage, given, self.parts[stage], counts)
        return list(self.streams[stage])

    def _ask(self, stage: str, mode: "Mode") -> "tuple[Any, CombinedLoader | None, Batches]":
        """Ask for the loaders of a stage.

        Returns:
            The loader or the collection, what stands for it if it is a collection, and batches used of each loader.
        """
        given = self.sources[stage].load(stage)
        combined = None
        self.combined.pop(stage, None)
        if not isinstance(given, DataLoader):
            from hookloop.loaders.several import combine  # for those who have several, or none of torch's

            combined = combine(given, stage, mode)
        parts = [given] if combined is None else combined.flattened
        if stage != "train" and isinstance(given, list | tuple | Mapping) and not given:
            parts = []  # an empty collection, where one is usual; for training, an empty loader
        if self.limits.overfit_batches and stage in ("train", "val"):
            from hookloop.loaders.overfit import fix_order

            parts = fix_order(parts, stage, self.limits)
        counts = [self.limits.batches(stage, length(part)) for part in parts]
        self.parts[stage] = parts
        if combined is None:
            return parts[0] if parts else given, None, counts
        if combined.limits is not None:
            counts = [min(count, limit) for count, limit in zip(counts, combined.limits, strict=True)]
        combined.limits = counts
        if parts is not combined.flattened:
            combined.flattened = parts
        return combined.iterables, combined, counts

    def _keep(self, stage: str, given: Any, streams: list[Any], batches: Batches) -> None:
        self.given[stage], self.streams[stage], self.batches[stage] = given, streams, batches

    def renew(self, stage: str, epoch: int, counts: bool = True) -> bool:
        """Ask for the loaders of "train" or "val" anew if `reload_dataloaders_every_n_epochs` says that it is time.

        Args:
            stage: "train" or "val".
            epoch: the running epoch; without loaders, the one in which they are about to be asked for.
            counts: whether the next time is counted from this epoch.

        Returns:
            Whether that was done.
        """
        every = self.limits.reload_dataloaders_every_n_epochs
        asked_in = self.asked_in.get(stage, -math.inf)
        due = bool(every) and stage in self.given and epoch - asked_in >= every
        if due or stage not in self.given:
            self.asked_in[stage] = epoch if counts else -math.inf
        if not due:
            return False
        before = self.parts[stage]
        del self.given[stage]
        if stage == "train":
            self.training()
        else:
            self.evaluation(stage)
        from hookloop.loaders.workers import shut_down

        for part in before:
            if not any(part is kept for kept in self.parts[stage]):
                shut_down(part)
        return True

    def count_epochs_from(self, epoch: int) -> None:
        """The training loader was asked for, and training begins in this epoch.

        A run that is resumed asks in the epochs in which it would have asked without a pause.
        """
        every = self.limits.reload_dataloaders_every_n_epochs
        self.asked_in["train"] = epoch - epoch % every if every else epoch

    def tell_epoch(self, stage: str, epoch: int) -> None:
        """Tell samplers that shuffle by epoch which one it is, as torch's DistributedSampler asks for."""
        told: list[Any] = []
        for part in self.parts[stage]:
            batch_sampler = getattr(part, "batch_sampler", None)
            samplers: tuple[Any, ...] = (
                getattr(part, "sampler", None),
                batch_sampler,
                getattr(batch_sampler, "sampler", None),
            )
            for sampler in samplers:
                if hasattr(sampler, "set_epoch") and not any(sampler is one for one in told):
                    sampler.set_epoch(epoch)
                    told.append(sampler)

    def iterate(self, stream: Any, batches: float, skip: int = 0) -> Iterator[tuple[int, Any, bool]]:
        """Index, batch, and whether it is the last one; see `hookloop.loaders.iterate`."""
        for combined in self.combined.values():
            if combined is stream:
                written = combined.iterates_as_written()
                alone = map(itemgetter(0), combined.triples() if written else combined)
                return iterate(alone, batches, skip, sure=written and combined.keeps_its_length)
        iterator = iter(stream)
        if type(iterator).__weakrefoffset__:
            # Weak, so that a loader which is left early ends its workers as soon as nobody goes through it any more.
            self._opened = [one for one in self._opened if one() is not None] + [weakref.ref(iterator)]
        return iterate(iterator, batches, skip, sure=keeps_its_length(stream))

    def release(self) -> None:
        """End all workers: those that are persistent, and those of an iteration that an exception ended."""
        if not self._opened and not self.combined:
            return
        from hookloop.loaders.workers import shut_down

        opened, self._opened = [one() for one in self._opened], []
        for combined in self.combined.values():
            combined.reset()
        for owner in (*opened, *(part for parts in self.parts.values() for part in parts)):
            shut_down(owner)

    def sanity_batches(self) -> Batches:
        """Batches of each validation loader for the sanity check; num_sanity_val_steps=-1 takes all."""
        steps = math.inf if self.limits.num_sanity_val_steps == -1 else self.limits.num_sanity_val_steps
        return [min(steps, batches) for batches in self.batches.get("val", [])]

    @property
    def validates(self) -> bool:
        """Whether anybody supplies validation batches and the limits leave some."""
        return self.sources["val"].exists and self.limits.limit_val_batches != 0
