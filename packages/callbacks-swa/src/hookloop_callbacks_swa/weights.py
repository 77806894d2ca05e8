"""`AveragedWeights`: the averages of a module's tensors, in flat lists, and their way into the module and back."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parameter import is_lazy

from hookloop.errors import CheckpointError
from hookloop.module.compiled_names import plain_names

Average: TypeAlias = Callable[[list[Tensor], list[Tensor], int], None]
"""Brings averages, in place, closer to live tensors of the same dtype; the number is how many were averaged before."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class Slot(NamedTuple):
    """Where a module keeps a tensor. Read anew each time, because modules replace their tensors."""

    table: dict[str, Any]
    name: str

    def tensor(self) -> Tensor:
        """The tensor that is there now."""
        found: Tensor = self.table[self.name]
        return found


@dataclass
class Entry:
    """One tensor of the module and its average.

    Attributes:
        names: all names that it has in the module's state_dict; several if it is tied.
        slot: where the module keeps it.
        average: of the same shape and dtype.
        is_statistic: whether it is none of the averaged tensors, but what a batch norm has seen with them.
    """

    names: list[str]
    slot: Slot
    average: Tensor
    is_statistic: bool


@dataclass
class Group:
    """Tensors of one device and dtype, whose averages are brought up to date by one call.

    Attributes:
        slots: where the live ones are.
        averages: in the same order.
        landing: memory of the averages' device for copies that are under way; None if they are on one device.
        arrived: tells when these copies are there.
        waiting: the average that is to be taken when they are.
    """

    slots: list[Slot] = field(default_factory=list)
    averages: list[Tensor] = field(default_factory=list)
    landing: list[Tensor] | None = None
    arrived: Any = None
    waiting: Callable[[], None] | None = None

    def live(self) -> list[Tensor]:
        """The live tensors."""
        return [table[name] for table, name in self.slots]

    def update(self, average: Average, live: list[Tensor], n_averaged: int) -> None:
        """Take an average; from another device it is taken when the copies have arrived, which nobody waits for."""
        if self.landing is None:
            average(self.averages, live, n_averaged)
            return
        self.settle()
        landing = self.landing
        torch._foreach_copy_(landing, live, non_blocking=True)
        if self.arrived is not None:
            self.arrived.record()
        self.waiting = lambda: average(self.averages, landing, n_averaged)

    def settle(self) -> None:
        """Take the average that waits."""
        if self.waiting is None:
            return
        if self.arrived is not None:
            self.arrived.synchronize()
        waiting, self.waiting = self.waiting, None
        waiting()


