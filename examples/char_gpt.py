"""A small GPT learns to write Python, letter by letter, from the source of Python's own standard library.

That text is on every machine. Two batches make one optimizer step, gradients are clipped, the learning rate warms up
and falls along a cosine step by step, and the best of all validations is what writes the sample at the end. It takes
little more than a minute on one core.

The yardstick is the unigram entropy: what guessing costs if one knows how often each character occurs in the text, and
nothing else. Whoever reads the context does better.

--precision bf16-mixed saves time where matrices are large and the processor multiplies in bfloat16 (lscpu says
avx512_bf16): with --heads 16 --layers 3 --steps 20 it took 37 s of such a core, and 32-true took 60 s. At the default
size the two take the same.

The progress bar is found by its entry point. All files go to the folder runs/char_gpt in the working directory.
"""

import argparse
import math
import string
import sysconfig
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from hookloop import LightningModule, Trainer, seed_everything
from hookloop.callbacks import ModelCheckpoint

FOLDER = Path("runs", "char_gpt")
SEED = 1
BATCH_SIZE = 16
ACCUMULATE = 2
# The rest of Unicode is one character more.
ALPHABET = "\n" + string.printable[:95]
UNKNOWN = "\N{REPLACEMENT CHARACTER}"


def read_library() -> tuple[str, str]:
    """The text to learn from, and the text to be tested on: every tenth module of the library is in the second."""
    modules = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    texts = [module.read_text(encoding="utf-8") for module in modules]
    training = [text for number, text in enumerate(texts) if number % 10 != 9]
    return "".join(training), "".join(texts[9::10])


def encode(text: str) -> Tensor:
    """Characters as int64 indices into the alphabet."""
    index = {character: number for number, character in enumerate(ALPHABET)}
    return torch.tensor([index.get(character, len(ALPHABET)) for character in text])


def decode(tokens: Tensor) -> str:
    return "".join((ALPHABET + UNKNOWN)[token] for token in tokens.tolist())


def unigram_entropy(tokens: Tensor) -> float:
    """Nats a character that the best guess costs which looks at no context."""
    frequencies = tokens.bincount().double() / len(tokens)
    return float(torch.special.entr(frequencies).sum())


class Windows(Dataset[tuple[Tensor, Tensor]]):
    """`count` pieces of a text, at the given places: int64 (context,), and the same shifted by one character."""

    def __init__(self, tokens: Tensor, starts: Tensor, context: int) -> None:
        self.tokens, self.starts, self.context = tokens, starts, context

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        piece = self.tokens[self.starts[index] :][: self.context + 1]
        return piece[:-1], piece[1:]


