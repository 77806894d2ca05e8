"""A hundred signals at random moments: no process hangs, and every file that is left can be loaded.

Real processes, each forked from one that has imported torch: SIGTERM, SIGINT and SIGUSR1, one to three of them, after a
random time or in the middle of something: backward, a save, the start of workers, teardown.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hookloop.checkpoint_file import read_checkpoint

RUNS = 80
DEADLINE_S = 25

PROGRAM = '''
import json
import os
import random
import select
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import hookloop.entry_points  # and all that the first run would import
from hookloop import Callback, LightningModule, Order, Trainer
from hookloop.errors import SIGTERMException

folder, first, runs, deadline = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
MOMENTS = ("time", "time", "time", "backward", "save", "replace", "workers", "teardown", "validation", "exception")
warnings.simplefilter("ignore")
torch.optim.Adam([torch.zeros(1)])  # the first one imports a good part of torch; once is enough


class Net(LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).pow(2).mean()

    def validation_step(self, batch, batch_idx):
        self.log("loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


class Saves(Callback):
    order = Order.LAST
    preemption_signals = (signal.SIGUSR1,)

    def __init__(self, folder):
        self.folder = folder

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step % 3 == 0:
            trainer.save_checkpoint(self.folder / "last.ckpt")

    def on_preemption(self, trainer, pl_module, signum):
        trainer.save_checkpoint(self.folder / "preempted.ckpt")


class Sends(Callback):
    """Sends the signals in the middle of something."""

    def __init__(self, moment, n, send):
        self.moment, self.n, self.send = moment, n, send

    def at(self, moment):
        if moment == self.moment:
            self.n -= 1
            if self.n == 0:
                self.send()

    def on_before_backward(self, trainer, pl_module, loss):
        if self.moment == "backward":
            loss.register_hook(lambda gradient: self.at("backward"))

    def on_validation_batch_start(self, *args):
        self.at("validation")

    def on_exception(self, *args):
        self.at("exception")

    def teardown(self, *args):
        self.at("teardown")


def child(seed, folder, ready):
    draw = random.Random(seed)
    moment = draw.choice(MOMENTS)
    chosen = [draw.choice(SIGNALS) for _ in range(draw.choice((1, 1, 2, 3)))]

    def send():
        for number in chosen:
            with (folder / "sent").open("a") as sent:  # before it: what a signal does may be to raise
                print(number, file=sent)
            os.kill(os.getpid(), number)

    torch.manual_seed(seed)
    saves, sends = Saves(folder), Sends(moment, draw.randint(1, 4 if moment != "teardown" else 1), send)
    if moment in ("save", "replace"):
        name, owner = ("fsync", os) if moment == "save" else ("replace", Path)
        original = getattr(owner, name)

        def during(*args):
            sends.at(moment)
            done = original(*args)
            return done

        setattr(owner, name, during)
    heard = []
    for number in SIGNALS:  # of the user's own, so that a signal before and after the fit ends nothing either
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else lambda n, f: heard.append(n))
    before = [signal.getsignal(number) for number in SIGNALS]
    data = TensorDataset(torch.randn(48, 4))
    workers = draw.choice((0, 0, 2)) if moment != "workers" else 2
    loader = DataLoader(data, batch_size=4, shuffle=True, num_workers=workers, persistent_workers=bool(workers))
    if moment == "workers":
        fork = os.fork

        def forks():
            pid = fork()
            if pid:
                sends.at("workers")
            return pid

        os.fork = forks
    trainer = Trainer(
        max_epochs=2, callbacks=[saves, sends], logger=False, enable_progress_bar=False, enable_checkpointing=False,
        registered_callbacks=False, default_root_dir=folder, val_check_interval=5,
    )
    code = 0
    try:
        os.write(ready, b"x")
        trainer.fit(Net(), loader, DataLoader(data, batch_size=12))
    except SIGTERMException as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    except BaseException:
        traceback.print_exc()
        code = 1
    # A Ctrl-C that comes here is the last one: what there was to check is checked.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if [signal.getsignal(number) for number in SIGNALS] != before:
        print("handlers are not put back", file=sys.stderr)
        code = 2
    return code, moment, chosen


def run(seed):
    """One process: how it ended, or "hangs"."""
    home = folder / str(seed)
    home.mkdir()
    readable, ready = os.pipe()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        log = os.open(home / "log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        code = 3
        try:
            code, *rest = child(seed, home, ready)
        except KeyboardInterrupt:
            code = 130  # between the fit and the end
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(ready)
    select.select([readable], [], [], deadline)
    os.close(readable)
    draw = random.Random(seed)
    sent = 0
    if draw.choice(MOMENTS) == "time":
        until = time.monotonic() + draw.uniform(0.0, 0.35)
        for _ in range(draw.choice((1, 1, 2, 3))):
            select.select([], [], [], max(0.0, until - time.monotonic()))
            until = time.monotonic() + draw.uniform(0.0, 0.02)
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                break  # it is through, and nobody would hear
            os.kill(pid, draw.choice(SIGNALS))
            sent += 1
    over = time.monotonic() + deadline
    while time.monotonic() < over:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), sent
        select.select([], [], [], 0.005)
    os.kill(pid, signal.SIGABRT)
    os.waitpid(pid, 0)
    return "hangs", sent


results = {}
for seed in range(first, first + runs):
    results[seed] = run(seed)
print(json.dumps(results))
'''


@pytest.mark.skipif(not hasattr(os, "fork"), reason="each run is a fork of a process that has imported torch")
def test_a_hundred_signals_at_random_moments_hang_nothing_and_leave_files_that_load(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "faulthandler", "-c", PROGRAM, str(tmp_path), "1000", str(RUNS), str(DEADLINE_S)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert len(results) == RUNS
    # Of the batch, by a signal, or through: an exit code of 1 to 3 would be an error, "hangs" a deadlock.
    allowed = {0, 130, 128 + signal.SIGTERM, 128 + signal.SIGUSR1}
    wrong = {seed: end for seed, (end, _) in results.items() if end not in allowed}
    assert not wrong, "\n".join((tmp_path / seed / "log").read_text()[-3000:] for seed in wrong)
    told = sum(len(path.read_text().splitlines()) for path in tmp_path.glob("*/sent"))
    assert told + sum(sent for _, sent in results.values()) >= 100, (told, results)
    assert told >= 50  # those in the middle of something
    ends = {end for end, _ in results.values()}
    assert ends >= {130, 143, 138}  # or the moments missed
    left = sorted(tmp_path.glob("*/*"))
    files = [path for path in left if path.suffix == ".ckpt"]
    assert len(files) > RUNS // 2
    for path in files:
        assert read_checkpoint(path)["progress"]["global_step"] >= 0
    preempted = [seed for seed, (end, _) in results.items() if (tmp_path / seed / "preempted.ckpt").exists()]
    assert len(preempted) > RUNS // 8
