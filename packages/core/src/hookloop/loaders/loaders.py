"""`Loaders`: the loaders of a run, asked for when they are needed, and how many batches of each are used."""

import copy
import math
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.utils.data import DataLoader

from hookloop.limits import Limits
from hookloop.loaders.iterate import Start, iterate, keeps_its_length, length
from hookloop.loaders.place import Place, own_generators
from hookloop.loaders.position import keeps_workers, positioned
from hookloop.loaders.source import Source

if TYPE_CHECKING:
    from hookloop.loaders.combined import CombinedLoader, Mode
    from hookloop.loaders.samples import Samples

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
        in_fit: whether the run trains: then a checkpoint says where it is in its training loaders.
        place: that; None before the training loaders were asked for.
        asked_in: the epoch from which `reload_dataloaders_every_n_epochs` counts, by stage.
        samples: which samples the batches of a prediction hold, if a callback asked for that.
    """

    sources: Mapping[str, Source]
    limits: Limits
    given: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, list[Any]] = field(default_factory=dict)
    combined: "dict[str, CombinedLoader]" = field(default_factory=dict)
    streams: dict[str, list[Any]] = field(default_factory=dict)
    batches: dict[str, Batches] = field(default_factory=dict)
    in_fit: bool = False
    place: Place | None = None
    asked_in: dict[str, float] = field(default_factory=dict)
    samples: "Samples | None" = None
    _opened: "list[weakref.ref[Any]]" = field(default_factory=list)
    saved_val: list[Any] | None = None

    def training(self) -> Any:
        """The training loader, asked for on the first call; several are one CombinedLoader.

        Raises:
            MisconfigurationError: there is none, a limit does not fit its length, or a list looks like one of batches.
        """
        if "train" not in self.given:
            given, combined, counts = self._ask("train", "max_size_cycle")
            running = self.parts["train"]
            if self.in_fit:
                self.place = Place(running, self.place)
                running = self.place.running
            if combined is None:
                stream, batches = running[0], counts[0]
            else:
                # A copy: what the user passed keeps the loaders that it was given.
                stream, batches = copy.copy(combined), combined.length(counts)
                stream.flattened = running
                self.combined["train"] = stream
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
            running = self._repeatable(stage)
            if combined is not None and combined.mode != "sequential":
                self.combined[stage] = together = copy.copy(combined)
                together.flattened = running
                self._keep(stage, given, [together], [combined.length(counts)])
            else:
                self._keep(stage, given, running, counts)
            if stage == "val" and self.saved_val is not None:
                self._go_on_drawing()
        return list(self.streams[stage])

    def _repeatable(self, stage: str) -> list[Any]:
        """The loaders as they are gone through: inside a fit, what workers draw depends on epoch and position alone.

        And starting workers that are persistent draws nothing: the sanity check may have done it, and its draws do not
        count.
        """
        if not self.in_fit or stage != "val":
            return self.parts[stage]
        return [_repeatable(part) if getattr(part, "num_workers", 0) else part for part in self.parts[stage]]

    def generators(self) -> list[torch.Generator]:
        """Those that training and validation loaders have for themselves."""
        return [one for stage in ("train", "val") for part in self.parts.get(stage, []) for one in own_generators(part)]

    @property
    def stays_in_an_epoch(self) -> bool:
        """Whether nothing but the states of `generators` changes in `state_dict` after an epoch's first batch."""
        return self.place is not None and self.place.stays and not self.limits.reload_dataloaders_every_n_epochs

    def state_dict(self) -> dict[str, Any]:
        """Where training is in its loaders, the validation loaders' own generators, and when both were asked for."""
        return self.state_as_of(self.parts.get("val"), self.saved_val, torch.Generator.get_state)

    def state_as_of(
        self,
        val: list[Any] | None,
        saved_val: list[Any] | None,
        state_of: Callable[[torch.Generator], torch.Tensor],
    ) -> dict[str, Any]:
        """What `state_dict` said at an earlier moment of an epoch in which they stay (`stays_in_an_epoch`).

        Args:
            val: `parts["val"]` then; None if they had not been asked for.
            saved_val: `saved_val` then.
            state_of: the states of `generators` then.
        """
        drawn = saved_val
        if drawn is None:
            drawn = [[state_of(one) for one in own_generators(part)] for part in val or ()]
        return {
            "train": None if self.place is None else self.place.state_dict(state_of),
            "val": drawn if any(drawn) else [],
            "asked_in": {
                stage: epoch
                for stage, epoch in self.asked_in.items()
                if self.limits.reload_dataloaders_every_n_epochs and epoch != -math.inf  # as if it was not asked for
            },
        }

    def load_state_dict(self, state: Mapping[str, Any], epoch: int | None) -> None:
        """Go on where another process was; the loaders have been asked for.

        Args:
            state: what `state_dict` gave.
            epoch: the running one, which that process was in or was to begin; None if training ends without it.

        Raises:
            CheckpointError: there are other training loaders than there were.
        """
        every = self.limits.reload_dataloaders_every_n_epochs
        self.saved_val = state["val"]
        self.asked_in.update(state.get("asked_in", {}))
        # A training loader that is due now was asked for on the way here. A validation loader is due when the next
        # validation comes, which need not be in this epoch.
        renewed = False
        if every and epoch is not None and epoch - self.asked_in.get("train", math.inf) >= every:
            self.asked_in["train"] = epoch
            renewed = not self.sources["train"].stays
        # What is asked for anew in this epoch begins anew in it: the state is that of the loader before.
        if self.place is not None and state["train"] is not None and not renewed:
            self.place.load_state_dict(state["train"])
        if "val" in self.given:
            self._go_on_drawing()

    def _go_on_drawing(self) -> None:
        """Validation loaders with generators of their own draw on from where another process was."""
        saved, self.saved_val = self.saved_val or [], None
        for part, states in zip(self.parts["val"], saved, strict=False):
            for generator, drawn in zip(own_generators(part), states, strict=False):
                generator.set_state(drawn)

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

    def forget(self) -> None:
        """Ask for all loaders anew when they are needed next."""
        self.given.clear()

    def _keep(self, stage: str, given: Any, streams: list[Any], batches: Batches) -> None:
        self.given[stage], self.streams[stage], self.batches[stage] = given, streams, batches

    def is_due(self, stage: str, epoch: int) -> bool:
        """Whether `reload_dataloaders_every_n_epochs` says that "train" or "val" is to be asked for anew."""
        every = self.limits.reload_dataloaders_every_n_epochs
        return bool(every) and epoch - self.asked_in.get(stage, -math.inf) >= every

    def renew(self, stage: str, epoch: int, counts: bool = True) -> bool:
        """Ask for the loaders of "train" or "val" anew if `reload_dataloaders_every_n_epochs` says that it is time.

        Args:
            stage: "train" or "val".
            epoch: the running epoch; without loaders, the one in which they are about to be asked for.
            counts: whether the next time is counted from this epoch.

        Returns:
            Whether that was done.
        """
        due = self.is_due(stage, epoch)
        resumed = stage == "val" and self.saved_val is not None
        if due or not (stage in self.given or resumed):
            self.asked_in[stage] = epoch if counts else -math.inf
        if resumed:
            self.saved_val = [] if due else self.saved_val
        if not due or stage not in self.given:
            return False
        before = self._gone_through(stage)
        del self.given[stage]
        if stage == "train":
            self.training()
        else:
            self.evaluation(stage)
        from hookloop.loaders.workers import shut_down

        for part in before:
            if not any(part is kept for kept in self._gone_through(stage)):
                shut_down(part)
        return True

    def _gone_through(self, stage: str) -> list[Any]:
        """The single loaders of a stage, or what is gone through in their place."""
        combined = self.combined.get(stage)
        return list(self.streams[stage]) if combined is None else list(combined.flattened)

    def count_epochs_from(self, epoch: int) -> None:
        """The training loader was asked for, and training begins in this epoch.

        A run that is resumed asks in the epochs in which it would have asked without a pause.
        """
        every = self.limits.reload_dataloaders_every_n_epochs
        self.asked_in["train"] = epoch - epoch % every if every else epoch

    def tell_epoch(self, stage: str, epoch: int) -> None:
        """Tell samplers that shuffle by epoch which one it is, as torch's DistributedSampler asks for."""
        if stage == "train" and self.place is not None:
            self.place.tell_epoch()
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
        """Index, batch, and whether it is the last one; see `hookloop.loaders.iterate`.

        Of a training epoch of which some batches are done, those are not read again wherever that can be had.
        """
        training = self.place is not None and any(stream is one for one in self.streams.get("train", []))
        start = self.place.start(stream, skip) if training and self.place is not None else Start(unread=skip)
        iterator, sure = self._open(stream, start)
        return iterate(iterator, batches, skip, sure, start, whole=batches >= length(stream))

    def rewind(self, done: int) -> None:
        """Nothing more comes of training's loaders; see `Place.rewind`."""
        if self.place is not None:
            self.place.rewind(done)

    def _open(self, stream: Any, start: Start) -> tuple[Iterator[Any], bool]:
        """An iterator of a stream's batches, and whether as many are sure to come as it promises."""
        for combined in self.combined.values():
            if combined is stream:
                written = combined.iterates_as_written()
                triples = combined.triples(start.inside, start.opened, start.opening) if written else combined
                alone = map(itemgetter(0), triples)
                return alone, written and combined.keeps_its_length
        iterator = iter(stream)
        if start.opened is not None:
            start.opened()
        if type(iterator).__weakrefoffset__:
            # Weak, so that a loader which is left early ends its workers as soon as nobody goes through it any more.
            self._opened = [one for one in self._opened if one() is not None] + [weakref.ref(iterator)]
        return iterator, keeps_its_length(stream)

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
        """Whether anybody supplies validation batches and the limits leave some, as far as that is known by now."""
        if not self.sources["val"].exists or self.limits.limit_val_batches == 0:
            return False
        # Loaders that are asked for anew may have some the next time.
        return bool(self.limits.reload_dataloaders_every_n_epochs) or any(self.batches.get("val", (1,)))


def _repeatable(part: Any) -> Any:
    """A loader with workers, as it is gone through in the validations of a fit."""
    loader, positions = positioned(part) or (part, None)
    if keeps_workers(part):
        from hookloop.loaders.workers import PersistentWorkers, with_own_workers

        loader = with_own_workers(part) if positions is None else loader
        PersistentWorkers(loader, started=True)
    return loader
