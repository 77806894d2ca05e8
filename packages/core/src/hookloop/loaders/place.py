"""`Place`: where training is in its loaders. What a checkpoint keeps of it, and how a resumed epoch begins there."""

import copy
import math
import time
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils.data import DataLoader

from hookloop.errors import CheckpointError
from hookloop.loaders.iterate import Start, keeps_its_length, length
from hookloop.loaders.position import (
    Positions,
    generators_of,
    keeps_workers,
    load_states,
    positioned,
    stateful_samplers,
    states_of,
)
from hookloop.random_state import random_state, set_random_state
from hookloop.warning_categories import PossibleUserWarning

if TYPE_CHECKING:
    from hookloop.loaders.combined import CombinedLoader
    from hookloop.loaders.workers import PersistentWorkers


class Place:
    """The training loaders of one run.

    Args:
        parts: every single loader.
        before: the place that this one takes over from, whose loaders go on with their workers if they are kept.

    Attributes:
        running: what is gone through in their place: a twin that can begin anywhere, or the loader itself.
    """

    def __init__(self, parts: list[Any], before: "Place | None" = None) -> None:
        self.running: list[Any] = []
        self._parts = parts
        self._positions: list[Positions | None] = []
        self._workers: list[PersistentWorkers | None] = []
        for part in parts:
            running, positions, workers = (before and before._of(part)) or _run(part)
            self.running.append(running)
            self._positions.append(positions)
            self._workers.append(workers)
        self._began: dict[str, Any] | None = None
        self._ahead: list[Any] | None = None
        self._left_early = False
        self._begun = [before is not None and before._has_begun(part) for part in parts]
        self._unopened = False
        self._resumed: dict[str, Any] | None = None
        self._opening: _Opening | None = None

    def _of(self, part: Any) -> "_Running | None":
        for known, *running in zip(self._parts, self.running, self._positions, self._workers, strict=True):
            if known is part:
                return _Running(*running)
        return None

    def _has_begun(self, part: Any) -> bool:
        return any(known is part and begun for known, begun in zip(self._parts, self._begun, strict=True))

    # what a checkpoint keeps

    @property
    def stays(self) -> bool:
        """Whether `state_dict` says the same all through an epoch, once it is open, but for the loaders' generators."""
        if len(self._parts) != 1:
            return False  # some of several may begin anew inside of it
        return not _has_state(self._parts[0]) and not _samplers(self._parts[0])

    def state_dict(
        self, state_of: Callable[[torch.Generator], torch.Tensor] = torch.Generator.get_state
    ) -> dict[str, Any]:
        """How the running epoch's order was drawn, and the loaders' own states: tensors and plain values.

        Args:
            state_of: the state of a loader's own generator.
        """
        if self._resumed is not None:
            return self._resumed  # nothing has been read since it was loaded
        states = self._ahead or self._own_states()
        return {
            "began": self._began,
            "left_early": self._left_early,
            "parts": [
                {
                    "order": None if positions is None else positions.order,
                    "generators": [state_of(one) for one in own_generators(part)],
                    "state": state,
                    "workers_started": workers is not None and workers.started,
                    "samplers": states_of(_samplers(part)),
                    "is": _description(part),
                }
                for part, positions, workers, state in zip(
                    self._parts, self._positions, self._workers, states, strict=True
                )
            ],
        }

    @property
    def stateful(self) -> list[bool]:
        """Which of the loaders know by themselves where they are."""
        return [_has_state(part) for part in self._parts]

    def _own_states(self) -> list[Any]:
        # One that was never opened is not asked: it would open itself, and draw for that.
        begun = zip(self._parts, self._begun, strict=True)
        return [part.state_dict() if one and _has_state(part) else None for part, one in begun]

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another process was; the next iteration begins there.

        Raises:
            CheckpointError: there are other loaders than there were.
        """
        saved = state["parts"]
        if [len(one["generators"]) for one in saved] != [len(own_generators(part)) for part in self._parts]:
            raise CheckpointError(
                f"The checkpoint was saved with {len(saved)} training loader(s), and this run has "
                f"{len(self._parts)}, or they draw from other generators. Resume with the loaders of the saved run."
            )
        for index, (part, one) in enumerate(zip(self._parts, saved, strict=True)):
            _tell_differences(f"training dataloader {index}", one.get("is", {}), _description(part))
        self._resumed = state
        self._set_started([one.get("workers_started", False) for one in saved])
        self._begun = [one["state"] is not None for one in saved]
        for part, one in zip(self._parts, saved, strict=True):
            _set_generators(part, one["generators"])
            load_states(_samplers(part), one.get("samplers", []))
            if one["state"] is not None and _has_state(part):
                self._unopened = True
                _load_state(part, one)

    # going through

    def start(self, stream: Any, skip: int) -> Start:
        """How an epoch is opened of which `skip` batches are done.

        Args:
            stream: what is gone through: `running[0]`, or the CombinedLoader of `running`.
            skip: batches that are done.
        """
        stateful = any(map(_has_state, self._parts))
        # Of loaders that open themselves, what they were before cannot be had afterwards.
        before = copy.deepcopy(self.state_dict()) if stateful else self._resumed
        self._opening = _Opening(skip, random_state(), self._drawn(), self._started(), before)
        resumed, self._resumed = self._resumed, None
        self._ahead = None
        ahead, over = (self._look_ahead, self._forget_ahead) if stateful else (None, None)
        combined = None if stream is self.running[0] else stream
        in_sequence = combined is not None and combined.mode == "sequential" and combined.iterates_as_written()
        opening = self._begin_part if in_sequence else None
        if self._unopened and not skip:
            self._leave_behind(resumed, self._parts)
        self._left_early = stateful
        if not in_sequence:
            self._begun = [True] * len(self._parts)
        if not skip:
            for positions in self._positions:
                if positions is not None:
                    positions.begin_anew()  # an epoch that was resumed at its very end has asked for nothing
            if None in self._positions:
                self._began = random_state()
            self._unopened = False
            return Start(opening=opening, look_ahead=ahead, over=over)
        opened = self._put_back()
        if stateful:
            self._began = self._began if resumed is None else resumed["began"]
            if combined is not None and resumed is not None:
                self._begin_beside(combined, skip, resumed)
            return Start(inside=skip, opening=opening, opened=opened, look_ahead=ahead, over=over)
        now = random_state()
        if resumed is None or not self._can_begin_inside(combined):
            if resumed is not None and resumed["began"] is not None:
                self._began = resumed["began"]
                set_random_state(self._began)
            return Start(unread=skip, left_out=_Reading(skip, now).end)
        self._begin_inside([skip] if combined is None else _done_of_each(combined, skip), resumed)
        return Start(inside=skip, opened=opened)

    def _begin_inside(self, done: list[int], resumed: dict[str, Any]) -> None:
        everything = zip(self._positions, resumed["parts"], done, self._drawn(), strict=True)
        for positions, one, batch, states in everything:
            if positions is not None and batch and one["order"] is not None:
                positions.begin_at(batch, one["order"], states)

    def _begin_beside(self, combined: "CombinedLoader", skip: int, resumed: dict[str, Any]) -> None:
        """Of several loaders, some know by themselves where they are: have the others begin at the same batch."""
        known = [_has_state(part) or positions is not None for part, positions in self._pairs()]
        in_sequence = combined.mode == "sequential"
        lasting = all(map(keeps_its_length, self._parts)) or (not in_sequence and all(map(_has_state, self._parts)))
        if not (all(known) and lasting and combined.iterates_as_written()):
            warnings.warn(
                f'In the middle of an epoch of several training loaders in mode "{combined.mode}", of which some know '
                "where they are (state_dict, load_state_dict), not all can go on exactly where they were: this epoch "
                "may repeat batches or leave some out. Save at the end of epochs, or use DataLoaders of torch.",
                category=PossibleUserWarning,
                stacklevel=2,
            )
        if not lasting:
            return
        done = _done_of_each(combined, skip)
        if in_sequence:
            limits = combined.limits or [length(part) for part in self._parts]
            others = zip(self._parts, done, limits, strict=True)
            self._leave_behind(resumed, [part for part, batches, limit in others if not 0 < batches < limit])
            self._unopened = False
        self._begin_inside(done, resumed)

    def _pairs(self) -> list[tuple[Any, Positions | None]]:
        return list(zip(self._parts, self._positions, strict=True))

    def _put_back(self) -> Callable[[], None]:
        """What is to be called when the loaders are open, for the random numbers to be what they are now.

        A DataLoader draws a seed for its workers when it is opened; the saved run had done that before.
        """
        now, drawn = random_state(), self._drawn()

        def opened() -> None:
            self._unopened = False
            set_random_state(now)
            for part, states in zip(self._parts, drawn, strict=True):
                _set_generators(part, states)

        return opened

    def _drawn(self) -> list[list[torch.Tensor]]:
        return [[generator.get_state() for generator in own_generators(part)] for part in self._parts]

    def _started(self) -> list[bool]:
        return [workers is not None and workers.started for workers in self._workers]

    def _set_started(self, started: list[bool]) -> None:
        for workers, one in zip(self._workers, started, strict=True):
            if workers is not None:
                workers.started = one

    def _leave_behind(self, resumed: dict[str, Any] | None, parts: list[Any]) -> None:
        """An epoch begins, and loaders were given a state and not opened since; or it is another one's turn.

        Where that is from the middle of an epoch that is over, the next iteration has to be another one.
        """
        if resumed is not None and not resumed.get("left_early"):
            return
        put_back = self._put_back()
        for part in filter(_has_state, parts):
            if self._has_begun(part):
                iter(part)
        put_back()

    def _begin_part(self, index: int) -> None:
        self._begun[index] = True

    def tell_epoch(self) -> None:
        """An epoch begins, and nothing is open yet."""
        self._opening = None

    def rewind(self, done: int) -> None:
        """Make it as if the loaders had not been opened, if no batch has come of it: opening them draws an order.

        Args:
            done: the batches of the epoch that are done.
        """
        opening, self._opening = self._opening, None
        if opening is None or opening.skip != done:
            return
        set_random_state(opening.random)
        for part, states in zip(self._parts, opening.drawn, strict=True):
            _set_generators(part, states)
        self._set_started(opening.started)
        self._resumed = opening.state

    def _can_begin_inside(self, combined: "CombinedLoader | None") -> bool:
        placed = all(positions is not None for positions in self._positions)
        if combined is None or not placed:
            return placed
        return combined.iterates_as_written() and all(keeps_its_length(part) for part in self._parts)

    def _look_ahead(self) -> None:
        """A batch is about to be read ahead: what the loaders know now is what belongs to the batch before it."""
        self._ahead = copy.deepcopy(self._own_states())

    def _forget_ahead(self, at_its_end: bool) -> None:
        """The epoch is over: what the loaders know now is where the next one begins."""
        self._ahead, self._left_early = None, not at_its_end


class _Running(NamedTuple):
    """What is gone through in place of a loader, where it begins, and the workers that it keeps."""

    loader: Any
    positions: Positions | None
    workers: "PersistentWorkers | None"


class _Opening(NamedTuple):
    """How things were before an epoch's loaders were opened.

    Attributes:
        skip: the batches that were done.
        random: the random state.
        drawn: the states of the loaders' own generators.
        started: which persistent workers had been started.
        state: what a checkpoint keeps instead of asking the loaders: what they had been loaded with and had not used
            yet; of loaders with a state of their own, whatever it was.
    """

    skip: int
    random: dict[str, Any]
    drawn: list[list[torch.Tensor]]
    started: list[bool]
    state: dict[str, Any] | None


class _Reading:
    """Batches are read and left out, because what gives them can only be gone through from its beginning."""

    def __init__(self, batches: int, state: dict[str, Any]) -> None:
        self._batches = batches
        self._state = state
        self._since = time.monotonic()

    def end(self) -> None:
        set_random_state(self._state)
        seconds = time.monotonic() - self._since
        warnings.warn(
            f"The training data has no index, so {self._batches} batches that were done before were read and left out, "
            f"which took {seconds:.1f} s. A map-style dataset goes on at once, and so does a loader with state_dict "
            "and load_state_dict, such as torchdata's StatefulDataLoader.",
            category=PossibleUserWarning,
            stacklevel=2,
        )


def _done_of_each(combined: "CombinedLoader", skip: int) -> list[int]:
    """How many batches of each loader's running round are done, after so many of all."""
    lengths = [int(length(one)) for one in combined.flattened]
    limits = combined.limits or lengths
    if combined.mode == "max_size_cycle":
        return [(skip - 1) % each + 1 if each else 0 for each in lengths]
    if combined.mode != "sequential":
        return [min(skip, each) for each in lengths]
    done = []
    for each, limit in zip(lengths, limits, strict=True):
        done.append(int(min(skip, each, limit)))
        skip -= done[-1]
    return done


