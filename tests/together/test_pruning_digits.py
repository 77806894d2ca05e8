"""The digits are read as well with a fifth of the weights."""

from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.callbacks import ModelPruning
from hookloop_callbacks_pruning import SparsityRamp

TRAINING = 1297


class Reader(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.layers = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def fit(images: Tensor, digits: Tensor, callbacks: Callback | None = None) -> Reader:
    module = Reader()
    trainer = Trainer(max_epochs=15, callbacks=callbacks, accelerator="cpu", registered_callbacks=False, logger=False)
    torch.manual_seed(5)
    trainer.fit(module, DataLoader(TensorDataset(images, digits), batch_size=32, shuffle=True))
    return module


def accuracy(module: Reader, images: Tensor, digits: Tensor) -> float:
    with torch.no_grad():
        return float((module.layers(images).argmax(dim=1) == digits).float().mean())


def test_at_80_percent_sparsity_digits_are_read_within_2_points_of_dense() -> None:
    every, known = load_digits(return_X_y=True)
    images, digits = torch.tensor(every, dtype=torch.float32) / 16, torch.tensor(known)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(2))
    seen, hidden = order[:TRAINING], order[TRAINING:]
    ramp = SparsityRamp(0.8, end=9)
    pruning = ModelPruning(
        "l1_unstructured", parameter_names=["weight"], amount=ramp, use_lottery_ticket_hypothesis=False
    )

    dense = fit(images[seen], digits[seen])
    sparse = fit(images[seen], digits[seen], pruning)

    weights = [one for name, one in sparse.named_parameters() if name.endswith("weight")]
    count = sum(one.numel() for one in weights)
    assert sum(int((one == 0).sum()) for one in weights) == round(0.8 * count)
    found = accuracy(dense, images[hidden], digits[hidden]), accuracy(sparse, images[hidden], digits[hidden])
    print(f"dense {found[0]:.3f}, at 80% sparsity {found[1]:.3f}")
    assert found[0] > 0.95
    assert found[1] > found[0] - 0.02
