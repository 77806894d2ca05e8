"""A copy of a state as it is now, in memory that is kept from one copy to the next."""

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

_PLAIN = frozenset({int, float, str, bytes, bool, complex, type(None), torch.dtype, torch.device, torch.Size})
"""Types whose objects never change: they need no copy."""


class Snapshots:
    """Makes copies of states: nested containers of tensors and plain values.

    torch.save writes storages, and tensors are views of them. So storages are copied, each one once, and every tensor
    becomes the same view of the copy: tensors that share memory share it in the copy too, and the file is the one that
    would have been written from the state itself.

    The memory of the last copy is used again for the next one, as fresh memory costs several times the copy: the former
    copy must be done with. Storages of a CUDA device go to page-locked memory, and nobody waits for them here.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, bool], list[torch.UntypedStorage]] = {}

    def take(self, state: Any) -> tuple[Any, Callable[[], None]]:
        """Copy a state.

        Args:
            state: containers of tensors and plain values. Of anything else, torch.save makes the copy; what it cannot
                write is passed on as it is.

        Returns:
            The copy, and what to call before it is read: it waits for devices that are still copying.
        """
        copying = _Copying(self._kept)
        with torch.no_grad():
            copy = copying.of(state)
        self._kept = copying.used
        events = [torch.cuda.Event() for _ in copying.devices]
        for event, device in zip(events, copying.devices, strict=True):
            event.record(torch.cuda.current_stream(device))

        def ready() -> None:
            for event in events:
                event.synchronize()

        return copy, ready


class _Copying:
    """One copy in the making.

    Args:
        kept: memory to use, by its size in bytes and whether it is page-locked; what is taken is taken out.

    Attributes:
        used: the memory that the copy is in.
        devices: the CUDA devices from which something was copied.
    """

    def __init__(self, kept: dict[tuple[int, bool], list[torch.UntypedStorage]]) -> None:
        self.used: dict[tuple[int, bool], list[torch.UntypedStorage]] = {}
        self.devices: set[torch.device] = set()
        self._kept = kept
        self._storages: dict[tuple[int, int], torch.UntypedStorage] = {}
        # By id, with the original: as long as that is there, nobody else gets its id.
        self._done: dict[int, tuple[Any, Any]] = {}

    def of(self, value: Any) -> Any:
        """The copy of a value, and of all that is in it."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        known = self._done.get(id(value))
        if known is not None:
            return known[1]
        if kind is Tensor or kind is nn.Parameter:
            copy = self._tensor(value) if _is_a_plain_view(value) else _through_torch_save(value)
        elif kind is dict or kind is OrderedDict:
            copy = kind()
            self._done[id(value)] = value, copy  # before what is in it: it may be in itself
            for key, item in value.items():
                copy[key] = self.of(item)
            if kind is OrderedDict and vars(value):
                vars(copy).update(self.of(vars(value)))  # the _metadata of a module's state
            return copy
        elif kind is list:
            copy = []
            self._done[id(value)] = value, copy
            copy.extend(map(self.of, value))
            return copy
        elif kind is tuple:
            copy = tuple(map(self.of, value))
        else:
            copy = _through_torch_save(value)
        self._done[id(value)] = value, copy
        return copy

    def _tensor(self, tensor: Tensor) -> Tensor:
        original = tensor.untyped_storage()
        storage, is_new = self._storage_for(original)
        copy = torch.empty(0, dtype=tensor.dtype, device="cpu")
        copy.set_(storage, tensor.storage_offset(), tensor.size(), tensor.stride())
        if is_new:
            from_device = original.device.type == "cuda"
            if tensor.nbytes == original.nbytes() and tensor.is_contiguous() and not tensor.is_conj():
                copy.copy_(tensor, non_blocking=from_device)  # all of it, and faster in its own dtype than in bytes
            else:
                storage.copy_(original, non_blocking=from_device)
            if from_device:
                self.devices.add(original.device)
        if tensor.is_conj():
            copy = copy.conj()
        if type(tensor) is nn.Parameter:
            copy = nn.Parameter(copy, tensor.requires_grad)
        elif tensor.requires_grad:
            copy.requires_grad_()
        if vars(tensor):
            vars(copy).update(self.of(vars(tensor)))
        return copy

    def _storage_for(self, original: torch.UntypedStorage) -> tuple[torch.UntypedStorage, bool]:
        """The memory for the copy of a storage, and whether the copy is still to be made."""
        size = original.nbytes()
        known = self._storages.get((original.data_ptr(), size))
        if known is not None:
            return known, False
        locked = original.device.type == "cuda"
        free = self._kept.get((size, locked))
        memory = free.pop() if free else _new_memory(size, locked)
        self.used.setdefault((size, locked), []).append(memory)
        self._storages[original.data_ptr(), size] = memory
        return memory, True


def _is_a_plain_view(tensor: Tensor) -> bool:
    """Whether a tensor is a dtype, a shape and strides over a storage, and nothing else."""
    return (
        tensor.layout is torch.strided
        and tensor.device.type in ("cpu", "cuda")
        and not (tensor.is_quantized or tensor.is_neg())
    )


def _new_memory(size: int, locked: bool) -> torch.UntypedStorage:
    if locked:
        return torch.empty(size, dtype=torch.uint8, device="cpu", pin_memory=True).untyped_storage()
    return torch.UntypedStorage(size)


def _through_torch_save(value: Any) -> Any:
    written = io.BytesIO()
    try:
        torch.save(value, written)
    except (pickle.PicklingError, AttributeError, TypeError, ValueError, RuntimeError):
        return value  # whoever writes it says what is wrong with it
    written.seek(0)
    return torch.load(written, weights_only=False)  # written one line above, so nobody else's code is in it