def _load_state(part: Any, saved: Mapping[str, Any]) -> None:
    """Have a loader that knows where it is go on there, with random numbers as they were saved."""
    part.load_state_dict(saved["state"])
    # torchdata's StatefulDataLoader only takes a note of its state. Asked where it is, it goes there, and draws from
    # its generator: now, and not where an epoch begins, in which that was not drawn.
    part.state_dict()
    _set_generators(part, saved["generators"])


def _set_generators(part: Any, states: list[torch.Tensor]) -> None:
    for generator, state in zip(own_generators(part), states, strict=True):
        generator.set_state(state)


def _samplers(part: Any) -> list[Any]:
    """Those of a loader that keep a state of their own, unless the loader does."""
    return stateful_samplers(part) if isinstance(part, DataLoader) and not _has_state(part) else []


def _description(loader: Any) -> dict[str, Any]:
    """What has to be the same for batch k to be what it was: plain values by the words of a message."""
    batches = length(loader)
    told: dict[str, Any] = {"batches": None if batches == math.inf else int(batches)}
    if isinstance(loader, DataLoader):
        samples = length(loader.dataset)
        # Never asked whether they are true: those of a stream have no length.
        batch_sampler = loader.sampler if loader.batch_sampler is None else loader.batch_sampler
        told |= {
            "samples": None if samples == math.inf else int(samples),
            "batch size": getattr(batch_sampler, "batch_size", loader.batch_size),
            "order by": type(getattr(batch_sampler, "sampler", batch_sampler)).__name__,
            "workers": "some" if loader.num_workers else "none",
        }
    return told


