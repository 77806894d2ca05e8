"""A run that optimizes by hand goes on from a checkpoint as if it had never stopped."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ExponentialLR

from hookloop import LightningModule

from .fitting import BATCHES, Batch, Saves, assert_same_training, loader, loss_of, network, trainer_in


class Turns(LightningModule):
    """Each layer has an optimizer, and the first one's steps twice as often; the rate of the second one falls."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.net = network()

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        first, last = self.optimizers()
        for optimizer in (first, last) if self.trainer.global_step % 3 else (first,):
            with self.toggled_optimizer(optimizer):
                optimizer.zero_grad()
                self.manual_backward(loss_of(self.net, batch))
                optimizer.step()
        if self.trainer.is_last_batch:
            self.lr_schedulers().step()

    def configure_optimizers(self) -> Any:
        first = torch.optim.Adam(self.net[0].parameters(), lr=0.05)
        last = torch.optim.SGD(self.net[2].parameters(), lr=0.05, momentum=0.9)
        return [first, last], [ExponentialLR(last, 0.5)]


@pytest.mark.parametrize("batches", [1, 3, BATCHES, BATCHES + 2])
def test_both_optimizers_go_on_where_they_were(batches: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    whole = trainer_in(tmp_path, Saves("on_train_batch_end", path, n=batches), max_epochs=3)
    whole.fit(Turns(), loader())
    resumed = trainer_in(tmp_path, max_epochs=3)
    resumed.fit(Turns(), loader(), ckpt_path=path)
    assert_same_training(resumed, whole)
    assert resumed.global_step > 3 * BATCHES
