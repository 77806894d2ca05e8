"""A classifier of small images: datamodule, hyperparameters, OneCycleLR, clipping, the best checkpoint, another fit."""

import json
from pathlib import Path

import lightning.pytorch as pl
import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Shapes(pl.LightningDataModule):
    """Noisy pictures of 8 x 8 pixels with a bar, a column or a diagonal."""

    def __init__(self, batch_size=32, noise=0.9):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage=None):
        generator = torch.Generator().manual_seed(1)
        labels = torch.arange(448) % 3
        shapes = torch.stack([torch.zeros(8, 8), torch.zeros(8, 8), torch.eye(8)])
        shapes[0, 3:5] = 1.0
        shapes[1, :, 3:5] = 1.0
        noise = torch.randn(448, 8, 8, generator=generator) * self.hparams.noise
        pictures = TensorDataset((shapes[labels] + noise).unsqueeze(1), labels)
        self.train, self.val, self.test = random_split(pictures, [256, 128, 64], generator)

    def train_dataloader(self):
        return DataLoader(self.train, self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=128)

    def test_dataloader(self):
        return DataLoader(self.test, batch_size=64)


class Classifier(pl.LightningModule):
    def __init__(self, channels=8, lr=0.01, dropout=0.2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(channels * 16, 3),
        )

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True, on_step=True, on_epoch=True)
        return loss

    def _shared_eval(self, batch, prefix):
        x, y = batch
        logits = self(x)
        self.log(f"{prefix}_loss", F.cross_entropy(logits, y))
        self.log(f"{prefix}_acc", (logits.argmax(1) == y).float().mean(), prog_bar=True)

    def validation_step(self, batch, batch_idx):
        self._shared_eval(batch, "val")

    def test_step(self, batch, batch_idx):
        self._shared_eval(batch, "test")

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.hparams.lr, total_steps=self.trainer.estimated_stepping_batches
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class History(pl.Callback):
    def __init__(self):
        self.train_loss, self.lr, self.val = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train_loss.append(outputs["loss"].item().hex())
        self.lr.append(trainer.optimizers[0].param_groups[0]["lr"].hex())

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.val.append(
                [
                    trainer.global_step,
                    *(trainer.callback_metrics[name].item().hex() for name in ("val_loss", "val_acc")),
                ]
            )


def main():
    pl.seed_everything(7, workers=True)
    data = Shapes()
    model = Classifier()
    history = History()
    checkpoint = ModelCheckpoint(monitor="val_acc", mode="max", save_last=True, filename="{epoch}-{step}")
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=5,
        deterministic=True,
        gradient_clip_val=0.5,
        callbacks=[history, checkpoint],
        logger=CSVLogger(".", name="classifier"),
        log_every_n_steps=4,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=data)
    epoch_mean = trainer.callback_metrics["train_loss_epoch"].item()
    files = sorted(path.name for path in Path(trainer.log_dir).rglob("*") if path.is_file())
    (validated,) = trainer.validate(model, datamodule=data, verbose=False)
    (tested,) = trainer.test(datamodule=data, ckpt_path="best", verbose=False)

    best = Classifier.load_from_checkpoint(checkpoint.best_model_path, dropout=0.0)
    best.eval()
    with torch.no_grad():
        logits = best(data.test[0][0].unsqueeze(0))

    longer = pl.Trainer(
        accelerator="cpu",
        max_steps=44,
        limit_val_batches=0,
        callbacks=history,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    pl.seed_everything(8)
    longer.fit(Classifier(lr=0.005), datamodule=data)

    return {
        "train_loss": history.train_loss,
        "lr": history.lr,
        "val": history.val,
        "validated": {name: value.hex() for name, value in validated.items()},
        "tested": {name: value.hex() for name, value in tested.items()},
        "best": checkpoint.best_model_path.split("/")[-1],
        "files": files,
        "best_score": float(checkpoint.best_model_score).hex(),
        "hparams": [dict(best.hparams), dict(data.hparams)],
        "logits": [value.hex() for value in logits[0].tolist()],
        "steps": [trainer.global_step, trainer.current_epoch, longer.global_step, longer.current_epoch],
        "epoch_mean": epoch_mean,
    }


if __name__ == "__main__":
    print(json.dumps(main()))
