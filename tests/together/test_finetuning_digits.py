"""What was learned from one half of the digits helps with the other half: transfer, in numbers."""

import copy
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.callbacks import BackboneFinetuning, GradualUnfreezing

SHOWN = 10
"""Scans of each new digit that there are to learn from."""


class Reader(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
        self.head = nn.Linear(32, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([one for one in self.parameters() if one.requires_grad], lr=0.01)


def fit(module: Reader, images: Tensor, digits: Tensor, epochs: int, callbacks: Callback | None = None) -> None:
    trainer = Trainer(
        max_epochs=epochs, callbacks=callbacks, accelerator="cpu", registered_callbacks=False, logger=False
    )
    torch.manual_seed(5)
    trainer.fit(module, DataLoader(TensorDataset(images, digits), batch_size=25, shuffle=True, drop_last=True))


def accuracy(module: Reader, images: Tensor, digits: Tensor) -> float:
    module.eval()
    with torch.no_grad():
        return float((module(images).argmax(dim=1) == digits).float().mean())


@pytest.fixture(scope="module")
def halves() -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Scans of 0 to 4 with their digits, and those of 5 to 9 with their digits minus 5."""
    every, known = load_digits(return_X_y=True)
    images, digits = torch.tensor(every, dtype=torch.float32) / 16, torch.tensor(known)
    low = digits < 5
    return (images[low], digits[low]), (images[~low], digits[~low] - 5)


def test_what_was_learned_from_half_of_the_digits_helps_with_the_others(halves: Any) -> None:
    (images, digits), (new_images, new_digits) = halves
    torch.manual_seed(1)
    pretrained = Reader()
    anew = copy.deepcopy(pretrained)
    fit(pretrained, images, digits, epochs=8)
    shown = torch.cat([(new_digits == digit).nonzero()[:SHOWN, 0] for digit in range(5)])
    hidden = torch.ones(len(new_digits), dtype=torch.bool)
    hidden[shown] = False
    few, rest = (new_images[shown], new_digits[shown]), (new_images[hidden], new_digits[hidden])
    head_alone, finetuned, gradually = (copy.deepcopy(pretrained) for _ in range(3))
    weights = {name: one.clone() for name, one in pretrained.backbone.state_dict().items()}

    fit(anew, *few, epochs=12)
    fit(head_alone, *few, epochs=12, callbacks=GradualUnfreezing({99: "backbone"}))
    fit(finetuned, *few, epochs=12, callbacks=BackboneFinetuning(6, train_bn=False))
    fit(gradually, *few, epochs=12, callbacks=GradualUnfreezing({4: "backbone.3", 8: "backbone.[01]"}))

    found = {
        name: accuracy(module, *rest)
        for name, module in {
            "anew": anew,
            "head": head_alone,
            "backbone too": finetuned,
            "gradually": gradually,
        }.items()
    }
    print({name: round(value, 3) for name, value in found.items()})
    assert all(torch.equal(one, weights[name]) for name, one in head_alone.backbone.state_dict().items())
    assert not torch.equal(finetuned.get_parameter("backbone.0.weight"), weights["0.weight"])
    assert found["backbone too"] > found["head"]
    assert found["gradually"] > found["head"]