class AveragedWeights:
    """Averages of a module's weights.

    What is averaged: all parameters, frozen ones too, and each tied one once. With `use_buffers` also the buffers of
    floating-point or complex numbers that are saved with the module. What is not: buffers of integers and booleans, and
    buffers that are not saved. These are as they are in the module, whichever weights are in it.

    Averages can be in the module, in exchange for the live tensors, which are kept here meanwhile (`inside`).

    Args:
        device: where the averages are; None is where the module's tensors are.
        use_buffers: whether buffers are averaged.
        statistics: whether what batch norms have seen belongs to the averages, without being averaged.
    """

    def __init__(self, device: torch.device | None, use_buffers: bool, statistics: bool) -> None:
        self.device = device
        self.use_buffers = use_buffers
        self.statistics = statistics
        self.entries: list[Entry] = []
        self.groups: list[Group] = []
        # How far an exchange is: entries that are done, the values of the one under way, and whether the averages were
        # in the module when it began. One attribute, so that a Ctrl-C finds either the former or the next one.
        self._at: tuple[int, tuple[Tensor, Tensor] | None, bool] = (0, None, False)
        self._mark: list[int] = []

    @torch.no_grad()
    def gather(self, module: nn.Module, known: Mapping[str, Tensor] | None = None) -> None:
        """Look which tensors the module has. One that is new begins with its live value; one that is gone is dropped.

        Args:
            module: the live weights are in it.
            known: averages by the names of state_dict, which go before live values.

        Raises:
            CheckpointError: one of them has another shape than the module's.
        """
        self.settle()
        kept = {name: entry.average for entry in self.entries for name in entry.names}
        entries: dict[int, Entry] = {}
        for name, slot, is_statistic in _tensors(module, self.use_buffers, self.statistics):
            live = slot.tensor()
            if id(live) in entries:
                entries[id(live)].names.append(name)
                continue
            average = kept.get(name)
            if average is None or average.shape != live.shape:
                average = self._taken_over(name, known, live)
            entries[id(live)] = Entry([name], slot, self._fitting(average, live), is_statistic)
        self.entries = list(entries.values())
        self.groups = _grouped(one for one in self.entries if not one.is_statistic)

    def _taken_over(self, name: str, known: Mapping[str, Tensor] | None, live: Tensor) -> Tensor:
        if known is None or name not in known:
            return live.detach().to(self.device or live.device, copy=True)
        if known[name].shape != live.shape:
            raise CheckpointError(
                f"The checkpoint's average of {name} has the shape {tuple(known[name].shape)}, and the module's tensor "
                f"has {tuple(live.shape)}. Build the module as it was when the checkpoint was saved, or resume without "
                "the callback that averages."
            )
        return known[name].detach().to(self.device or live.device, live.dtype, copy=True)

    def _fitting(self, average: Tensor, live: Tensor) -> Tensor:
        return average.to(self.device or live.device, live.dtype)

    # averaging

    @torch.no_grad()
    def update(self, module: nn.Module, average: Average, n_averaged: int) -> None:
        """Average the module's tensors in, one call for each group."""
        try:
            live = [group.live() for group in self.groups]
        except KeyError:  # a tensor is not where it was any more
            self.gather(module)
            live = [group.live() for group in self.groups]
        for group, tensors in zip(self.groups, live, strict=True):
            group.update(average, tensors, n_averaged)

    def settle(self) -> None:
        """Finish what is under way: averages whose live values were on their way, or an exchange that was cut short."""
        for group in self.groups:
            group.settle()
        if self._at[:2] != (0, None):
            self._exchange()

    # in and out of the module

    @property
    def inside(self) -> bool:
        """Whether the averages are in the module, and the live tensors here."""
        return self._at[2]

    def put_in(self) -> None:
        """Exchange the live tensors for the averages; nothing if they are in the module already."""
        self.settle()
        if not self.inside:
            self._exchange()

    def take_out(self) -> None:
        """Exchange the averages for the live tensors; nothing if these are in the module already."""
        self.settle()
        if self.inside:
            self._exchange()

    @torch.no_grad()
    def _exchange(self) -> None:
        """Exchange what is left to exchange. Values are moved, never computed with: both stay as they are, bit for bit.

        A Ctrl-C may come between any two lines. What is under way is done again then, from copies.
        """
        index, values, inside = self._at
        while index < len(self.entries):
            entry = self.entries[index]
            live = entry.slot.tensor()
            if values is None:
                values = entry.average.clone(), live.detach().clone()
                self._at = index, values, inside
            entry.average.copy_(values[1])
            live.copy_(values[0])
            index, values = index + 1, None
            self._at = index, values, inside
        self._at = 0, None, not inside

    # the outside

    def under_names(self, *, statistics: bool) -> dict[str, Tensor]:
        """What is kept here, by all names of state_dict: the averages, or, while these are inside, the live tensors.

        Args:
            statistics: whether those of batch norms are among them.
        """
        self.settle()
        return {
            name: entry.average
            for entry in self.entries
            if statistics or not entry.is_statistic
            for name in entry.names
        }

    def mark(self) -> None:
        """Take note of what is in the module, for `marked`."""
        self._mark = self._sums()

    @property
    def marked(self) -> bool:
        """Whether the module has the same weights as when it was marked, on whichever device."""
        return self._mark == self._sums()

    @torch.no_grad()
    def _sums(self) -> list[int]:
        # Sums of bytes are the same on every device, which sums of floats are not.
        flat = (entry.slot.tensor().detach().contiguous().reshape(-1) for entry in self.entries)
        return [int(one.view(torch.uint8).sum(dtype=torch.int64)) for one in flat]


def has_batch_norm(module: nn.Module) -> bool:
    """Whether a part of a module keeps statistics of its inputs."""
    return any(isinstance(part, _BatchNorm) and part.track_running_stats for part in module.modules())


def _tensors(module: nn.Module, use_buffers: bool, statistics: bool) -> Iterator[tuple[str, Slot, bool]]:
    """The name, the place and the kind of each tensor that has an average; a tied one comes once for each name."""
    saved = plain_names(module.state_dict())
    for path, part in module.named_modules(remove_duplicate=False):
        parameters: dict[str, Any] = vars(part)["_parameters"]
        buffers: dict[str, Any] = vars(part)["_buffers"]
        for table in (parameters, buffers):
            for own, tensor in table.items():
                if tensor is None or is_lazy(tensor):
                    continue  # without numbers yet; it joins when it has some
                name = next(iter(plain_names({f"{path}.{own}" if path else own: None})))
                is_statistic = statistics and isinstance(part, _BatchNorm) and own in STATISTICS
                if table is buffers and not is_statistic:
                    numbers = tensor.is_floating_point() or tensor.is_complex()
                    if not use_buffers or not numbers or name not in saved:
                        continue
                yield name, Slot(table, own), is_statistic


def _grouped(entries: Iterable[Entry]) -> list[Group]:
    groups: dict[tuple[torch.device, torch.dtype], Group] = {}
    for entry in entries:
        live = entry.slot.tensor()
        group = groups.setdefault((live.device, live.dtype), Group())
        group.slots.append(entry.slot)
        group.averages.append(entry.average)
        if live.device != entry.average.device:
            _give_landing(group, live, entry.average)
    return list(groups.values())


def _give_landing(group: Group, live: Tensor, average: Tensor) -> None:
    pinned = live.device.type == "cuda" and average.device.type == "cpu"
    if group.landing is None:
        group.landing = []
        group.arrived = torch.cuda.Event() if live.device.type == "cuda" else None
    group.landing.append(torch.empty_like(average, pin_memory=pinned))
