"""`Entry`: one logged key of one hook, from the arguments of its first `self.log` to its value."""

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeGuard

import torch
from torch import Tensor

from hookloop.errors import MisconfigurationError
from hookloop.metrics.accumulators import Accumulator, Metric, accumulator, at_least_float32
from hookloop.metrics.settings import resolve_settings


class Entry:
    """The value that a key has now, and the reduction of those that it had in this epoch.

    Attributes:
        arguments: what was passed to `self.log` besides the value, to compare with the next call.
        settings: what that means.
        name: the key, with the suffix of its dataloader.
        dataloader_idx: the evaluation loader during which it was logged, None if outside of one, or during several.
        fresh: whether a step value came in since the loggers got the last one.
    """

    __slots__ = (
        "_accumulator",
        "_dtype",
        "_enable_graph",
        "_metric",
        "_reduced",
        "_step_dtype",
        "_step_value",
        "arguments",
        "dataloader_idx",
        "epoch_name",
        "fresh",
        "logger",
        "name",
        "needs_batch_size",
        "on_epoch",
        "on_step",
        "prog_bar",
        "settings",
        "step_name",
    )

    def __init__(
        self,
        hook: str | None,
        key: str,
        name: str,
        dataloader_idx: int | None,
        value: object,
        arguments: tuple[Any, ...],
    ) -> None:
        self.arguments = arguments
        self.settings = settings = resolve_settings(hook, key, arguments)
        self.on_step, self.on_epoch = settings.on_step, settings.on_epoch
        self._metric: Metric | None = value if is_metric(value) else None
        self._accumulator: Accumulator | None = None
        if self.on_epoch and self._metric is None:
            self._accumulator = accumulator(settings.reduce_fx)
        self.needs_batch_size = self._accumulator is not None and settings.reduce_fx == "mean"
        self.name = name
        self.dataloader_idx = dataloader_idx
        both = self.on_step and self.on_epoch
        self.step_name = _fork(key, name, "step") if both else name
        self.epoch_name = _fork(key, name, "epoch") if both else name
        self.prog_bar = settings.prog_bar
        self.logger = settings.logger
        self.fresh = False
        self._enable_graph = settings.enable_graph
        self._step_value: Tensor | float | None = None
        self._reduced: Tensor | float | None = None
        # Of the tensors whose values are kept as numbers: of all of them, and of the last one if it is one.
        self._dtype: torch.dtype | None = None
        self._step_dtype: torch.dtype | None = None

    def update(self, value: object, batch_size: int) -> None:
        """Take in a value of a batch of that many samples. Nothing here waits for a device."""
        self._reduced = None
        self.fresh = True
        kept: Tensor | float | None
        if type(value) is Tensor and value.dtype is self._step_dtype and value.is_cpu and not value.ndim:
            kept = value.item()  # as _kept does it: values are mostly of the kind of the one before
        else:
            kept = self._kept(value)
        if kept is None:
            return
        if self.on_step:
            self._step_value = kept
        if self._accumulator is not None:
            self._accumulator.update(kept, batch_size)

    def _kept(self, value: object) -> Tensor | float | None:
        """What is kept of a value: a copy, as `loss += penalty` after the call would change what was logged.

        None if it is an object that accumulates by itself.
        """
        self._step_dtype = None
        if isinstance(value, Tensor):
            if value.ndim or not value.is_floating_point():
                value = self._scalar(value)
            if self._enable_graph:
                return value
            if value.is_cpu and type(value) is Tensor and not torch.compiler.is_compiling():
                # A number is the cheapest copy: it is read ten times as fast as a tensor is made. (But a compiled step
                # would end its graph here.)
                self._step_dtype = value.dtype
                self._dtype = value.dtype if self._dtype is None else torch.promote_types(self._dtype, value.dtype)
                return value.item()
            # .data, because nobody sees what is copied: detach() would make a view, with a version to keep track of.
            return value.data.clone()
        if isinstance(value, int | float):
            return value
        if self._metric is not None and is_metric(value):
            self._metric = value
            # torchmetrics keeps the value of the batch that went through forward(); other objects have none.
            self._step_value = getattr(value, "_forward_cache", None)
            return None
        raise MisconfigurationError(
            f'self.log("{self.name}", {value!r}): a value of type {type(value).__name__} cannot be logged. Pass a '
            "tensor with one element, a number, or an object with update, compute and reset; "
            "for a dict use self.log_dict."
        )

    def _scalar(self, value: Tensor) -> Tensor:
        if value.numel() != 1:
            raise MisconfigurationError(
                f'self.log("{self.name}", ...) got a tensor of shape {tuple(value.shape)} with {value.numel()} '
                "elements, and one is needed. Reduce it first, for example with .mean()."
            )
        if value.ndim:
            value = value.squeeze()
        return value if value.is_floating_point() else value.to(at_least_float32())

    @property
    def step_value(self) -> Tensor | float:
        """The last value that was logged."""
        if self._step_value is None and self._metric is not None:
            return _computed(self.name, self._metric)
        assert self._step_value is not None
        return _as_logged(self._step_value, self._step_dtype)

    @property
    def epoch_value(self) -> Tensor | float:
        """The reduction over the epoch so far; computed once until the next update."""
        if self._reduced is None:
            if self._metric is not None:
                self._reduced = _computed(self.name, self._metric)
            else:
                assert self._accumulator is not None
                self._reduced = self._accumulator.compute(self._dtype)
        return self._reduced

    @property
    def metric(self) -> Metric | None:
        """The object that accumulates by itself, if it is one that was logged."""
        return self._metric

    def state_dict(self) -> dict[str, Any]:
        """Everything but the arguments and a metric object, as plain values."""
        return {
            "settings": tuple(self.settings),
            "dataloader_idx": self.dataloader_idx,
            "fresh": self.fresh,
            "step_value": None if self._step_value is None else _as_logged(self._step_value, self._step_dtype),
            "dtype": self._dtype,
            "accumulator": None if self._accumulator is None else self._accumulator.state_dict(),
        }

    def mark(self) -> tuple[Any, ...]:
        """What of it changes from step to step, for `as_of`."""
        accumulator = self._accumulator
        taken_in = None if accumulator is None else accumulator.mark()
        return self._step_value, self.fresh, self.dataloader_idx, self._metric, taken_in

    def as_of(self, mark: tuple[Any, ...]) -> "Entry":
        """One as this one was when it gave that mark."""
        then = copy(self)
        then._step_value, then.fresh, then.dataloader_idx, then._metric, taken_in = mark
        then._reduced = None
        if self._accumulator is not None:
            then._accumulator = self._accumulator.as_of(taken_in)
        return then

    @classmethod
    def from_state(
        cls,
        hook: str | None,
        key: str,
        index: int | None,
        metric: Metric | None,
        state: Mapping[str, Any],
        device: torch.device,
    ) -> "Entry":
        """The entry that `state_dict` was taken of, with tensors on this device."""
        name = key if index is None else f"{key}/dataloader_idx_{index}"
        entry = cls(hook, key, name, state["dataloader_idx"], metric, tuple(state["settings"]))
        entry.fresh = state["fresh"]
        value = state["step_value"]
        entry._step_value = value.to(device) if isinstance(value, Tensor) else value
        entry._dtype = state.get("dtype")
        if entry._accumulator is not None:
            entry._accumulator.load_state_dict(state["accumulator"], device)
        return entry

    def logs(self, value: object) -> bool:
        """Whether this object, which accumulates by itself, is what is logged here."""
        return self._metric is not None and self._metric is value

    def settle(self) -> None:
        """Compute the epoch's value now: the object that accumulates it may go on with another loader's batches."""
        if self.on_epoch and self._metric is not None:
            _ = self.epoch_value

    def reset(self) -> None:
        """Forget the epoch; only objects that accumulate by themselves have anything left to forget."""
        if self._metric is not None:
            self._metric.reset()


