"""What the callbacks of finetuning and pruning cost a training step, and a checkpoint, in processor time and bytes.

    python benchmarks/finetuning_and_pruning.py [--steps 200] [--rounds 5]

For a network of three layers of 64 on the CPU, one thread. It prints the lowest of all rounds, in microseconds of CPU
time for each step: runs are interleaved, so that what else the machine does falls on all of them alike.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from hookloop import Callback, LightningModule, Trainer
from hookloop.callbacks import BackboneFinetuning, GradualUnfreezing, ModelPruning


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.head = nn.Linear(64, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.mse_loss(self.head(self.backbone(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([one for one in self.parameters() if one.requires_grad], lr=0.01, momentum=0.9)


class Measure(Callback):
    """The CPU time of all steps but the first ten, and then the size of a checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path, self.begun, self.seconds, self.bytes = path, 0.0, 0.0, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if batch_idx == 10:
            self.begun = time.thread_time()
        if trainer.is_last_batch:
            self.seconds = time.thread_time() - self.begun
            trainer.save_checkpoint(self.path)
            self.bytes = self.path.stat().st_size


def pruned(rewinds: bool) -> Callback:
    return ModelPruning(
        "l1_unstructured", every_n_steps=5, apply_pruning=lambda step: step == 5, use_lottery_ticket_hypothesis=rewinds
    )


SUBJECTS: dict[str, Callable[[], list[Callback]]] = {
    "no callback": list,
    "BackboneFinetuning, unfrozen": lambda: [BackboneFinetuning(0)],
    "BackboneFinetuning, frozen": lambda: [BackboneFinetuning(9)],
    "GradualUnfreezing, waits for a step": lambda: [GradualUnfreezing([{"modules": "backbone", "step": 10**9}])],
    "ModelPruning, nothing pruned yet": lambda: [ModelPruning("l1_unstructured", use_lottery_ticket_hypothesis=False)],
    "ModelPruning, all tensors pruned": lambda: [pruned(rewinds=False)],
    "ModelPruning, a lottery ticket": lambda: [pruned(rewinds=True)],
}


def measure(callbacks: list[Callback], steps: int, path: Path) -> tuple[float, int]:
    torch.manual_seed(0)
    x = torch.randn(8 * steps, 64)
    last = Measure(path)
    trainer = Trainer(
        max_epochs=1, callbacks=[*callbacks, last], accelerator="cpu", registered_callbacks=False, logger=False
    )
    trainer.fit(Net(), DataLoader(TensorDataset(x, x[:, :1]), batch_size=8))
    return last.seconds / (steps - 11) * 1e6, last.bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in SUBJECTS}
    with TemporaryDirectory() as folder:
        for _ in range(given.rounds):
            for name, make in SUBJECTS.items():
                found[name].append(measure(make(), given.steps, Path(folder, "one.ckpt")))
    print(f"{'':<38}{'us a step':>10}{'KiB a checkpoint':>18}")
    for name, runs in found.items():
        print(f"{name:<38}{min(seconds for seconds, _ in runs):>10.0f}{runs[0][1] / 1024:>18.1f}")


if __name__ == "__main__":
    main()
