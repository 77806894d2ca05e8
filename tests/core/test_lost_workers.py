"""SIGTERM for a whole process group: the workers of loaders die of it, and the run still ends as it should."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, get_worker_info

from hookloop import LambdaCallback, Trainer
from hookloop.errors import SIGTERMException
from hookloop.loaders.workers import shut_down
from hookloop.utilities import CombinedLoader

from .fitting import BATCHES, Regression, assert_same_training, samples, trainer_in
from .interrupted import Opening
from .test_preemption import PREEMPTED, Listener

DEADLINE_S = 60

pytestmark = pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there are no process groups"
)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert multiprocessing.active_children() == []


@pytest.fixture(autouse=True)
def handlers_are_put_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    assert signal.getsignal(signal.SIGTERM) == before
    handler: Any = signal.getsignal(signal.SIGCHLD)
    assert "LostWorkers" not in getattr(handler, "__qualname__", "")


def with_workers(dataset: Dataset[Any] | None = None, **arguments: Any) -> DataLoader[Any]:
    settings: dict[str, Any] = {"batch_size": 2, "num_workers": 2, "multiprocessing_context": "fork"}
    return DataLoader(dataset or samples(), **(settings | arguments))


def kill_the_workers() -> None:
    """Comes back when they are dead, and torch's handler has heard of it."""
    pids = [worker.pid for worker in multiprocessing.active_children()]
    assert pids
    # From another process: a worker takes the signal of its parent for a kind request.
    subprocess.run(
        [sys.executable, "-Sc", f"import os; [os.kill(pid, {signal.SIGTERM}) for pid in {pids}]"], check=True
    )
    for pid in pids:
        assert pid is not None
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def kill_the_group(*_: Any) -> None:
    signal.raise_signal(signal.SIGTERM)
    kill_the_workers()


def kill_the_workers_first(*_: Any) -> None:
    """As platforms do that send the signal to one process after the other."""
    later = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM))
    later.start()
    kill_the_workers()
    later.join()


