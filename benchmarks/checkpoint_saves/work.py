"""The work: layers of 1024 x 1024, Adam, and batches of random numbers, so that a state has a known size."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

WIDTH = 1024
BATCH_SIZE = 32


@dataclass(frozen=True)
class Size:
    """How large a model is.

    Attributes:
        name: heads its table.
        layers: of WIDTH x WIDTH weights, each with a bias.
    """

    name: str
    layers: int

    @property
    def parameters(self) -> int:
        return self.layers * (WIDTH * WIDTH + WIDTH)

    @property
    def megabytes(self) -> float:
        """What a checkpoint has of it, with Adam's two averages, in float32."""
        return 3 * 4 * self.parameters / 1e6


SIZES = {"25M": Size("25M", 24), "100M": Size("100M", 96)}


class Work:
    """What the module of each library inherits, beside its library's LightningModule."""

    layers: nn.Module

    def build(self, size: Size) -> None:
        self.layers = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(size.layers)))

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        result: Tensor = self.layers(batch[0])
        return result.pow(2).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.layers.parameters(), lr=1e-4)


class Batches(IterableDataset[list[Tensor]]):
    """The same batch again and again.

    Args:
        steps: how often.
    """

    def __init__(self, steps: int) -> None:
        self._batch = [torch.randn(BATCH_SIZE, WIDTH)]
        self._steps = steps

    def __iter__(self) -> Iterator[list[Tensor]]:
        return (self._batch for _ in range(self._steps))
