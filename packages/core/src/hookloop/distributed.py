"""What processes of one run say to each other. `SingleProcess` answers for a run of one process, at no cost."""

from typing import Any, Protocol

from torch import Tensor


class Collectives(Protocol):
    """Communication between the ranks of a run. Every rank has to make the same calls in the same order."""

    @property
    def global_rank(self) -> int:
        """Index of this process among all processes of the run, 0-based."""
        ...

    @property
    def local_rank(self) -> int:
        """Index of this process among those on this machine, 0-based."""
        ...

    @property
    def world_size(self) -> int:
        """Number of processes in the run."""
        ...

    def barrier(self, name: str | None = None) -> None:
        """Wait until every rank is here."""
        ...

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """The object that rank `src` passed, on every rank."""
        ...

    def reduce(self, tensor: Tensor, reduce_op: str = "mean") -> Tensor:
        """Elementwise mean, sum, min or max over the ranks; a tensor of the same shape on every rank."""
        ...

    def all_gather(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks, stacked: shape (world_size, *tensor.shape)."""
        ...

    def any(self, decision: bool) -> bool:
        """Whether any rank decided True."""
        ...


class SingleProcess:
    """The collectives of a run with one process: every answer is the question."""

    global_rank = 0
    local_rank = 0
    world_size = 1

    def barrier(self, name: str | None = None) -> None:
        """Return at once."""

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Return `obj`."""
        return obj

    def reduce(self, tensor: Tensor, reduce_op: str = "mean") -> Tensor:
        """Return `tensor`."""
        return tensor

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return `tensor` with a leading dimension of size 1."""
        return tensor.unsqueeze(0)

    def any(self, decision: bool) -> bool:
        """Return `decision`."""
        return decision
