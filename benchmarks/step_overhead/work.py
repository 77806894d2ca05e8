"""The work that every subject does: the same data, the same model, the same loss."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from .probe import SETTLING, STRETCH, Probe

FEATURES = 32
CLASSES = 2
BATCH_SIZE = 4

WARM_UP = 40
"""Steps before the probe starts. Divisible by the accumulation window."""


class Work(nn.Module):
    """The model with its steps, under the names that Lightning gave them. Every subject trains this."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, CLASSES)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.layer(inputs), targets)

    def validation_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        return nn.functional.cross_entropy(self.layer(inputs), targets)

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        scores: Tensor = self.layer(batch[0])
        return scores

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class _ProbedSampler(Sampler[int]):
    # The parts between which the probe starts and stops are ranges, which are iterated without a call of Python, as
    # with torch's own sequential sampler.
    def __init__(self, probe: Probe, steps: int) -> None:
        pieces = [(SETTLING, STRETCH)] * (steps // STRETCH) if probe.in_stretches else [(0, steps)]
        self._probe = probe
        self._steps = [(WARM_UP, 0), *pieces]
        self._end = BATCH_SIZE * (sum(map(sum, self._steps)) + 1)

    def __len__(self) -> int:
        return self._end

    def __iter__(self) -> Iterator[int]:
        parts: list[Iterable[int]] = []
        begin = 0
        for untimed, timed in self._steps:
            start, stop = begin + untimed * BATCH_SIZE, begin + (untimed + timed) * BATCH_SIZE
            parts.append(range(begin, start))
            if timed:
                parts += [self._do(self._probe.start), range(start, stop), self._do(self._probe.stop)]
            begin = stop
        return chain(*parts, range(begin, self._end))

    def _do(self, action: Any) -> Iterator[int]:
        action()
        return
        yield


def loader(probe: Probe, steps: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches in memory.

    Args:
        probe: started when a batch after WARM_UP steps is asked for, and stopped when a later one is. So it sees
            whole steps of the settled loop alone, whoever runs it. One batch follows, so none of them is the last.
        steps: how many steps to probe, in one piece or in stretches.
    """
    sampler = _ProbedSampler(probe, steps)
    dataset = TensorDataset(torch.randn(len(sampler), FEATURES), torch.randint(0, CLASSES, (len(sampler),)))
    return DataLoader(dataset, batch_size=BATCH_SIZE, sampler=sampler)
