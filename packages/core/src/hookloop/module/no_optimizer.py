"""`NoOptimizer`: what stands where a module has no optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer


class NoOptimizer(Optimizer):
    """What a module gets that asks for its optimizer and has none: no parameters, and nothing happens.

    So training steps by hand run that step what `self.optimizers()` gives, as they do under Lightning.
    """

    def __init__(self) -> None:
        super().__init__([torch.zeros(1)], {})  # torch makes none without parameters
        self.param_groups.clear()

    def step(self, closure: Callable[[], Any] | None = None, **kwargs: Any) -> Any:
        """Run the closure, if one is given, and return what it returned; there is nothing to step."""
        return None if closure is None else torch.enable_grad()(closure)()

    def __repr__(self) -> str:
        return "NoOptimizer()"
