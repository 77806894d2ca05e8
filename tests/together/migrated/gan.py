"""A GAN with two optimizers that the module steps by itself, and a learning rate that it lowers by itself."""

import json

import lightning as L  # noqa: N812
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Ring(L.LightningDataModule):
    """Points on a circle."""

    def __init__(self, batch_size=64):
        super().__init__()
        self.batch_size = batch_size

    def train_dataloader(self):
        angles = torch.rand(512, generator=torch.Generator().manual_seed(3)) * 2 * torch.pi
        points = torch.stack([angles.cos(), angles.sin()], dim=1)
        return DataLoader(TensorDataset(points), batch_size=self.batch_size, shuffle=True)


class GAN(L.LightningModule):
    def __init__(self, latent_dim=4, hidden=32, lr=2e-3, b1=0.5, b2=0.999):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent_dim, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1))
        self.validation_z = torch.randn(8, latent_dim)

    def forward(self, z):
        return self.generator(z)

    def adversarial_loss(self, y_hat, y):
        return F.binary_cross_entropy_with_logits(y_hat, y)

    def training_step(self, batch, batch_idx):
        (points,) = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(points.shape[0], self.hparams.latent_dim).type_as(points)
        valid = torch.ones(points.size(0), 1, device=self.device)
        fake = torch.zeros_like(valid)

        self.toggle_optimizer(optimizer_g)
        assert not any(parameter.requires_grad for parameter in self.discriminator.parameters())
        g_loss = self.adversarial_loss(self.discriminator(self(z)), valid)
        self.log("g_loss", g_loss, prog_bar=True)
        optimizer_g.zero_grad()
        self.manual_backward(g_loss)
        self.clip_gradients(optimizer_g, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
        optimizer_g.step()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = self.adversarial_loss(self.discriminator(points), valid)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        # The discriminator learns from two batches at a time.
        if (batch_idx + 1) % 2 == 0:
            optimizer_d.step()
            optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def on_train_epoch_end(self):
        for scheduler in self.lr_schedulers():
            scheduler.step()
        with torch.no_grad():
            sample = self(self.validation_z.to(self.device))
        self.log("radius", sample.norm(dim=1).mean())

    def configure_optimizers(self):
        betas = (self.hparams.b1, self.hparams.b2)
        optimizer_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr, betas=betas)
        optimizer_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr, betas=betas)
        schedulers = [torch.optim.lr_scheduler.ExponentialLR(one, gamma=0.9) for one in (optimizer_g, optimizer_d)]
        return [optimizer_g, optimizer_d], schedulers


class History(L.Callback):
    def __init__(self):
        self.losses, self.steps, self.radius = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append([trainer.callback_metrics[name].item().hex() for name in ("g_loss", "d_loss")])
        self.steps.append(trainer.global_step)

    def on_train_end(self, trainer, pl_module):
        self.radius = trainer.callback_metrics["radius"].item().hex()


def main():
    L.seed_everything(42)
    model = GAN()
    history = History()
    trainer = L.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=6,
        callbacks=[history],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=Ring())

    trainer.save_checkpoint("gan.ckpt")
    again = GAN.load_from_checkpoint("gan.ckpt", map_location="cpu")
    with torch.no_grad():
        points = again(model.validation_z)
    return {
        "losses": history.losses,
        "steps": history.steps,
        "radius": history.radius,
        "lr": [optimizer.param_groups[0]["lr"].hex() for optimizer in trainer.optimizers],
        "points": [[value.hex() for value in point] for point in points.tolist()],
        "hparams": dict(again.hparams),
        "trainable": all(parameter.requires_grad for parameter in model.parameters()),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
