"""`AnnealedRates`: the learning rates of `torch.optim.swa_utils.SWALR`, without touching an optimizer."""

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch.optim.swa_utils import SWALR


class AnnealedRates:
    """From the rates of now to others, along a cosine or a line, and constant after that.

    Args:
        begin: the rates of now, one for each parameter group.
        end: the rates to reach, as many.
        length: after how many steps they are reached.
        strategy: "cos" or "linear".
    """

    def __init__(
        self, begin: Sequence[float], end: Sequence[float], length: int, strategy: Literal["cos", "linear"]
    ) -> None:
        # SWALR computes each rate from the one before, so a rate that is to be the same bit for bit is computed by it:
        # on an optimizer of its own, whose parameters nobody uses.
        groups = [{"params": [torch.nn.Parameter(torch.zeros(0))], "lr": rate} for rate in begin]
        self._optimizer = torch.optim.SGD(groups, lr=1.0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._scheduler = SWALR(self._optimizer, list(end), length, strategy)  # type: ignore[arg-type]
        self._optimizer.step()
        self._length = length
        self._steps = 0

    def after(self, steps: int) -> list[float]:
        """The rates after so many steps; they must not become fewer from call to call."""
        while self._steps < min(steps, self._length + 1):
            self._scheduler.step()
            self._steps += 1
        return [float(group["lr"]) for group in self._optimizer.param_groups]