def once(act: Any, n: int = 1) -> Any:
    calls: list[int] = []

    def hook(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == n:
            act()

    return hook


@pytest.mark.parametrize("act", [kill_the_group, kill_the_workers_first])
@pytest.mark.parametrize(
    "hook",
    ["on_train_batch_start", "on_before_backward", "on_before_optimizer_step", "on_train_batch_end", "on_preemption"],
)
def test_a_step_in_which_the_workers_die_is_finished_and_saved(hook: str, act: Any, tmp_path: Path) -> None:
    whole = trainer_in(tmp_path)
    whole.fit(Regression(), with_workers())
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    if hook == "on_preemption":
        callbacks = [
            LambdaCallback(on_train_batch_start=once(lambda: signal.raise_signal(signal.SIGTERM), 2)),
            LambdaCallback(on_preemption=once(kill_the_workers)),
        ]
    else:
        callbacks = [LambdaCallback(**{hook: once(act, 2)})]

    with pytest.raises(SIGTERMException) as ended:
        trainer_in(tmp_path, *callbacks, listener).fit(module, with_workers())

    assert ended.value.code == 143
    assert listener.heard == PREEMPTED
    assert module.marks == ["t0", "t1"]
    resumed, again = trainer_in(tmp_path), Regression()
    resumed.fit(again, with_workers(), ckpt_path=tmp_path / "saved.ckpt")
    assert again.marks == [f"t{i}" for i in [2, 3, 4, 0, 1, 2, 3, 4]]
    assert_same_training(resumed, whole)


class Dies(Dataset[Any]):
    """The worker that reads a sample ends its parent and itself."""

    def __init__(self, sample: int) -> None:
        self.sample = sample
        self.data = samples()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        if index == self.sample and get_worker_info() is not None:
            os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        return self.data[index]


class DiesAfter(Dies):
    """The worker ends its parent and itself when it has read so many samples."""

    def __getitem__(self, index: int) -> Any:
        if self.sample == 0:
            os.kill(os.getppid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
        self.sample -= 1
        return self.data[index]


@pytest.mark.parametrize("generator", [None, 5], ids=["global", "own generator"])
@pytest.mark.parametrize("dies_at", [0, 1, 2])
def test_a_shuffled_epoch_whose_first_batch_never_came_has_the_same_order_when_it_is_resumed(
    dies_at: int, generator: int | None, tmp_path: Path
) -> None:
    def shuffled(dataset: Any = None) -> DataLoader[Any]:
        own = None if generator is None else torch.Generator().manual_seed(generator)
        return with_workers(dataset, num_workers=1, prefetch_factor=1, shuffle=True, generator=own)

    def fit(loader: DataLoader[Any], *callbacks: Any, ckpt_path: Path | None = None) -> Trainer:
        torch.manual_seed(1)
        trainer = trainer_in(tmp_path, *callbacks)
        trainer.fit(Regression(), loader, ckpt_path=ckpt_path)
        return trainer

    whole, path = fit(shuffled()), tmp_path / "saved.ckpt"

    # The first process gets no batch, the second one gets some, the third one none of those that it wanted.
    for n, ckpt_path in [(0, None), (dies_at, path), (0, path)]:
        listener, dataset = Listener(path), DiesAfter(2 * n)
        with pytest.raises(SIGTERMException):
            fit(shuffled(dataset), listener, ckpt_path=ckpt_path)
        assert listener.heard == PREEMPTED

    assert_same_training(fit(shuffled(), ckpt_path=path), whole)


class Both(Regression):
    def training_step(self, batch: Any, batch_idx: int) -> Any:
        drawn, known = batch
        return super().training_step(drawn, batch_idx) * (known.mean() / 1000)


@pytest.mark.parametrize("dies_at", [0, 2, BATCHES])
def test_so_does_one_whose_loader_knows_where_it_is(dies_at: int, tmp_path: Path) -> None:
    def fit(dataset: Any = None, *callbacks: Any, ckpt_path: Path | None = None, seed: int = 1) -> Trainer:
        torch.manual_seed(seed)
        random.seed(seed)
        parts = [with_workers(dataset, num_workers=1, prefetch_factor=1, shuffle=True), Opening(BATCHES)]
        trainer = trainer_in(tmp_path, *callbacks)
        trainer.fit(Both(), CombinedLoader(parts, "min_size"), ckpt_path=ckpt_path)
        return trainer

    whole, path = fit(), tmp_path / "saved.ckpt"
    at_an_end = LambdaCallback(on_train_epoch_end=lambda trainer, *_: trainer.save_checkpoint(path))

    # As above; a loader that has opened itself draws for that.
    if dies_at < BATCHES:
        with pytest.raises(SIGTERMException):
            fit(DiesAfter(0), Listener(path))
        with pytest.raises(SIGTERMException):
            fit(DiesAfter(2 * dies_at), Listener(path), ckpt_path=path, seed=2)
    else:
        torch.manual_seed(1)
        trainer_in(tmp_path, at_an_end, max_epochs=1).fit(
            Both(), CombinedLoader([with_workers(num_workers=1, shuffle=True), Opening(BATCHES)], "min_size")
        )
    with pytest.raises(SIGTERMException):
        fit(DiesAfter(0), Listener(path), ckpt_path=path, seed=3)

    assert_same_training(fit(ckpt_path=path, seed=4), whole)


@pytest.mark.parametrize("persistent", [False, True])
def test_a_batch_that_never_comes_ends_the_run_as_the_signal_does(persistent: bool, tmp_path: Path) -> None:
    whole = trainer_in(tmp_path)
    whole.fit(Regression(), with_workers())
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    loader = with_workers(Dies(2), num_workers=1, prefetch_factor=1, persistent_workers=persistent)

    with pytest.raises(SIGTERMException) as ended:
        trainer_in(tmp_path, listener).fit(module, loader)

    assert ended.value.code == 143
    assert listener.heard == PREEMPTED
    assert module.marks in ([], ["t0"])  # the first batch may have been on its way
    resumed, again = trainer_in(tmp_path), Regression()
    resumed.fit(again, with_workers(), ckpt_path=tmp_path / "saved.ckpt")
    assert module.marks + again.marks == [f"t{i % BATCHES}" for i in range(2 * BATCHES)]
    assert_same_training(resumed, whole)


@pytest.mark.parametrize("entry", ["fit", "validate", "test", "predict"])
def test_an_evaluation_that_waits_in_vain_ends_so_too(entry: str, tmp_path: Path) -> None:
    listener, module = Listener(tmp_path / "saved.ckpt"), Regression()
    trainer, loader = trainer_in(tmp_path, listener), with_workers(Dies(0))

    loaders = (with_workers(), loader) if entry == "fit" else (loader,)

    with pytest.raises(SIGTERMException):
        getattr(trainer, entry)(module, *loaders)

    assert listener.heard == [("on_preemption", 15), ("on_exception", "SIGTERMException"), ("teardown", entry)]
    assert module.training
    assert torch.load(tmp_path / "saved.ckpt", weights_only=True)["global_step"] == (BATCHES if entry == "fit" else 0)


def test_a_step_that_goes_on_fetching_is_not_left_waiting(tmp_path: Path) -> None:
    class Fetches(Regression):
        def training_step(self, dataloader_iter: Any) -> torch.Tensor:  # type: ignore[override]
            first, _, _ = next(dataloader_iter)
            if self.global_step == 1:
                kill_the_group()
            second, index, _ = next(dataloader_iter)
            return super().training_step([torch.cat(pair) for pair in zip(first, second, strict=True)], index)

    listener, module = Listener(tmp_path / "saved.ckpt"), Fetches()
    with pytest.raises(SIGTERMException):
        trainer_in(tmp_path, listener).fit(module, with_workers(samples(12)))

    assert listener.heard == PREEMPTED
    assert torch.load(tmp_path / "saved.ckpt", weights_only=True)["global_step"] in (1, 2)


def test_a_worker_that_is_killed_without_a_signal_for_the_run_is_an_error(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "saved.ckpt")
    with pytest.raises(RuntimeError, match="is killed by signal: Terminated"):
        trainer_in(tmp_path, LambdaCallback(on_train_batch_start=once(kill_the_workers, 2)), listener).fit(
            Regression(), with_workers()
        )
    assert listener.heard == [("on_exception", "RuntimeError"), ("teardown", "fit")]


def test_an_error_of_the_users_own_data_stays_what_it_is_when_the_signal_has_come(tmp_path: Path) -> None:
    class Unreadable(Dies):
        def __getitem__(self, index: int) -> Any:
            if index == self.sample:
                os.kill(os.getppid() if get_worker_info() else os.getpid(), signal.SIGTERM)
                raise ValueError("sample is unreadable")
            return self.data[index]

    for workers in (0, 1):
        loader = with_workers(Unreadable(0), num_workers=workers, multiprocessing_context="fork" if workers else None)
        with pytest.raises(ValueError, match="sample is unreadable"):
            trainer_in(tmp_path).fit(Regression(), loader)


def test_workers_that_die_while_the_run_is_unwound_disturb_nobody(tmp_path: Path) -> None:
    listener = Listener()

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        trainer_in(
            tmp_path,
            LambdaCallback(on_before_backward=interrupt, on_exception=lambda *_: kill_the_workers()),
            listener,
        ).fit(Regression(), with_workers())

    assert listener.heard == [("on_exception", "KeyboardInterrupt"), ("teardown", "fit")]
    assert not hasattr(caught.value, "__notes__")


def test_a_worker_that_died_with_a_lock_is_not_waited_for() -> None:
    iterator: Any = iter(with_workers())
    next(iterator)
    iterator._workers_done_event._cond.acquire()  # as a worker has it, each time that it looks whether it should end
    with suppress(RuntimeError):  # torch's handler, if it runs here already
        iterator._workers[0].kill()
        os.waitid(os.P_PID, iterator._workers[0].pid, os.WEXITED | os.WNOWAIT)

    ended = threading.Thread(target=shut_down, args=(iterator,), daemon=True)
    ended.start()
    ended.join(DEADLINE_S)

    assert not ended.is_alive()
    assert all(worker.exitcode for worker in iterator._workers)


PROGRAM = """
import sys
from pathlib import Path

import torch
from hookloop import Callback, LightningModule, Order, Trainer
from torch.utils.data import DataLoader, TensorDataset

path, how = Path(sys.argv[1]), sys.argv[2]


class Saver(Callback):
    order = Order.LAST

    def on_preemption(self, trainer, pl_module, signum):
        trainer.save_checkpoint(path)


class Module(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        if self.global_step == 3:
            print("training", flush=True)
        return self.layer(batch[0] if how != "several" else batch[1][0]).square().mean()

    def validation_step(self, batch, batch_idx):
        self.layer(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters())


def loader():
    return DataLoader(
        TensorDataset(torch.ones(400, 2)), batch_size=4, num_workers=2, persistent_workers=how == "persistent"
    )


trainer = Trainer(max_epochs=-1, callbacks=[Saver()], logger=False, registered_callbacks=False)
trainer.fit(Module(), [loader(), loader()] if how == "several" else loader(), loader())
"""


@pytest.mark.parametrize("how", ["one", "persistent", "several"])
@pytest.mark.parametrize("seed", range(2))
def test_a_process_group_that_is_terminated_at_any_moment_ends_with_143_and_a_checkpoint(
    how: str, seed: int, tmp_path: Path
) -> None:
    script, path = tmp_path / "program.py", tmp_path / "saved.ckpt"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script), str(path), how],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = threading.Timer(DEADLINE_S, os.killpg, (process.pid, signal.SIGKILL))
    deadline.start()
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "training\n"
        threading.Event().wait(random.Random(f"{how} {seed}").random() / 2)
        os.killpg(process.pid, signal.SIGTERM)
        _, err = process.communicate()
    finally:
        deadline.cancel()
        process.kill()
    assert process.returncode == 143, err
    assert torch.load(path, weights_only=True)["global_step"] >= 3


def test_a_process_that_has_the_default_handler_again_is_not_harmed_by_a_child_that_ends(tmp_path: Path) -> None:
    next(iter(with_workers()))  # torch has put its handler in place, and does so once in a process
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child_ends = LambdaCallback(on_train_batch_start=lambda *arguments: signal.raise_signal(signal.SIGCHLD))
    try:
        trainer = trainer_in(tmp_path, child_ends, max_epochs=1)
        trainer.fit(Regression(), DataLoader(samples(), batch_size=2))
        assert trainer.global_step == BATCHES
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGCHLD, before)
