"""Two training loaders as a dict, two validation loaders and two of test, and metrics of torchmetrics for each."""

import json

import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix, MulticlassF1Score


def moons(count, seed, noise):
    """Points on one of three arcs, and which arc it is."""
    generator = torch.Generator().manual_seed(seed)
    arc = torch.randint(0, 3, (count,), generator=generator)
    angle = torch.rand(count, generator=generator) * torch.pi + arc * 2.0
    points = torch.stack([angle.cos() + arc, angle.sin()], dim=1)
    return TensorDataset(points + noise * torch.randn(count, 2, generator=generator), arc)


class SemiSupervised(pl.LightningModule):
    """Learns from few labels, and from points without one that must not change their class under noise."""

    def __init__(self, hidden=32, lr=0.01, num_val=2):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, 3))
        self.train_acc = MulticlassAccuracy(3, average="micro")
        self.consistency = MeanMetric()
        scores = MetricCollection({"acc": MulticlassAccuracy(3, average="micro"), "f1": MulticlassF1Score(3)})
        self.val_scores = nn.ModuleList(scores.clone(prefix=f"val{index}_") for index in range(num_val))
        self.all_acc = MulticlassAccuracy(3, average="micro")
        self.confusion = MulticlassConfusionMatrix(3)
        self.test_acc = nn.ModuleList(MulticlassAccuracy(3, average="micro") for _ in range(2))
        self.table = None

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        x, y = batch["labelled"]
        u, _ = batch["unlabelled"]
        logits = self(x)
        supervised = F.cross_entropy(logits, y)
        noisy = u + 0.1 * torch.randn_like(u)
        consistency = F.mse_loss(self(noisy).softmax(1), self(u).softmax(1).detach())
        self.train_acc(logits, y)
        self.consistency(consistency)
        self.log("train_acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        self.log("consistency", self.consistency, on_step=False, on_epoch=True)
        self.log("supervised", supervised, batch_size=len(x))
        return supervised + consistency

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        logits = self(x)
        scores = self.val_scores[dataloader_idx]
        scores.update(logits, y)
        self.log_dict(scores, add_dataloader_idx=False)
        self.all_acc.update(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.confusion.update(logits, y)

    def on_validation_epoch_end(self):
        self.log("val_acc", self.all_acc, prog_bar=True)
        self.table = self.confusion.compute().tolist()
        self.log("val_diagonal", self.confusion.compute().diagonal().sum().float())
        self.confusion.reset()

    def test_step(self, batch, batch_idx, dataloader_idx=0):
        x, y = batch
        self.test_acc[dataloader_idx](self(x), y)
        self.log("test_acc", self.test_acc[dataloader_idx], on_step=False, on_epoch=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[2, 4], gamma=0.3)]

    def train_dataloader(self):
        return {
            "labelled": DataLoader(moons(48, 1, 0.1), batch_size=8, shuffle=True),
            "unlabelled": DataLoader(moons(256, 2, 0.1), batch_size=32, shuffle=True),
        }

    def val_dataloader(self):
        return [DataLoader(moons(64, 3, 0.1), batch_size=64), DataLoader(moons(32, 4, 0.4), batch_size=32)]

    def test_dataloader(self):
        return [DataLoader(moons(48, 5, 0.1), batch_size=16), DataLoader(moons(50, 6, 0.4), batch_size=16)]


class History(pl.Callback):
    def __init__(self):
        self.train_loss, self.val, self.batches, self.epochs = [], [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train_loss.append(outputs["loss"].item().hex())

    def on_train_epoch_end(self, trainer, pl_module):
        self.batches.append(trainer.num_training_batches)

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            names = [name for name in trainer.callback_metrics if name.startswith("val")]
            self.val.append({name: trainer.callback_metrics[name].item().hex() for name in sorted(names)})

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch:
            metrics = trainer.callback_metrics
            self.epochs.append({name: metrics[name].item().hex() for name in ("train_acc_epoch", "consistency")})


def fit(mode, max_epochs):
    pl.seed_everything(3)
    model, history = SemiSupervised(), History()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        check_val_every_n_epoch=2,
        num_sanity_val_steps=1,
        callbacks=[history],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    if mode is None:
        trainer.fit(model)
    else:
        trainer.fit(model, CombinedLoader(model.train_dataloader(), mode=mode))
    return model, trainer, history


def main():
    model, trainer, history = fit(None, 6)
    tested = trainer.test(model, verbose=False)
    result = {
        "train_loss": history.train_loss,
        "val": history.val,
        "epochs": history.epochs,
        "batches": history.batches,
        "table": model.table,
        "tested": [{name: value.hex() for name, value in sorted(one.items())} for one in tested],
    }
    for mode in ("min_size", "max_size_cycle"):
        _, _, other = fit(mode, 2)
        result[mode] = {"train_loss": other.train_loss, "batches": other.batches}
    return result


if __name__ == "__main__":
    print(json.dumps(main()))
