"""How an average is taken: running means, exponential ones, and functions in the form of torch's AveragedModel."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from hookloop_callbacks_swa.weights import Average

AvgFn: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]
MultiAvgFn: TypeAlias = Callable[[list[Tensor], list[Tensor], Any], None]


def running_mean(averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
    """The mean of all values so far, as `torch.optim.swa_utils.get_swa_multi_avg_fn` computes it."""
    torch._foreach_lerp_(averages, live, 1 / (n_averaged + 1))


def one_by_one(avg_fn: AvgFn) -> Average:
    """An average of one tensor, in the form that AveragedModel(avg_fn=...) takes."""

    def average(averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
        for mean, value in zip(averages, live, strict=True):
            mean.copy_(avg_fn(mean, value.detach(), torch.tensor(n_averaged, device=mean.device)))

    return average


def all_at_once(multi_avg_fn: MultiAvgFn) -> Average:
    """An average of tensors of one device and dtype, in the form that AveragedModel(multi_avg_fn=...) takes."""

    def average(averages: list[Tensor], live: list[Tensor], n_averaged: int) -> None:
        values = [value.detach() for value in live]
        multi_avg_fn(averages, values, torch.tensor(n_averaged, device=averages[0].device))

    return average


def decay_of_half_life(half_life: float, steps: int) -> float:
    """The decay of an update every `steps` optimizer steps, with which a value counts half after `half_life` steps."""
    return float(0.5 ** (steps / half_life))


def warmed_up(decay: float, warmup: float, n_averaged: int) -> float:
    """The decay after so many updates: the smaller one of `decay` and (1 + n) / (1 + n + warmup).

    With warmup=9 it is the rule of tf.train.ExponentialMovingAverage(num_updates=n).
    """
    return min(decay, (1 + n_averaged) / (1 + n_averaged + warmup))
