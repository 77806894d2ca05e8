"""The job that is killed: everything that a run may have to remember, in a few seconds.

It is written as a user would write it. `python -m crash.job FOLDER` starts it, and starts it again.
"""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hookloop import Callback, LightningModule, Order, Trainer, seed_everything
from hookloop.view import TrainerView
from hookloop_callbacks_checkpoint import ModelCheckpoint

SAMPLES, BATCH, EPOCHS = 80, 4, 3

Tell = Callable[[str], None]


class Augmented(Dataset[tuple[Tensor, Tensor]]):
    """Samples that are another bit of noise away each time, drawn in the workers."""

    def __init__(self, size: int) -> None:
        generator = torch.Generator().manual_seed(3)
        self.x = torch.randn(size, 8, generator=generator)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x = self.x[index]
        return x + 0.1 * torch.randn(8), x.pow(2).sum().reshape(1)


class Regression(LightningModule):
    """A network with dropout and batch norm; Adam with a learning rate that changes with every step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(8, 64),
            nn.BatchNorm1d(64),
            nn.ReLU(),
            nn.Dropout(0.3),
            nn.Linear(64, 64),
            nn.ReLU(),
            nn.Linear(64, 1),
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.mse_loss(self.net(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class Tells(Callback):
    """Tells whoever listens how far the job is; where training begins, what was found to go on with."""

    order = Order.FIRST

    def __init__(self, tell: Tell) -> None:
        self.tell = tell

    def setup(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self.tell(f"from {trainer.ckpt_path or '-'}")

    def on_train_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.tell(f"training {trainer.global_step} {trainer.current_epoch} {trainer.batch_idx}")

    def on_train_batch_end(self, trainer: TrainerView, pl_module: LightningModule, *args: Any) -> None:
        weights = b"".join(weight.numpy().tobytes() for weight in pl_module.state_dict().values())
        digest = hashlib.sha256(weights).hexdigest()[:16]
        self.tell(f"batch {trainer.global_step} {trainer.current_epoch} {trainer.batch_idx} {digest}")

    def on_validation_start(self, trainer: TrainerView, pl_module: LightningModule) -> None:
        self.tell(f"validation {trainer.global_step}")

    def on_save_checkpoint(self, trainer: TrainerView, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self.tell(f"saving {trainer.global_step}")

    def on_checkpoint_saved(self, trainer: TrainerView, pl_module: LightningModule, path: str) -> None:
        self.tell(f"saved {trainer.global_step} {path}")

    def on_preemption(self, trainer: TrainerView, pl_module: LightningModule, signum: int) -> None:
        self.tell(f"preempted {trainer.global_step} {trainer.current_epoch} {trainer.batch_idx}")

    def teardown(self, trainer: TrainerView, pl_module: LightningModule, stage: str) -> None:
        self.tell("unwound")


def train(folder: Path, tell: Tell = lambda event: None) -> None:
    """Train, from the newest checkpoint in the folder if there is one, and write final.ckpt at the end."""
    seed_everything(1, verbose=False)
    torch.set_num_threads(1)
    newest = ModelCheckpoint(folder / "newest", filename="{step}", every_n_train_steps=2, save_last=True)
    best = ModelCheckpoint(
        folder / "best", filename="{step}-{val_loss:.4f}", monitor="val_loss", save_last=True, save_top_k=2
    )
    trainer = Trainer(
        max_epochs=EPOCHS,
        accumulate_grad_batches=2,
        val_check_interval=0.5,
        callbacks=[Tells(tell), newest, best],
        logger=False,
        enable_progress_bar=False,
        default_root_dir=folder,
        registered_callbacks=False,
    )
    training = DataLoader(Augmented(SAMPLES), batch_size=BATCH, shuffle=True, num_workers=2)
    trainer.fit(Regression(), training, DataLoader(Augmented(16), batch_size=8), ckpt_path="auto")
    trainer.save_checkpoint(folder / "final.ckpt")


if __name__ == "__main__":
    train(Path(sys.argv[1]), lambda event: print(event, flush=True))
