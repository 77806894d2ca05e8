"""`run_on_ranks`: a function in several real processes that talk to each other through torch.distributed's gloo."""

import multiprocessing
import pickle
import time
import traceback
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor, distributed

from hookloop.errors import HookloopError, MisconfigurationError
from hookloop.strategies import SingleDeviceStrategy

P = ParamSpec("P")
T = TypeVar("T")

_REDUCTIONS = {"mean": "SUM", "avg": "SUM", "sum": "SUM", "min": "MIN", "max": "MAX"}


class Ranks:
    """What the processes of one `run_on_ranks` say to each other: the `Collectives` of their strategy."""

    @property
    def global_rank(self) -> int:
        """Index of this process, 0-based."""
        return distributed.get_rank()

    @property
    def local_rank(self) -> int:
        """The same: all processes are on this machine."""
        return distributed.get_rank()

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return distributed.get_world_size()

    def barrier(self, name: str | None = None) -> None:
        """Wait until every rank is here."""
        distributed.barrier()

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The object that rank `src` passed, on every rank."""
        objects = [obj]
        distributed.broadcast_object_list(objects, src)
        return objects[0]

    def reduce(self, tensor: Tensor, reduce_op: str = "mean") -> Tensor:
        """Elementwise mean, sum, min or max over the ranks; a new tensor of the same shape on every rank."""
        if reduce_op.lower() not in _REDUCTIONS:
            raise MisconfigurationError(f"reduce_op={reduce_op!r} must be one of {', '.join(map(repr, _REDUCTIONS))}.")
        reduced = tensor.detach().clone()
        distributed.all_reduce(reduced, getattr(distributed.ReduceOp, _REDUCTIONS[reduce_op.lower()]))
        return reduced / self.world_size if reduce_op.lower() in ("mean", "avg") else reduced

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, stacked: shape (world_size, *tensor.shape)."""
        gathered = [torch.empty_like(tensor) for _ in range(self.world_size)]
        distributed.all_gather(gathered, tensor.detach().contiguous())
        return torch.stack(gathered)

    def any(self, decision: bool) -> bool:
        """Whether any rank decided True."""
        return bool(self.reduce(torch.tensor(int(decision)), "max"))


class ReplicaStrategy(SingleDeviceStrategy):
    """One model on the CPU in each process. The ranks talk, but gradients are not exchanged: each trains its own."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.collectives = Ranks()


def run_on_ranks(
    function: Callable[Concatenate[ReplicaStrategy, P], T], *arguments: P.args, **keywords: P.kwargs
) -> list[T]:
    """Call a function in two real processes at once, each of which is a rank of one run.

        def train(strategy):
            trainer = Trainer(strategy=strategy, callbacks=[Mine()], max_epochs=1)
            trainer.fit(TinyModule(), datamodule=TinyDataModule())
            return trainer.global_rank, trainer.is_global_zero

        run_on_ranks(train)

    With the strategy that the function gets, a Trainer and its callbacks have a rank, and `trainer.strategy`
    broadcasts, reduces and gathers for real. What a callback does on rank zero alone, and whether all ranks take the
    same path, can be tried so. Gradients are not exchanged, and data is not divided: there is no strategy for several
    devices yet.

    Args:
        function: of a module that a new process can import; takes a strategy, then `arguments` and `keywords`. A script
            calls this below `if __name__ == "__main__":`.
        *arguments: what else it gets; pickled.
        **keywords: the same by name.

    Returns:
        What it returned on each rank, in their order.

    Raises:
        MisconfigurationError: the function or an argument cannot be pickled.
        HookloopError: it raised on a rank, or that process died; the message has its traceback. The others are ended.
        TimeoutError: it takes longer than two minutes, as when one rank waits for another one.
    """
    return _results(2, 120.0, function, arguments, keywords)


def _results(
    ranks: int, seconds: float, function: Callable[..., Any], arguments: Sequence[Any], keywords: dict[str, Any]
) -> list[Any]:
    try:
        work = pickle.dumps((function, tuple(arguments), keywords))
    except Exception as error:
        raise MisconfigurationError(
            f"run_on_ranks({function!r}): it cannot be sent to another process ({error}). Pass a function that stands "
            "at the top of a module, and arguments that can be pickled."
        ) from error
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = []
    waiting: dict[Connection, int] = {}
    results: dict[int, Any] = {}
    with TemporaryDirectory() as folder:
        store = Path(folder, "store").as_uri()
        try:
            for rank in range(ranks):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_work, args=(rank, ranks, store, seconds, work, theirs), daemon=True)
                process.start()
                theirs.close()
                processes.append(process)
                waiting[ours] = rank
            end = time.monotonic() + seconds
            while waiting:
                ready = wait(list(waiting), max(0.0, end - time.monotonic()))
                if not ready:
                    raise TimeoutError(
                        f"run_on_ranks: {sorted(waiting.values())} of {ranks} ranks have not returned after "
                        f"{seconds:g} seconds. Look whether all ranks make the same calls of the strategy in the same "
                        "order."
                    )
                answered = [one for one in waiting if one in ready]
                # One that died first: what the others raise then, for want of it, is no cause.
                for one in sorted(answered, key=lambda one: processes[waiting[one]].exitcode in (None, 0)):
                    rank = waiting.pop(one)
                    results[rank] = _answer(one, rank, ranks, processes[rank])
            for each in processes:
                each.join(seconds)
        finally:
            for each in processes:
                if each.is_alive():
                    each.kill()
                each.join()
            for one in waiting:
                one.close()
    return [results[rank] for rank in range(ranks)]


def _answer(ours: Connection, rank: int, ranks: int, process: BaseProcess) -> Any:
    try:
        with ours:
            done, answer = ours.recv()
    except EOFError:
        process.join()
        raise HookloopError(f"Rank {rank} of {ranks} died with exit code {process.exitcode}.") from None
    if not done:
        raise HookloopError(f"Rank {rank} of {ranks} raised:\n{answer}")
    return answer


def _work(rank: int, ranks: int, store: str, seconds: float, work: bytes, theirs: Connection) -> None:
    torch.set_num_threads(1)
    try:
        function, arguments, keywords = pickle.loads(work)
        distributed.init_process_group(
            "gloo", init_method=store, rank=rank, world_size=ranks, timeout=timedelta(seconds=seconds)
        )
        answer = True, function(ReplicaStrategy(), *arguments, **keywords)
        distributed.barrier()  # nobody leaves while another one still asks
        distributed.destroy_process_group()
    except Exception:  # noqa: BLE001 - it is told where the test is
        answer = False, traceback.format_exc()
    theirs.send(answer)
