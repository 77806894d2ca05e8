"""`unchanged`: whatever happens inside, a module, or anything like it, is afterwards what it was, bit for bit."""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_CONTAINERS = (list, dict, set, tuple, deque)


@contextmanager
def unchanged(*owners: Any) -> Iterator[None]:
    """Keep these objects as they are: on the CPU, so that a device has all of its memory inside.

    Of a module and all of its parts: parameters and buffers, gradients, what needs them, modes, and attributes. Of
    other objects: attributes. Attributes that are tensors, numbers, strings, and lists, dicts, sets, tuples and deques
    of them, have their values back; all others are the same object as before, with whatever was done to that.

    Args:
        *owners: modules, datamodules; None is nobody.
    """
    kept: list[Callable[[], None]] = []
    seen: dict[int, Any] = {}
    for owner in owners:
        if owner is None:
            continue
        for part in owner.modules() if isinstance(owner, nn.Module) else [owner]:
            _keep_attributes(part, kept, seen)
    try:
        yield
    finally:
        with torch.no_grad():
            for put_back in reversed(kept):
                put_back()


def _keep_attributes(owner: Any, kept: list[Callable[[], None]], seen: dict[int, Any]) -> None:
    attributes = vars(owner)
    before = dict(attributes)

    def put_back() -> None:
        attributes.clear()
        attributes.update(before)

    kept.append(put_back)
    for value in before.values():
        _keep(value, kept, seen)


def _keep(value: Any, kept: list[Callable[[], None]], seen: dict[int, Any]) -> None:
    if id(value) in seen or not isinstance(value, (Tensor, *_CONTAINERS)):
        return
    seen[id(value)] = value  # kept alive, or another object could get its id
    if isinstance(value, Tensor):
        _keep_tensor(value, kept)
        return
    inside = list(value.values() if isinstance(value, dict) else value)
    if isinstance(value, dict):
        items = dict(value)

        def put_back() -> None:
            value.clear()
            value.update(items)

        kept.append(put_back)
    elif isinstance(value, list):
        kept.append(lambda: value.__setitem__(slice(None), inside))
    elif isinstance(value, set | deque):
        kept.append(lambda: (value.clear(), (value.update if isinstance(value, set) else value.extend)(inside))[0])
    for one in inside:
        _keep(one, kept, seen)


def _keep_tensor(tensor: Tensor, kept: list[Callable[[], None]]) -> None:
    if is_lazy(tensor):
        return
    value, needs, grad = tensor.detach().to("cpu", copy=True), tensor.requires_grad, None
    if tensor.is_leaf and tensor.grad is not None:
        grad = tensor.grad, tensor.grad.detach().to("cpu", copy=True)

    def put_back() -> None:
        if tensor.shape == value.shape and not torch.equal(tensor.detach().cpu(), value):
            tensor.detach().copy_(value)
        if not tensor.is_leaf:
            return
        tensor.requires_grad_(needs)
        tensor.grad = None
        if grad is not None:
            tensor.grad = grad[0].detach().copy_(grad[1])

    kept.append(put_back)
