"""Averaged weights next to the last ones, over ten seeds: `python examples/averaging.py`. It prints a table.

Problems with a constant learning rate: handwritten digits (cross-entropy of those that were not trained on), the same
with a fifth of the training labels drawn at random, and a noisy quadratic whose optimum is known (mean squared distance
to it). One seed decides the first weights, the split, the noise and the order of samples; the live weights are the same
in each run of a seed, whatever is averaged.

Needs hookloop-callbacks-swa and scikit-learn.
"""

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer, seed_everything
from hookloop.callbacks import EMAWeightAveraging, StochasticWeightAveraging

SEEDS = 10

AVERAGES: dict[str, Callable[[], Callback]] = {
    "EMA": lambda: EMAWeightAveraging(decay=0.98),
    "SWA": lambda: StochasticWeightAveraging(swa_epoch_start=0.5),
}


class Digits(LightningModule):
    """Reads 8 x 8 images."""

    title = "digits"
    epochs = 20
    random = 0.0  # the part of the labels that are drawn anew

    def __init__(self) -> None:
        super().__init__()
        images, digits = load_digits(return_X_y=True)
        x, y = torch.tensor(images, dtype=torch.float32) / 16, torch.tensor(digits)
        order = torch.randperm(len(x))
        self.seen, self.hidden = (TensorDataset(x[part], y[part]) for part in order.split(1297))
        labels = self.seen.tensors[1]
        labels[: int(self.random * len(labels))] = torch.randint(10, (int(self.random * len(labels)),))
        self.layers = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.2)

    @torch.no_grad()
    def score(self) -> float:
        x, y = self.hidden.tensors
        return float(nn.functional.cross_entropy(self.layers(x), y))


class RandomLabels(Digits):
    """Is taught a fifth of them at random."""

    title = "digits, a fifth of the labels random"
    random = 0.2


class Quadratic(LightningModule):
    """Learns where the mean of noisy samples is: at 3, in 100 dimensions."""

    title = "noisy quadratic"
    epochs = 10

    def __init__(self) -> None:
        super().__init__()
        self.seen = TensorDataset(3 + torch.randn(800, 100))
        self.weight = nn.Parameter(torch.zeros(100))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss: Tensor = ((self.weight - batch[0]) ** 2).sum(1).mean()
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.2)

    @torch.no_grad()
    def score(self) -> float:
        return float(((self.weight - 3) ** 2).mean())


PROBLEMS: tuple[type[Digits] | type[Quadratic], ...] = (Digits, RandomLabels, Quadratic)


def fit(problem: type[Digits] | type[Quadratic], seed: int, callback: Callback | None) -> float:
    """Train, and score what is in the module at the end."""
    seed_everything(seed, verbose=False)
    module = problem()
    trainer = Trainer(
        max_epochs=module.epochs, callbacks=callback, accelerator="cpu", registered_callbacks=False, logger=False
    )
    trainer.fit(module, DataLoader(module.seen, batch_size=16, shuffle=True))
    return module.score()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Averaged weights next to the last ones.")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many (default {SEEDS})")
    seeds = range(parser.parse_args(arguments).seeds)
    print(
        f"| over {len(seeds)} seeds: median (lowest to highest) | last weights | EMA | SWA | EMA better | SWA better |"
    )
    print("|---|---|---|---|---|---|")
    for problem in PROBLEMS:
        last = [fit(problem, seed, None) for seed in seeds]
        averaged = {name: [fit(problem, seed, make()) for seed in seeds] for name, make in AVERAGES.items()}
        cells = [_spread(values) for values in (last, *averaged.values())]
        better = [f"{sum(a < b for a, b in zip(values, last, strict=True))}" for values in averaged.values()]
        print(f"| {problem.title} | {' | '.join([*cells, *better])} |")


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.4f} ({min(values):.4f} to {max(values):.4f})"


if __name__ == "__main__":
    main()
