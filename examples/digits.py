"""Learn to read handwritten digits: 1,797 scans of 8 x 8 pixels that come with scikit-learn. Takes seconds on a core.

No callback is named here. The Trainer finds those that are installed by their entry points: of hookloop's own packages,
hookloop-callbacks-progress shows the progress, and hookloop-callbacks-checkpoint saves the model. All files go to the
folder runs/digits in the working directory.
"""

import time
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

from hookloop import LightningModule, Trainer, seed_everything

FOLDER = Path("runs", "digits")
SEED = 1
EPOCHS = 12
BATCH_SIZE = 32


class DigitReader(LightningModule):
    """A small convolutional network. Input: float32 (batch, 1, 8, 8) in 0..1; output: logits (batch, 10)."""

    def __init__(self, channels: int = 16, learning_rate: float = 0.01) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * channels, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(0.25),
            nn.Linear(2 * channels * 4 * 4, 10),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layers(images)
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, digits = batch
        loss = functional.cross_entropy(self(images), digits)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate("val", batch)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate("test", batch)

    def evaluate(self, name: str, batch: tuple[Tensor, Tensor]) -> None:
        images, digits = batch
        logits = self(images)
        self.log(f"{name}_loss", functional.cross_entropy(logits, digits))
        self.log(f"{name}_acc", (logits.argmax(dim=1) == digits).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.learning_rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def load_data() -> tuple[DataLoader[Any], DataLoader[Any], DataLoader[Any]]:
    """Loaders for training, validation and test; which scan is in which does not change from run to run."""
    images, digits = load_digits(return_X_y=True)
    scans = TensorDataset(torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16, torch.tensor(digits))
    training, validation, test = random_split(scans, [1197, 240, 360], torch.Generator().manual_seed(SEED))
    return DataLoader(training, BATCH_SIZE, shuffle=True), DataLoader(validation, 240), DataLoader(test, 360)


def main() -> None:
    started = time.perf_counter()
    seed_everything(SEED)
    training, validation, test = load_data()
    trainer = Trainer(max_epochs=EPOCHS, default_root_dir=FOLDER, log_every_n_steps=10)

    trainer.fit(DigitReader(), training, validation)
    [results] = trainer.test(dataloaders=test, ckpt_path="best", verbose=False)

    print("\nFound by entry points, and by them alone:")
    trainer.explain()
    print(f"""
test accuracy    {results["test_acc"]:.4f}
time             {time.perf_counter() - started:.1f} s
best checkpoint  {from_here(trainer.ckpt_path)}
logs             {from_here(trainer.log_dir)}""")


def from_here(path: str | None) -> Path:
    assert path is not None
    return Path(path).relative_to(Path.cwd())


if __name__ == "__main__":
    main()
