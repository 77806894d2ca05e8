"""Memory of a prediction whose results are not kept, after every tenth of its batches; and the time that a batch takes.

    python benchmarks/prediction_memory.py [--batches 1000000] [--how predict iter follow] [--writer pt]

It prints the resident memory of the process in MiB above that after the first hundredth of the batches: `predict` with
return_predictions=False, `iter` with predict_iter, `follow` with a callback that asks for the samples of each batch.
With --writer, hookloop-callbacks-prediction writes everything to a temporary folder in that format.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hookloop import Callback, LightningModule, Trainer

PAGE_MIB = 4096 / 2**20


class Numbers(Dataset[Tensor]):
    def __init__(self, samples: int) -> None:
        self.samples, self.one = samples, torch.ones(1, 8)

    def __len__(self) -> int:
        return self.samples

    def __getitem__(self, index: int) -> Tensor:
        return self.one


class Doubles(LightningModule):
    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return batch * 2


class Memory(Callback):
    """Reads the memory of the process ten times, and once near the beginning."""

    def __init__(self, batches: int, follows: bool) -> None:
        self.at = {batches // 100, *(batches * tenth // 10 for tenth in range(1, 11))}
        self.follows = follows
        self.read: list[float] = []

    def on_predict_start(self, trainer: Any, pl_module: LightningModule) -> None:
        if self.follows:
            trainer.follow_samples()

    def on_predict_batch_end(
        self,
        trainer: Any,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx + 1 in self.at:
            self.read.append(int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MIB)


def measure(how: str, batches: int, writer: list[Callback], folder: str) -> None:
    memory = Memory(batches, how == "follow")
    quiet: dict[str, Any] = {"logger": False, "registered_callbacks": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[memory, *writer], default_root_dir=folder, **quiet)
    loader = DataLoader(Numbers(batches), batch_size=None)
    begun = time.perf_counter()
    if how == "iter":
        for _ in trainer.predict_iter(Doubles(), loader):
            pass
    else:
        trainer.predict(Doubles(), loader, return_predictions=False)
    microseconds = (time.perf_counter() - begun) / batches * 1e6
    first, *others = memory.read
    grown = " ".join(f"{value - first:+.1f}" for value in others)
    print(f"{how:<8}{batches} batches, {microseconds:.0f} us each; MiB above {first:.0f}: {grown}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--how", nargs="+", default=["predict", "iter", "follow"])
    parser.add_argument("--writer", nargs="*", default=[])
    chosen = parser.parse_args()
    for how in chosen.how:
        with TemporaryDirectory() as folder:
            measure(how, chosen.batches, [], folder)
    for form in chosen.writer:
        from hookloop_callbacks_prediction import PredictionWriter

        with TemporaryDirectory() as folder:
            writer = PredictionWriter(Path(folder) / "predictions", form, batches_per_part=10_000)
            print(f"written as {form}: ", end="")
            measure("predict", chosen.batches, [writer], folder)


if __name__ == "__main__":
    main()
