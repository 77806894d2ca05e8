"""Two ranks in two real processes: what they say to each other, and what is said of one that fails."""

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.testing import run_on_ranks

# In a file of its own: a new process has to import it, and these tests stand in no module that it could import.
FUNCTIONS = """
import os
import sys
import torch
from hookloop import Callback, Trainer
from hookloop.testing import TinyDataModule, TinyModule

def talk(strategy, base):
    rank = strategy.collectives.global_rank
    strategy.barrier("here")
    return {
        "rank": rank,
        "size": strategy.collectives.world_size,
        "process": os.getpid(),
        "broadcast": strategy.broadcast({"of": rank}, 1),
        "mean": strategy.reduce(torch.tensor([base + rank, 0.0])).tolist(),
        "sum": strategy.reduce(torch.tensor(3 + rank), reduce_op="sum").item(),
        "max": strategy.reduce(torch.tensor(3 + rank), reduce_op="max").item(),
        "all": strategy.all_gather(torch.tensor([rank, 7])).tolist(),
        "one": strategy.reduce_boolean_decision(rank == 1, all=False),
        "every": strategy.reduce_boolean_decision(rank == 1, all=True),
    }

class Writes(Callback):
    def __init__(self, folder):
        self.folder = folder
        self.place = None

    def setup(self, trainer, pl_module, stage):
        self.place = trainer.strategy.broadcast(f"{self.folder}/of_{trainer.global_rank}")

    def on_train_end(self, trainer, pl_module):
        if trainer.is_global_zero:
            with open(self.place, "w") as file:
                file.write(str(trainer.world_size))

def train(strategy, folder):
    writes = Writes(folder)
    trainer = Trainer(
        strategy=strategy, callbacks=[writes], max_epochs=1, logger=False, registered_callbacks=False,
        default_root_dir=folder, enable_progress_bar=False,
    )
    trainer.fit(TinyModule(), datamodule=TinyDataModule())
    return trainer.global_rank, trainer.world_size, trainer.is_global_zero, trainer.global_step, writes.place

def fails(strategy):
    if strategy.collectives.global_rank == 1:
        raise LookupError("planted")
    strategy.barrier("for ever")

def dies(strategy):
    if strategy.collectives.global_rank == 0:
        os._exit(3)
    strategy.barrier("for ever")
"""


@pytest.fixture
def functions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "functions_of_ranks.py").write_text(FUNCTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "functions_of_ranks", raising=False)
    return importlib.import_module("functions_of_ranks")


def test_two_processes_broadcast_reduce_gather_and_decide(functions: ModuleType) -> None:
    zero, one = run_on_ranks(functions.talk, 1.0)

    assert (zero.pop("rank"), one.pop("rank")) == (0, 1)
    assert len({zero.pop("process"), one.pop("process"), os.getpid()}) == 3
    assert zero == one
    assert zero == {
        "size": 2,
        "broadcast": {"of": 1},
        "mean": [1.5, 0.0],
        "sum": 7,
        "max": 4,
        "all": [[0, 7], [1, 7]],
        "one": True,
        "every": False,
    }


def test_a_trainer_with_the_strategy_has_a_rank_and_only_rank_zero_writes(
    functions: ModuleType, tmp_path: Path
) -> None:
    place = f"{tmp_path}/of_0"
    assert run_on_ranks(functions.train, folder=str(tmp_path)) == [(0, 2, True, 4, place), (1, 2, False, 4, place)]
    assert Path(place).read_text() == "2"
    assert not (tmp_path / "of_1").exists()


def test_a_rank_that_raises_is_told_with_its_traceback_and_the_other_is_ended(functions: ModuleType) -> None:
    with pytest.raises(HookloopError, match=r"(?s)^Rank 1 of 2 raised:\nTraceback .*in fails.*LookupError: planted"):
        run_on_ranks(functions.fails)


def test_a_rank_that_dies_is_told_with_its_exit_code(functions: ModuleType) -> None:
    with pytest.raises(HookloopError, match=r"^Rank 0 of 2 died with exit code 3\.$"):
        run_on_ranks(functions.dies)


def test_a_function_that_no_other_process_can_import_is_refused() -> None:
    with pytest.raises(MisconfigurationError, match=r"cannot be sent to another process .* at the top of a module"):
        run_on_ranks(lambda strategy: None)
