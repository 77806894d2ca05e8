"""What reading and writing a checkpoint costs in processor time, which means something on a busy machine too.

    python benchmarks/checkpoint_costs.py [--rounds 5] [--folder .]

It prints the lowest of all rounds: of this thread, of all threads, and on the wall; then which share of one core a
background write gets that training wants too, by how much nicer its thread is.
"""

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

sys.path[0] = str(Path(__file__).resolve().parent)

from checkpoint_saves.work import SIZES, Batches, Work  # noqa: E402

from hookloop.checkpoint_file import read_checkpoint, verify_checkpoint, write_checkpoint  # noqa: E402


def state_of_25m() -> dict[str, object]:
    work = Work()
    work.build(SIZES["25M"])
    optimizer = work.configure_optimizers()
    for batch_idx, batch in enumerate(Batches(2)):
        optimizer.zero_grad()
        work.training_step(batch, batch_idx).backward()
        optimizer.step()
    return {"state_dict": work.layers.state_dict(), "optimizer_states": [optimizer.state_dict()]}


def costs(state: dict[str, object], path: Path, rounds: int) -> None:
    def synced() -> None:
        with path.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())

    def loaded() -> None:
        with path.open("rb") as file:
            torch.load(file, weights_only=True)

    actions: dict[str, Callable[[], object]] = {
        "torch.save + fsync": synced,
        "write_checkpoint": lambda: write_checkpoint(state, path),
        "torch.load": loaded,
        "verify_checkpoint": lambda: verify_checkpoint(path),
        "read_checkpoint": lambda: read_checkpoint(path),
    }
    clocks = (time.thread_time, time.process_time, time.perf_counter)
    found: dict[str, list[list[float]]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            if name in ("torch.save + fsync", "write_checkpoint"):
                path.unlink(missing_ok=True)
            before = [clock() for clock in clocks]
            action()
            found[name].append([1e3 * (clock() - begin) for clock, begin in zip(clocks, before, strict=True)])
    print(f"{'milliseconds':20}{'this thread':>12}{'all threads':>12}{'wall':>12}")
    for name, rows in found.items():
        print(f"{name:20}" + "".join(f"{min(column):12.0f}" for column in zip(*rows, strict=True)))


def share(path: Path, nicer: int) -> float:
    """The part of one core's time that a write of 100 MB gets, beside a thread that multiplies matrices."""
    state, weights = {str(index): torch.zeros(2**20) for index in range(24)}, torch.randn(256, 256)
    wrote: list[float] = []

    def write() -> None:
        me = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, me, os.getpriority(os.PRIO_PROCESS, me) + nicer)
        begin = time.thread_time()
        write_checkpoint({"state_dict": state}, path)
        wrote.append(time.thread_time() - begin)

    thread = threading.Thread(target=write)
    begin = time.thread_time()
    thread.start()
    while not wrote:
        weights @ weights
    trained = time.thread_time() - begin
    thread.join()
    return wrote[0] / (wrote[0] + trained)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    given = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        target = Path(folder, "last.ckpt")
        costs(state_of_25m(), target, given.rounds)
        if sys.platform == "linux":
            os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
            for nicer in (0, 5, 10):
                print(f"share of one core, nicer by {nicer}: {share(target, nicer):.3f}")
