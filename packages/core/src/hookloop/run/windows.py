"""`Windows`: where each window of batches began, kept for saves inside of it. Only runs with such saves have one.

It is kept before every batch, and needed when an exception comes, if ever. So what is kept are references, copies of
what changes in place, and random states of the generators from which something was drawn since the last time. What a
checkpoint has of it is put together when somebody saves.
"""

import operator
from collections.abc import Iterator
from copy import deepcopy
from itertools import chain
from operator import attrgetter, itemgetter, methodcaller
from typing import Any

import torch
from torch import Tensor

from hookloop.callback import Callback, Hooks
from hookloop.hook_checks import overrides
from hookloop.metrics.accumulators import Metric
from hookloop.metrics.saving import as_they_were, metric_places, metric_states
from hookloop.module import LightningModule
from hookloop.module.compiled_names import plain_names
from hookloop.run.moment import BUFFERS, entries_of, gradients_of
from hookloop.run.random_marks import RandomMarks, told
from hookloop.run.run import Run

_STATE_OF = methodcaller("get_state")
_KIND_OF = attrgetter("shape", "dtype", "device")


class Windows:
    """Keeps the beginning of each window of one epoch in `run.window_start`.

    What there is to keep (metric objects, buffers, generators, callbacks with states) is looked up once.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._random = RandomMarks()
        self._generators: list[torch.Generator] = []
        self._val: list[Any] | None = None
        self._look_at_loaders()
        self._loaders_stay = run.loaders.stays_in_an_epoch
        self._by_hand = not run.module.automatic_optimization
        self._with_states: list[Callback] = []
        if run.limits.accumulate_grad_batches > 1:
            # Whole batches may come again, and validations between them: callbacks count them once.
            self._with_states = [one for one in run.hooks.callbacks if overrides(one, Hooks, "state_dict")]
        self._attributes = vars(run.module)
        self._look_at_module()
        run.window_start.tell = self._told

    def begin(self) -> None:
        """Keep the window that begins with the epoch, before its loaders are opened; not if one goes on."""
        stay, self._loaders_stay = self._loaders_stay, False
        self._keep()
        self._loaders_stay = stay

    def around(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The same batches; before each but the first one is asked for, its window is kept if it begins one."""
        # Iterators of C around it, so that a batch costs one call. zip asks the first of them first.
        keeping = chain((None,), iter(self._keep, object()))  # an object that is never returned: without end
        return map(itemgetter(1), zip(keeping, batches, strict=False))

    def _keep(self) -> None:
        run = self._run
        progress, limits = run.progress, run.limits
        if progress.window_filled or progress.last_batch:
            return
        loaders = run.loaders
        if loaders.parts.get("val") is not self._val:
            self._look_at_loaders()
        # In C: whether any part has been given or has lost something, or the module itself holds another kind of thing.
        if (
            list(map(len, self._dicts)) != self._lengths
            or list(map(type, self._attributes.values())) != self._types
            or not all(map(operator.is_, chain.from_iterable(map(dict.values, self._children)), self._parts))
        ):
            self._look_at_module()
        run.window_start.mark = (
            self._random.take(),
            loaders.state_dict() if not self._loaders_stay else (self._val, loaders.saved_val, self._generators),
            tuple(map(_STATE_OF, self._generators)) if self._generators else (),
            run.training_recorder.mark(),
            {"max_epochs": limits.max_epochs, "max_steps": limits.max_steps} if run.state.should_stop else None,
            self._metrics.states() if self._metrics.there else ({}, {}),
            self._buffers.copies() if self._buffers.there else None,
            _copies(gradients_of(run.module)) if self._by_hand else {},
            self._states() if self._with_states else None,
        )

    def _look_at_loaders(self) -> None:
        """Validation loaders are asked for when they are needed first, perhaps inside of an epoch."""
        self._val, self._generators = self._run.loaders.parts.get("val"), self._run.loaders.generators()

    def _look_at_module(self) -> None:
        """It is another one than it was: perhaps there is a metric object more, or a part with buffers."""
        module = self._run.module
        every = [part for _, part in module.named_modules()]
        self._children = [part._modules for part in every]
        self._parts = [one for children in self._children for one in children.values()]
        self._dicts = [*map(vars, every), *(part._buffers for part in every), *self._children]
        self._lengths = list(map(len, self._dicts))
        self._types = list(map(type, self._attributes.values()))
        self._metrics, self._buffers = _Metrics(module), _Buffers(module)

    def _states(self) -> dict[str, Any]:
        return {one.state_key: state for one in self._with_states if (state := deepcopy(one.state_dict()))}

    def _told(self, mark: Any) -> dict[str, Any]:
        """What a checkpoint gets of a window's beginning."""
        random, loaders, drawn, logged, asked_to_stop, (objects, metrics), buffers, gradients, callbacks = mark
        run = self._run
        if isinstance(loaders, tuple):
            val, saved_val, generators = loaders
            states = {id(one): state for one, state in zip(generators, drawn, strict=True)}
            loaders = run.loaders.state_as_of(val, saved_val, lambda generator: states[id(generator)])
        with as_they_were(objects, metrics):
            recorded = run.training_recorder.as_of(logged).state_dict(objects)
        entries = entries_of(recorded, metrics, told(random), loaders, asked_to_stop)
        entries[BUFFERS] = {} if buffers is None else plain_names(_named(*buffers))
        if callbacks is not None:
            entries["callbacks"] = callbacks
        if gradients:
            entries["gradients"] = gradients
        return entries


class _Metrics:
    """The metric objects of a module: who holds them, to see whether there is another one in a place."""

    def __init__(self, module: LightningModule) -> None:
        self._module = module
        self._look()

    def _look(self) -> None:
        found = list(metric_places(self._module))
        self.there = bool(found)
        self._named = {name: metric for name, _, _, metric in found}
        self._holders = [holder for _, holder, _, _ in found]
        self._keys = [key for _, _, key, _ in found]
        self._objects = list(self._named.values())

    def states(self) -> tuple[dict[str, Metric], dict[str, dict[str, Any]]]:
        """The objects by name, and what they have taken in."""
        if not all(map(operator.is_, map(dict.get, self._holders, self._keys), self._objects)):
            self._look()
        return self._named, metric_states(self._named)


class _Buffers:
    """The buffers of a module, and memory for copies of them, which is used again by each one."""

    def __init__(self, module: LightningModule) -> None:
        self._holders = [
            (path, part._buffers) for path, part in module.named_modules(remove_duplicate=False) if part._buffers
        ]
        self.there = bool(self._holders)
        self._kinds: list[Any] = []
        self._memory: list[Tensor] = []

    def copies(self) -> tuple[list[str], list[Tensor]]:
        """Their names, and copies of them that last until the next ones are made."""
        found = [
            (f"{path}.{name}" if path else name, one) for path, held in self._holders for name, one in held.items()
        ]
        names = [name for name, one in found if one is not None]
        buffers = [one.detach() for _, one in found if one is not None]
        kinds = list(map(_KIND_OF, buffers))
        if kinds == self._kinds and all(one.layout is torch.strided for one in buffers):
            torch._foreach_copy_(self._memory, buffers)
        else:
            self._memory, self._kinds = [one.clone() for one in buffers], kinds
        return names, self._memory


def _named(names: list[str], copies: list[Tensor]) -> dict[str, Tensor]:
    return {name: copy.clone() for name, copy in zip(names, copies, strict=True)}


def _copies(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: gradient.clone() for name, gradient in gradients.items()}