def _tell_differences(what: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differences = [
        f"{name}: {saved[name]} then, {now[name]} now" for name in saved if name in now and saved[name] != now[name]
    ]
    if differences:
        warnings.warn(
            f"The {what} is another one than when the checkpoint was saved ({'; '.join(differences)}). The run goes on "
            "at the same number of batches, and not as the saved run would have. Resume with the same data to repeat "
            "it; ignore this if the change is on purpose.",
            category=PossibleUserWarning,
            stacklevel=2,
        )


def _run(part: Any) -> _Running:
    if _has_state(part):
        return _Running(part, None, None)
    loader, positions = positioned(part) or (part, None)
    if not keeps_workers(part):
        return _Running(loader, positions, None)
    from hookloop.loaders.workers import PersistentWorkers, with_own_workers  # not by every run

    loader = with_own_workers(part) if positions is None else loader
    return _Running(loader, positions, PersistentWorkers(loader))


def _has_state(loader: Any) -> bool:
    """Whether a loader knows by itself where it is, as torchdata's StatefulDataLoader does."""
    return hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict")


def own_generators(loader: Any) -> list[torch.Generator]:
    """The generators that a loader and its samplers draw from; of what is no DataLoader nothing is known."""
    return generators_of(loader) if isinstance(loader, DataLoader) else []
