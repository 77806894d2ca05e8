"""A causal transformer on a made-up language: accumulation, clipping, warm-up per step, and a resumed fit.

With --batches 10 an epoch's last accumulation window is half as long as the others. --scale-last-window then makes up
for it in the loss, as scripts do that care.
"""

import argparse
import json
import math

import torch
import torch.nn.functional as F  # noqa: N812
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import grad_norm
from torch import nn
from torch.utils.data import DataLoader, Dataset

WINDOW = 4


class Walks(Dataset):
    """Sequences in which each token is the last one plus one, two or three, modulo 16."""

    def __init__(self, count, seed, length=32):
        steps = torch.randint(1, 4, (count, length + 1), generator=torch.Generator().manual_seed(seed))
        self.tokens = steps.cumsum(1) % 16

    def __len__(self):
        return len(self.tokens)

    def __getitem__(self, index):
        return {"input": self.tokens[index, :-1], "target": self.tokens[index, 1:]}


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norm2(x))


class LanguageModel(LightningModule):
    def __init__(self, width=32, layers=2, heads=4, vocabulary=16, lr=1e-2, warmup=4, total=40, last_window=WINDOW):
        super().__init__()
        self.save_hyperparameters(ignore=["last_window"])
        self.last_window = last_window
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(32, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.02)
        self.norms = []

    def forward(self, tokens):
        x = self.embed(tokens) + self.position[: tokens.size(1)]
        return self.head(self.norm(self.blocks(x)))

    def loss(self, batch):
        return F.cross_entropy(self(batch["input"]).flatten(0, 1), batch["target"].flatten())

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        if batch_idx >= self.trainer.num_training_batches - self.last_window:
            loss = loss * (WINDOW / self.last_window)
        return {"loss": loss, "tokens": batch["target"].numel()}

    def validation_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch["input"]))
        return loss

    def on_before_optimizer_step(self, optimizer):
        norms = grad_norm(self, norm_type=2)
        self.log_dict(norms)
        self.norms.append(norms["grad_2.0_norm_total"].item())

    def configure_optimizers(self):
        decay = [parameter for parameter in self.parameters() if parameter.dim() >= 2]
        rest = [parameter for parameter in self.parameters() if parameter.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=self.hparams.lr, betas=(0.9, 0.95))

        def factor(step):
            if step < self.hparams.warmup:
                return (step + 1) / self.hparams.warmup
            done = (step - self.hparams.warmup) / (self.hparams.total - self.hparams.warmup)
            return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return [optimizer], [{"scheduler": scheduler, "interval": "step", "frequency": 1, "name": "lr"}]


class History(Callback):
    def __init__(self):
        self.train_loss, self.lr, self.tokens, self.val_batches, self.val_loss = [], [], 0, [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.train_loss.append(trainer.callback_metrics["train_loss"].item().hex())
        self.tokens += outputs["tokens"]

    def on_before_zero_grad(self, trainer, pl_module, optimizer):
        self.lr.append([trainer.global_step, optimizer.param_groups[0]["lr"].hex()])

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if not trainer.sanity_checking:
            self.val_batches.append(outputs.item())

    def on_validation_epoch_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.val_loss.append([trainer.global_step, trainer.callback_metrics["val_loss"].item()])


def train(history, max_epochs, batches, last_window, ckpt_path=None):
    # The second fit continues the first one's: it has to begin with other weights to show that it does.
    seed_everything(5 + max_epochs)
    model = LanguageModel(last_window=last_window)
    checkpoint = ModelCheckpoint(dirpath=f"checkpoints-{max_epochs}", save_last=True, filename="at-{step}")
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        accumulate_grad_batches=WINDOW,
        gradient_clip_val=0.5,
        val_check_interval=0.5,
        log_every_n_steps=1,
        callbacks=[history, checkpoint],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    training = DataLoader(Walks(16 * batches, seed=1), batch_size=16)
    validation = DataLoader(Walks(40, seed=2), batch_size=16)
    trainer.fit(model, training, validation, ckpt_path=ckpt_path)
    return model, trainer, checkpoint


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=16)
    parser.add_argument("--scale-last-window", action="store_true")
    arguments = parser.parse_args()
    last_window = WINDOW
    if arguments.scale_last_window:
        last_window = arguments.batches % WINDOW or WINDOW

    history = History()
    first, _, checkpoint = train(history, 2, arguments.batches, last_window)
    second, trainer, _ = train(history, 3, arguments.batches, last_window, checkpoint.last_model_path)
    weights = torch.cat([parameter.detach().flatten() for parameter in second.parameters()])
    return {
        "train_loss": history.train_loss,
        "lr": history.lr,
        "tokens": history.tokens,
        "gradient_norms": [norm.hex() for norm in first.norms + second.norms],
        "val_batches": [loss.hex() for loss in history.val_batches],
        "val_loss": history.val_loss,
        "weights": [weights.sum().item().hex(), weights.norm().item().hex()],
        "steps": [trainer.global_step, trainer.current_epoch],
        "hparams": dict(second.hparams),
    }


if __name__ == "__main__":
    print(json.dumps(main()))
