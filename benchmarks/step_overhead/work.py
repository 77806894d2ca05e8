"""The work that every subject does: the same data, the same model, the same loss."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from .probe import STRETCH, Probe

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
        self._probe = probe
        self._start = WARM_UP * BATCH_SIZE
        self._stop = (WARM_UP + steps) * BATCH_SIZE
        self._end = self._stop + BATCH_SIZE

    def __len__(self) -> int:
        return self._end

    def __iter__(self) -> Iterator[int]:
        parts: list[Iterable[int]] = [range(self._start), self._do(self._probe.start)]
        begin = self._start
        if self._probe.takes_laps:
            for end in range(begin + STRETCH * BATCH_SIZE, self._stop + 1, STRETCH * BATCH_SIZE):
                parts += [range(begin, end), self._do(self._probe.lap)]
                begin = end
        parts += [range(begin, self._stop), self._do(self._probe.stop), range(self._stop, self._end)]
        return chain(*parts)

    def _do(self, action: Any) -> Iterator[int]:
        action()
        return
        yield


def loader(probe: Probe, steps: int) -> DataLoader[tuple[Tensor, ...]]:
    """Batches in memory.

    Args:
        probe: started when the batch after WARM_UP steps is asked for, and stopped `steps` batches later. So it sees
            whole steps of the settled loop alone, whoever runs it. One batch follows, so none of them is the last.
        steps: how many steps to probe.
    """
    samples = (WARM_UP + steps + 1) * BATCH_SIZE
    dataset = TensorDataset(torch.randn(samples, FEATURES), torch.randint(0, CLASSES, (samples,)))
    return DataLoader(dataset, batch_size=BATCH_SIZE, sampler=_ProbedSampler(probe, steps))
