"""An autoencoder in double precision: a plateau scheduler, its parts passed in, prediction over two loaders."""

import json

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, LambdaCallback, ModelCheckpoint
from lightning.pytorch.utilities.types import STEP_OUTPUT
from torch import Tensor, nn, optim
from torch.utils.data import DataLoader, TensorDataset


class Waves(LightningDataModule):
    """64 samples of a sine of random frequency and phase, with noise."""

    def prepare_data(self) -> None:
        torch.save(self.make(320, seed=1), "waves.pt")

    @staticmethod
    def make(count: int, seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        frequency = 1 + 3 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
        phase = 2 * torch.pi * torch.rand(count, 1, generator=generator, dtype=torch.float64)
        noise = 0.05 * torch.randn(count, 64, generator=generator, dtype=torch.float64)
        return torch.sin(torch.linspace(0, 2 * torch.pi, 64, dtype=torch.float64) * frequency + phase) + noise

    def setup(self, stage: str) -> None:
        waves = torch.load("waves.pt")
        if stage == "fit":
            self.train, self.val = TensorDataset(waves[:256]), TensorDataset(waves[256:])
        elif stage == "predict":
            self.predict = [
                TensorDataset(self.make(10, seed=2)),
                TensorDataset(torch.zeros(3, 64, dtype=torch.float64)),
            ]

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, batch_size=32, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, batch_size=64)

    def predict_dataloader(self) -> list[DataLoader]:
        return [DataLoader(one, batch_size=4) for one in self.predict]


class AutoEncoder(LightningModule):
    def __init__(self, encoder: nn.Module, decoder: nn.Module, lr: float = 0.01, warmup_steps: int = 8) -> None:
        super().__init__()
        self.save_hyperparameters(ignore=["encoder", "decoder"])
        self.encoder = encoder
        self.decoder = decoder
        self.example_input_array = torch.zeros(2, 64, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        return self.encoder(x)

    def reconstruction_loss(self, batch: list[Tensor]) -> Tensor:
        (x,) = batch
        return nn.functional.mse_loss(self.decoder(self.encoder(x)), x)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> STEP_OUTPUT:
        loss = self.reconstruction_loss(batch)
        self.log("train_loss", loss, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.reconstruction_loss(batch), prog_bar=True)

    def predict_step(self, batch: list[Tensor], batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        (x,) = batch
        code = self(x)
        return {"code": code, "error": (self.decoder(code) - x).square().mean(dim=1)}

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        # Warm-up by hand.
        if self.trainer.global_step < self.hparams.warmup_steps:
            scale = (self.trainer.global_step + 1) / self.hparams.warmup_steps
            for group in optimizer.param_groups:
                group["lr"] = scale * self.hparams.lr
        optimizer.step(closure=optimizer_closure)

    def configure_optimizers(self):
        optimizer = optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        scheduler = optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.02)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}

    def configure_callbacks(self):
        return [ModelCheckpoint(monitor="val_loss", dirpath="checkpoints", filename="{epoch}", save_top_k=1)]


class History(Callback):
    def __init__(self) -> None:
        self.train_loss: list[str] = []
        self.val_loss: list[str] = []
        self.lr: list[str] = []
        self.predicted: list[list[int]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train_loss.append(outputs["loss"].item().hex())
        self.lr.append(trainer.optimizers[0].param_groups[0]["lr"].hex())

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.val_loss.append(trainer.callback_metrics["val_loss"].item().hex())

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        self.predicted.append([dataloader_idx, batch_idx, len(outputs["error"])])


def parts() -> dict[str, nn.Module]:
    return {
        "encoder": nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 4)),
        "decoder": nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 64)),
    }


def main():
    seed_everything(11)
    started = []
    history = History()
    data = Waves()
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=12,
        gradient_clip_val=0.1,
        gradient_clip_algorithm="value",
        callbacks=[history, LambdaCallback(on_train_epoch_start=lambda trainer, module: started.append(module.dtype))],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    model = AutoEncoder(**parts(), lr=0.2)
    trainer.fit(model, datamodule=data)
    predictions = trainer.predict(model, datamodule=data, ckpt_path="best")

    best = trainer.checkpoint_callback.best_model_path
    loaded = AutoEncoder.load_from_checkpoint(best, **parts())
    loaded.freeze()
    again = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    limited = again.predict(loaded.double(), DataLoader(TensorDataset(data.make(10, seed=2)), batch_size=4))
    return {
        "train_loss": history.train_loss,
        "val_loss": history.val_loss,
        "lr": history.lr,
        "best": best.split("/")[-1],
        "shape": [len(predictions), [len(loader) for loader in predictions]],
        "predicted": history.predicted,
        "errors": [value.hex() for loader in predictions for one in loader for value in one["error"].tolist()],
        "again": [value.hex() for one in limited for value in one["error"].tolist()],
        "codes": [value.hex() for value in predictions[0][0]["code"].flatten().tolist()],
        "hparams": dict(loaded.hparams),
        "trainable": [parameter.requires_grad for parameter in loaded.parameters()],
        "started": [str(dtype) for dtype in started],
    }


if __name__ == "__main__":
    print(json.dumps(main()))