def _as_logged(value: Tensor | float, dtype: torch.dtype | None) -> Tensor | float:
    """A value that is kept, as a tensor if it was one when it was logged."""
    if isinstance(value, Tensor):
        return value
    return value if dtype is None else torch.tensor(value, dtype=dtype, device="cpu")


def is_metric(value: object) -> TypeGuard[Metric]:
    """Whether a value accumulates by itself."""
    # Not isinstance(value, Metric): the runtime check of a protocol is slow, and a class has these names too.
    return hasattr(value, "compute") and hasattr(value, "update") and not isinstance(value, type | Tensor)


def _fork(key: str, name: str, kind: str) -> str:
    """`loss` becomes `loss_step`, and `loss/dataloader_idx_0` becomes `loss_step/dataloader_idx_0`."""
    return f"{key}_{kind}{name[len(key) :]}"


def _computed(name: str, metric: Metric) -> Tensor | float:
    value = metric.compute()
    if isinstance(value, Tensor):
        if value.numel() == 1:
            return value.detach().squeeze()
    elif isinstance(value, int | float):
        return value
    elif hasattr(value, "item"):
        return float(value.item())
    shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
    raise MisconfigurationError(
        f'self.log("{name}", metric): {type(metric).__name__}.compute() returned a {type(value).__name__}{shape}, and '
        "one number is needed. Compute it yourself and log its parts with self.log_dict."
    )
