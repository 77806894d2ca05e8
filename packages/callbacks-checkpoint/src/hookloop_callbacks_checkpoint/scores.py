"""Scores as callers see them: tensors without dimensions, as Lightning's users know them."""

import math

import torch
from torch import Tensor


def as_tensor(score: float) -> Tensor:
    """A score as a tensor on the CPU: float32, which metrics most often are, or float64 where that would round it."""
    single = torch.tensor(score, dtype=torch.float32)
    return single if math.isnan(score) or single.item() == score else torch.tensor(score, dtype=torch.float64)
