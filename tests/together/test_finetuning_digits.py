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

SHOWN = 100
"""Scans of the new digits that there are to learn from."""


class Reader(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Unflatten(1, (1, 8, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        self.head = nn.Linear(512, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([one for one in self.parameters() if one.requires_grad], lr=0.02, momentum=0.9)


def fit(module: Reader, images: Tensor, digits: Tensor, callbacks: Callback | None = None) -> None:
    trainer = Trainer(max_epochs=4, callbacks=callbacks, accelerator="cpu", registered_callbacks=False, logger=False)
    torch.manual_seed(5)
    trainer.fit(module, DataLoader(TensorDataset(images, digits), batch_size=32, shuffle=True, drop_last=True))


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
    few, rest = (new_images[:SHOWN], new_digits[:SHOWN]), (new_images[SHOWN:], new_digits[SHOWN:])
    torch.manual_seed(1)
    anew = Reader()
    pretrained = copy.deepcopy(anew)
    fit(pretrained, images, digits)
    pretrained.head = copy.deepcopy(anew.head)
    head_alone, finetuned, gradually = (copy.deepcopy(pretrained) for _ in range(3))

    fit(anew, *few)
    fit(head_alone, *few, GradualUnfreezing({99: "backbone"}))
    fit(finetuned, *few, BackboneFinetuning(2))
    fit(gradually, *few, GradualUnfreezing({1: "backbone.3", 2: "backbone.1"}))

    modules = {"anew": anew, "the head alone": head_alone, "the backbone too": finetuned, "gradually": gradually}
    found = {name: accuracy(module, *rest) for name, module in modules.items()}
    print({name: round(value, 3) for name, value in found.items()})
    for name in ("the head alone", "the backbone too", "gradually"):
        assert found[name] > found["anew"] + 0.15
    weights = pretrained.backbone.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in head_alone.backbone.state_dict().items())
    assert not torch.equal(finetuned.get_parameter("backbone.1.weight"), weights["1.weight"])
    assert not torch.equal(gradually.get_parameter("backbone.1.weight"), weights["1.weight"])
