"""`Results`: everything that was logged in one epoch of one stage, and the dicts that are read from it."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor

from hookloop.metrics.accumulators import at_least_float32
from hookloop.metrics.entry import Entry

Values: TypeAlias = dict[str, Tensor | float]


class Results:
    """The entries of one epoch of training, or of one evaluation.

    Attributes:
        entries: by hook, key and dataloader index.
        training: whether step values count as the key's value until the epoch has ended (in evaluation, a single
            batch's value says nothing about the key).
        epoch_ended: whether epoch values are to be read.
    """

    __slots__ = ("entries", "epoch_ended", "training")

    def __init__(self, training: bool) -> None:
        self.entries: dict[tuple[str | None, str, int | None], Entry] = {}
        self.training = training
        self.epoch_ended = False

    def step_values(self) -> Values:
        """What came in since the last call, for the loggers."""
        values: Values = {}
        for entry in self.entries.values():
            if entry.on_step and entry.fresh:
                entry.fresh = False
                if entry.logger:
                    values[entry.step_name] = entry.step_value
        return values

    def epoch_values(self) -> Values:
        """The reductions, for the loggers."""
        return {entry.epoch_name: entry.epoch_value for entry in self._on_epoch() if entry.logger}

    def logger_values(self) -> Values:
        """What is meant for the loggers, sent or not: latest step values, and reductions once the epoch has ended."""
        values: Values = {
            entry.step_name: entry.step_value for entry in self.entries.values() if entry.on_step and entry.logger
        }
        return values | self.epoch_values() if self.epoch_ended else values

    def evaluation_values(self, dataloader_idx: int) -> Values:
        """The reductions that belong to one evaluation loader, or to all of them."""
        return {
            entry.epoch_name: entry.epoch_value
            for entry in self._on_epoch()
            if entry.dataloader_idx in (None, dataloader_idx)
        }

    def callback_values(self) -> Values:
        """What callbacks see: a key under its own name and under those of its forks."""
        values: Values = {}
        for entry in self.entries.values():
            if self.epoch_ended and entry.on_epoch:
                values[entry.name] = values[entry.epoch_name] = entry.epoch_value
                if entry.on_step and self.training:
                    values[entry.step_name] = entry.step_value
            elif entry.on_step and self.training:
                values[entry.name] = values[entry.step_name] = entry.step_value
        return values

    def progress_bar_values(self) -> Values:
        """What a progress bar shows: step values while an epoch runs, its reductions once it has ended."""
        values: Values = {}
        for entry in self.entries.values():
            if entry.prog_bar:
                if entry.on_step and self.training:
                    values[entry.step_name] = entry.step_value
                if entry.on_epoch and self.epoch_ended:
                    values[entry.epoch_name] = entry.epoch_value
        return values

    def _on_epoch(self) -> Iterator[Entry]:
        return (entry for entry in self.entries.values() if entry.on_epoch)


def to_floats(values: Values) -> dict[str, float]:
    """The values as Python floats. However many tensors there are, the host waits once for each device."""
    floats = {name: value for name, value in values.items() if not isinstance(value, Tensor)}
    by_device: dict[torch.device, list[str]] = {}
    for name, value in values.items():
        if isinstance(value, Tensor):
            by_device.setdefault(value.device, []).append(name)
    for names in by_device.values():
        stacked = torch.stack([_scalar(values[name]) for name in names])
        floats.update(zip(names, stacked.tolist(), strict=True))
    return {name: float(floats[name]) for name in values}


def _scalar(value: Tensor | float) -> Tensor:
    assert isinstance(value, Tensor)
    return value.detach().to(torch.float64)


def to_tensors(values: Values) -> dict[str, Tensor]:
    """The values as tensors without dimensions."""
    dtype = at_least_float32()
    return {
        name: value if isinstance(value, Tensor) else torch.tensor(float(value), dtype=dtype)
        for name, value in values.items()
    }


def reset_all(entries: Iterable[Entry]) -> None:
    """Reset the objects that accumulate by themselves."""
    for entry in entries:
        entry.reset()
