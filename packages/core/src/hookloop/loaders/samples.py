"""`Samples`: which samples the batches of a prediction hold, and at which batch each of its loaders begins."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from torch.utils.data import DataLoader, IterableDataset

LeftOut: TypeAlias = Callable[[int, int, list[Any]], None]
"""Is called with the index of a loader, of a batch that it leaves out, and with the samples of that batch."""


class Samples:
    """Told to the loops by callbacks: from then on, the samples of each batch are known when it is there.

    Of a DataLoader over a map-style dataset, whatever its sampler and its workers do. Only as many are kept as workers
    have read ahead.

    Attributes:
        current: the samples of the running batch; None where nobody can tell.
    """

    def __init__(self) -> None:
        self.current: list[Any] | None = None
        self._begins: list[Sequence[int]] = []
        self._left_out: list[LeftOut] = []
        self._waiting: deque[list[Any]] | None = None

    def ask(self, begins: Sequence[int], left_out: LeftOut | None) -> None:
        """Somebody wants to know, and has no use for the batches before `begins`, one number for each loader."""
        self._begins.append(begins)
        if left_out is not None:
            self._left_out.append(left_out)

    def begin(self, loader: int) -> int:
        """The batch at which a loader begins: the first one that anybody has a use for."""
        return min((begins[loader] if loader < len(begins) else 0 for begins in self._begins), default=0)

    def follow(self, stream: Any, loader: int, begin: int) -> tuple[Any, int]:
        """What is gone through in place of a loader, and how many batches of it are to be read and left out."""
        self._waiting = None
        if not _tells(stream):
            return stream, begin
        self._waiting = deque()
        name = "sampler" if stream.batch_sampler is None else "batch_sampler"
        twin = copy.copy(stream)
        # Around DataLoader.__setattr__, which refuses to change a sampler; and no iterator of the given one's.
        vars(twin).update({name: _Noting(getattr(stream, name), self, loader, begin), "_iterator": None})
        return twin, 0

    def arrive(self) -> None:
        """The next batch is there."""
        self.current = self._waiting.popleft() if self._waiting else None

    def note(self, samples: list[Any]) -> None:
        """A sampler has drawn a batch."""
        assert self._waiting is not None
        self._waiting.append(samples)

    def leave_out(self, loader: int, batch: int, samples: list[Any]) -> None:
        """A sampler has drawn a batch that nobody has a use for, and that is not read."""
        for told in self._left_out:
            told(loader, batch, samples)


class _Noting:
    """Stands in for a sampler, and notes what it draws."""

    def __init__(self, sampler: Any, samples: Samples, loader: int, begin: int) -> None:
        self.sampler = sampler
        self._samples, self._loader, self._begin = samples, loader, begin

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "sampler":
            raise AttributeError(name)
        return getattr(self.sampler, name)

    def __iter__(self) -> Iterator[Any]:
        for batch, index in enumerate(self.sampler):
            samples = list(index) if isinstance(index, list | tuple) else [index]
            if batch < self._begin:
                self._samples.leave_out(self._loader, batch, samples)
                continue
            self._samples.note(samples)
            yield index


def _tells(stream: Any) -> bool:
    """Whether a batch's samples are known: batches arrive in the order in which a sampler has drawn them."""
    if not isinstance(stream, DataLoader) or isinstance(stream.dataset, IterableDataset):
        return False
    return not stream.num_workers or getattr(stream, "in_order", True)