class Block(nn.Module):
    """Attention to what came before, then a network of two layers, each added to its input (batch, time, width)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.after_attention = nn.Linear(width, width)
        self.network = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        projected = self.queries_keys_values(self.before_attention(x))
        queries, keys, values = projected.view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.after_attention(attended.transpose(1, 2).reshape(batch, length, width))
        added: Tensor = x + self.network(x)
        return added


class CharGPT(LightningModule):
    """A causal transformer. Input: int64 (batch, time); output: logits (batch, time, characters)."""

    def __init__(self, context: int, heads: int, layers: int, learning_rate: float) -> None:
        super().__init__()
        self.context = context
        self.learning_rate = learning_rate
        width = 32 * heads
        self.characters = nn.Embedding(len(ALPHABET) + 1, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last_norm = nn.LayerNorm(width)
        for module in self.modules():
            if isinstance(module, nn.Embedding | nn.Linear):
                nn.init.normal_(module.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.size(1), device=tokens.device)
        x = self.last_norm(self.blocks(self.characters(tokens) + self.places(places)))
        return functional.linear(x, self.characters.weight)

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        tokens, following = batch
        return functional.cross_entropy(self(tokens).flatten(0, 1), following.flatten())

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        matrices = [parameter for parameter in self.parameters() if parameter.dim() >= 2]
        others = [parameter for parameter in self.parameters() if parameter.dim() < 2]
        optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
            lr=self.learning_rate,
            betas=(0.9, 0.95),
        )
        steps = int(self.trainer.estimated_stepping_batches)
        warm_up = max(1, steps // 10)

        def factor(step: int) -> float:
            if step < warm_up:
                return (step + 1) / warm_up
            done = (step - warm_up) / max(1, steps - warm_up)
            return 0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @torch.no_grad()
    def write(self, beginning: str, characters: int, generator: torch.Generator, temperature: float = 0.7) -> str:
        """The beginning, and what the model writes after it."""
        tokens = encode(beginning)
        for _ in range(characters):
            logits = self(tokens[-self.context :].unsqueeze(0))[0, -1].float() / temperature
            following = torch.multinomial(logits.softmax(dim=0), 1, generator=generator)
            tokens = torch.cat([tokens, following])
        return decode(tokens)


def at_least(smallest: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if (number := int(text)) < smallest:
            raise argparse.ArgumentTypeError(f"{number} is given, and at least {smallest} is needed")
        return number

    return whole_number


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=at_least(1), default=800, help="optimizer steps (default 800)")
    parser.add_argument("--precision", default="32-true", help='"32-true" (default), "bf16-mixed" or another one')
    parser.add_argument("--context", type=at_least(2), default=64, help="characters that the model sees (default 64)")
    parser.add_argument("--heads", type=at_least(1), default=3, help="heads of attention, 32 wide each (default 3)")
    parser.add_argument("--layers", type=at_least(1), default=2, help="blocks of attention (default 2)")
    parser.add_argument("--learning-rate", type=float, default=6e-3, help="the highest one (default 0.006)")
    parser.add_argument("--sample", type=at_least(0), default=400, help="characters to write at the end (default 400)")
    options = parser.parse_args()
    started = time.perf_counter()

    seed_everything(SEED)
    training_text, validation_text = read_library()
    training, validation = encode(training_text), encode(validation_text)
    starts = torch.randint(len(training) - options.context, (options.steps * ACCUMULATE * BATCH_SIZE,))
    every = torch.linspace(0, len(validation) - options.context - 1, 256).long()
    windows = Windows(validation, every, options.context)
    entropy = unigram_entropy(validation)

    best = ModelCheckpoint(monitor="val_loss", filename="{step}-{val_loss:.3f}")
    trainer = Trainer(
        max_epochs=1,
        precision=options.precision,
        accumulate_grad_batches=ACCUMULATE,
        gradient_clip_val=1.0,
        val_check_interval=max(1, options.steps * ACCUMULATE // 5),
        log_every_n_steps=10,
        callbacks=best,
        default_root_dir=FOLDER,
    )
    model = CharGPT(options.context, options.heads, options.layers, options.learning_rate)
    fit_started = time.perf_counter()
    trainer.fit(
        model,
        DataLoader(Windows(training, starts, options.context), BATCH_SIZE),
        DataLoader(windows, batch_size=64),
    )
    fit_seconds = time.perf_counter() - fit_started
    [results] = trainer.validate(model, DataLoader(windows, batch_size=64), ckpt_path="best", verbose=False)
    loss = results["val_loss"]
    model.eval()
    sample = model.write("    def ", options.sample, torch.Generator().manual_seed(SEED))

    print("\nA sample:\n")
    print("\n".join(f"    {line}" for line in sample.splitlines()))
    print(f"""
text             {len(training):,} characters to learn from, {len(validation):,} for validation
parameters       {sum(parameter.numel() for parameter in model.parameters()):,}
unigram entropy  {entropy:.4f} nats, {entropy / math.log(2):.4f} bits a character
validation loss  {loss:.4f} nats, {loss / math.log(2):.4f} bits a character
time             {time.perf_counter() - started:.1f} s, of which fit {fit_seconds:.1f} s, in {options.precision}
best checkpoint  {from_here(trainer.ckpt_path)}
logs             {from_here(trainer.log_dir)}""")


def from_here(path: str | None) -> Path:
    assert path is not None
    return Path(path).relative_to(Path.cwd())


if __name__ == "__main__":
    main()
