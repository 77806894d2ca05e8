"""PyTorch Ignite: the step is the user's own, its engine runs the loop and the handlers."""

from collections.abc import Callable
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar
from ignite.metrics import Average
from torch import Tensor, nn

from ..column import Column
from ..work import Work
from .subject import Subject


def nothing(engine: Any) -> None: ...


def training_step(module: Work, column: Column) -> Callable[[Any, Any], Tensor]:
    optimizer = module.configure_optimizers()
    parameters = list(module.parameters())
    accumulate, clip = column.accumulate, column.clip

    def step(engine: Any, batch: Any) -> Tensor:
        batch_idx = engine.state.iteration - 1
        optimizer.zero_grad()
        loss = module.training_step(batch, batch_idx)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def accumulating_step(engine: Any, batch: Any) -> Tensor:
        batch_idx = engine.state.iteration - 1
        if batch_idx % accumulate == 0:
            optimizer.zero_grad()
        loss = module.training_step(batch, batch_idx) / accumulate
        loss.backward()
        if (batch_idx + 1) % accumulate == 0:
            if clip is not None:
                nn.utils.clip_grad_norm_(parameters, clip)
            optimizer.step()
        return loss.detach()

    return step if accumulate == 1 and clip is None else accumulating_step


class Ignite(Subject):
    name = "Ignite"

    def supports(self, column: Column) -> bool:
        # It has no callbacks that could be idle: what is attached is called.
        return column.callbacks == 0 or column.hooks

    def train(self, column: Column, loader: Any) -> None:
        engine = Engine(training_step(Work(), column))
        for _ in range(column.callbacks):
            engine.add_event_handler(Events.ITERATION_STARTED, nothing)
            engine.add_event_handler(Events.ITERATION_COMPLETED, nothing)
        if column.log:
            Average().attach(engine, "loss")
        if column.bar:
            ProgressBar().attach(engine)
        engine.run(loader, max_epochs=1)

    def validate(self, loader: Any) -> None:
        module = Work().eval()
        self._evaluate(lambda engine, batch: module.validation_step(batch, engine.state.iteration - 1), loader)

    def predict(self, loader: Any) -> None:
        module = Work().eval()
        self._evaluate(lambda engine, batch: module.predict_step(batch, engine.state.iteration - 1), loader)

    def _evaluate(self, step: Callable[[Any, Any], Tensor], loader: Any) -> None:
        with torch.no_grad():
            Engine(step).run(loader)


SUBJECT = Ignite()
