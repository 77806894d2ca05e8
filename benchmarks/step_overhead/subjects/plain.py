"""The loop that a user writes who wants nothing but to train."""

from typing import Any

import torch
from torch import nn

from ..column import Column
from ..work import Work
from .subject import Subject


class Plain(Subject):
    name = "plain loop"

    def train(self, column: Column, loader: Any) -> None:
        module = Work()
        optimizer = module.configure_optimizers()
        if column.accumulate == 1 and column.clip is None:
            for batch_idx, batch in enumerate(loader):
                optimizer.zero_grad()
                loss = module.training_step(batch, batch_idx)
                loss.backward()
                optimizer.step()
            return
        parameters = list(module.parameters())
        for batch_idx, batch in enumerate(loader):
            if batch_idx % column.accumulate == 0:
                optimizer.zero_grad()
            loss = module.training_step(batch, batch_idx) / column.accumulate
            loss.backward()
            if (batch_idx + 1) % column.accumulate == 0:
                if column.clip is not None:
                    nn.utils.clip_grad_norm_(parameters, column.clip)
                optimizer.step()

    def validate(self, loader: Any) -> None:
        module = Work().eval()
        with torch.no_grad():
            for batch_idx, batch in enumerate(loader):
                module.validation_step(batch, batch_idx)

    def predict(self, loader: Any) -> None:
        module = Work().eval()
        with torch.no_grad():
            for batch_idx, batch in enumerate(loader):
                module.predict_step(batch, batch_idx)


SUBJECT = Plain()
