"""The floor: how little a loop with hooks can cost. It has every hook site of a step, and nothing to be misused."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..column import Column
from ..work import BATCH_SIZE, Work
from .subject import Subject

HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_after_optimizer_step",
    "on_train_batch_end",
)


class Idle:
    """Overrides no hook."""


class Active:
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None: ...

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None: ...


class Logged:
    """The last value of a key, and its sum weighted by batch size."""

    def __init__(self) -> None:
        self.last: Tensor | None = None
        self.total: Tensor | None = None
        self.weight = 0


class LoggingWork(Work):
    def __init__(self) -> None:
        super().__init__()
        # Not a plain attribute of the module: nn.Module's __setattr__ would be paid for at every step.
        self.logged: dict[str, Logged] = {}

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        inputs, targets = batch
        loss = nn.functional.cross_entropy(self.layer(inputs), targets)
        self.log("loss", loss)
        return loss

    def log(self, name: str, value: Tensor) -> None:
        value = value.detach()
        logged = self.logged.get(name)
        if logged is None:
            logged = self.logged[name] = Logged()
            logged.total = torch.zeros((), dtype=torch.float64)
        logged.last = value.clone()
        assert logged.total is not None
        logged.total.add_(value, alpha=BATCH_SIZE)
        logged.weight += BATCH_SIZE


def compile_hook(name: str, callbacks: Sequence[object]) -> tuple[Callable[..., None], ...]:
    return tuple(getattr(callback, name) for callback in callbacks if hasattr(callback, name))


def train(module: Work, loader: Any, callbacks: Sequence[object], accumulate: int, clip: float | None) -> None:
    optimizer = module.configure_optimizers()
    batch_start, before_zero, before_back, after_back, before_step, after_step, batch_end = (
        compile_hook(name, callbacks) for name in HOOKS
    )
    parameters = list(module.parameters())
    filled = 0
    for batch_idx, batch in enumerate(loader):
        for call in batch_start:
            call(batch, batch_idx)
        loss = module.training_step(batch, batch_idx)
        if accumulate > 1:
            loss = loss / accumulate
        if filled == 0:
            for call in before_zero:
                call(optimizer)
            optimizer.zero_grad()
        for call in before_back:
            call(loss)
        loss.backward()
        for call in after_back:
            call()
        filled += 1
        if filled == accumulate:
            for call in before_step:
                call(optimizer)
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
            filled = 0
            for call in after_step:
                call(optimizer)
        outputs = {"loss": loss.detach()}
        for call in batch_end:
            call(outputs, batch, batch_idx)


def evaluate(step: Callable[[Any, int], Any], loader: Any, callbacks: Sequence[object]) -> None:
    batch_start = compile_hook("on_validation_batch_start", callbacks)
    batch_end = compile_hook("on_validation_batch_end", callbacks)
    with torch.no_grad():
        for batch_idx, batch in enumerate(loader):
            for call in batch_start:
                call(batch, batch_idx)
            outputs = step(batch, batch_idx)
            for call in batch_end:
                call(outputs, batch, batch_idx)


class Floor(Subject):
    name = "floor"

    def supports(self, column: Column) -> bool:
        return not column.bar

    def train(self, column: Column, loader: Any) -> None:
        callback = Active if column.hooks else Idle
        module = LoggingWork() if column.log else Work()
        train(module, loader, [callback() for _ in range(column.callbacks)], column.accumulate, column.clip)

    def validate(self, loader: Any) -> None:
        evaluate(Work().eval().validation_step, loader, ())

    def predict(self, loader: Any) -> None:
        evaluate(Work().eval().predict_step, loader, ())


SUBJECT = Floor()
