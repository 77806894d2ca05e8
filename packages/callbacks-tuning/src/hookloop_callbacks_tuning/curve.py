"""`LearningRateCurve`: the losses of a range test by learning rate, and which rate they speak for."""

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Literal, TypeAlias

import torch

from hookloop.errors import MisconfigurationError

Mode: TypeAlias = Literal["exponential", "linear"]
Method: TypeAlias = Literal["steepest", "valley", "minimum"]
MODES, METHODS = ("exponential", "linear"), ("steepest", "valley", "minimum")


class LearningRateCurve:
    """What a `LearningRateFinder` has found.

    Args:
        mode: how the rates are spaced: "exponential" or "linear".
        lrs: the rates, ascending.
        losses: the smoothed loss of the step that was taken with each.
        method: what `suggestion` does if nothing else is asked for.

    Attributes:
        results: {"lr": [...], "loss": [...]}, of equal lengths.
    """

    def __init__(self, mode: Mode, lrs: Sequence[float], losses: Sequence[float], method: Method = "steepest") -> None:
        self.mode = mode
        self.method = method
        self.results: dict[str, list[float]] = {"lr": list(lrs), "loss": list(losses)}

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1, method: Method | None = None) -> float | None:
        """A rate to begin training with.

        - "steepest": where the loss falls fastest, along the axis on which the rates are evenly spaced.
        - "valley": in the middle of the longest stretch along which the loss falls (fastai's `valley`).
        - "minimum": a tenth of the rate with the lowest loss (Smith 2015).

        Args:
            skip_begin: points at the beginning that are left out, where the mean loss is not settled yet.
            skip_end: points at the end that are left out, where it may diverge.
            method: None takes the finder's.

        Returns:
            The rate; None if fewer than two points with a finite loss are left.

        Raises:
            MisconfigurationError: the method is none of these, or a number of points is negative.
        """
        index = self._index(skip_begin, skip_end, method)
        if index is None:
            return None
        rate = self.results["lr"][index]
        return rate / 10 if (method or self.method) == "minimum" else rate

    def _index(self, skip_begin: int, skip_end: int, method: Method | None) -> int | None:
        method = check_method(method or self.method)
        for name, value in (("skip_begin", skip_begin), ("skip_end", skip_end)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise MisconfigurationError(f"suggestion({name}={value!r}) must be a whole number of at least 0.")
        lrs, losses = self.results["lr"], self.results["loss"]
        points = [at for at in range(skip_begin, len(losses) - skip_end) if math.isfinite(losses[at])]
        if len(points) < 2:
            return None
        values = torch.tensor([losses[at] for at in points], dtype=torch.float64)
        if method == "minimum":
            return points[int(values.argmin())]
        if method == "valley":
            return points[_middle_of_longest_fall(values.tolist())]
        axis = [math.log(lrs[at]) if self.mode == "exponential" else lrs[at] for at in points]
        slopes = torch.gradient(values, spacing=(torch.tensor(axis, dtype=torch.float64),))[0]
        return points[int(slopes.argmin())]

    def plot(self, suggest: bool = False, show: bool = False, ax: Any = None) -> Any:
        """Draw loss by rate with matplotlib (`pip install "hookloop-callbacks-tuning[plot]"`).

        Args:
            suggest: mark the suggestion.
            show: open a window, or show it in the notebook.
            ax: axes to draw into; None makes a figure.

        Returns:
            matplotlib's figure.

        Raises:
            MisconfigurationError: matplotlib cannot be imported.
        """
        try:
            pyplot: Any = import_module("matplotlib.pyplot")
        except ImportError as error:
            raise MisconfigurationError(
                f"plot() needs matplotlib, which cannot be imported ({error}). Run `pip install "
                '"hookloop-callbacks-tuning[plot]"`, or draw .results yourself.'
            ) from error
        figure = ax.figure if ax is not None else None
        if ax is None:
            figure, ax = pyplot.subplots()
        ax.plot(self.results["lr"], self.results["loss"])
        if self.mode == "exponential":
            ax.set_xscale("log")
        ax.set_xlabel("Learning rate")
        ax.set_ylabel("Loss")
        index = self._index(10, 1, None) if suggest else None
        if index is not None:
            ax.plot(self.results["lr"][index], self.results["loss"][index], "o", color="red", markersize=10)
        if show:
            pyplot.show()
        return figure


def check_method(method: Any) -> Method:
    """The method, if it is one.

    Raises:
        MisconfigurationError: it is none.
    """
    if method not in METHODS:
        raise MisconfigurationError(f"method={method!r} must be one of {', '.join(map(repr, METHODS))}.")
    known: Method = method
    return known


def _middle_of_longest_fall(losses: Sequence[float]) -> int:
    """The middle of the longest subsequence along which losses fall, from its first to its last point."""
    lengths, starts = [1] * len(losses), list(range(len(losses)))
    for at, loss in enumerate(losses):
        for before in range(at):
            if losses[before] > loss and lengths[before] + 1 > lengths[at]:
                lengths[at], starts[at] = lengths[before] + 1, starts[before]
    end = max(range(len(losses)), key=lengths.__getitem__)
    return starts[end] + (end - starts[end]) // 2
