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
from hookloop.metrics.saving import metric_objects, metric_places, metric_states
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
        self._generators = run.loaders.generators()
        self._loaders_stay = run.loaders.stays_in_an_epoch
        self._by_hand = not run.module.automatic_optimization
        self._with_states: list[Callback] = []
        if run.limits.accumulate_grad_batches > 1:
            # Whole batches may come again, and validations between them: callbacks count them once.
            self._with_states = [one for one in run.hooks.callbacks if overrides(one, Hooks, "state_dict")]
        self._attributes, self._parts = vars(run.module), run.module._modules
        self._many = len(self._attributes) + len(self._parts)
        self._metrics, self._buffers = _Metrics(run.module), _Buffers(run.module)
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
        if len(self._attributes) + len(self._parts) != self._many:
            self._look_again()
        run.window_start.mark = (
            self._random.take(),
            tuple(map(_STATE_OF, self._generators)) if self._generators else (),
            None if self._loaders_stay else run.loaders.state_dict(),
            run.training_recorder.mark(),
            {"max_epochs": limits.max_epochs, "max_steps": limits.max_steps} if run.state.should_stop else None,
            self._metrics.states() if self._metrics.there else {},
            self._buffers.copies() if self._buffers.there else None,
            _copies(gradients_of(run.module)) if self._by_hand else {},
            self._states() if self._with_states else None,
        )

    def _look_again(self) -> None:
        """The module was given something: perhaps a metric object, or a part with buffers."""
        self._many = len(self._attributes) + len(self._parts)
        self._metrics, self._buffers = _Metrics(self._run.module), _Buffers(self._run.module)

    def _states(self) -> dict[str, Any]:
        return {one.state_key: state for one in self._with_states if (state := deepcopy(one.state_dict()))}

    def _told(self, mark: Any) -> dict[str, Any]:
        """What a checkpoint gets of a window's beginning."""
        random, drawn, loaders, logged, asked_to_stop, metrics, buffers, gradients, callbacks = mark
        run = self._run
        if loaders is None:
            states = {id(one): state for one, state in zip(self._generators, drawn, strict=True)}
            loaders = run.loaders.state_dict(lambda generator: states[id(generator)])
        recorded = run.training_recorder.as_of(logged).state_dict(metric_objects(run.module))
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

    def states(self) -> dict[str, dict[str, Any]]:
        """What they have taken in."""
        if not all(map(operator.is_, map(dict.get, self._holders, self._keys), self._objects)):
            self._look()
        return metric_states(self._named)


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
