"""Where and in which numbers new tensors are made: `Trainer.init_module`."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def tensors_on(device: torch.device, dtype: torch.dtype | None, empty: bool) -> Iterator[None]:
    """New tensors are made on a device, in a dtype, and layers leave theirs as they find them.

    Args:
        device: where tensors are made that do not say where.
        dtype: what floating tensors are that do not say what; None leaves torch's default.
        empty: whether `torch.nn.init` does nothing: weights are whatever the memory holds, until some are loaded.
    """
    before = torch.get_default_dtype()
    if dtype is not None:
        torch.set_default_dtype(dtype)
    try:
        with device, _NoInit() if empty else nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


class _NoInit(TorchFunctionMode):
    """Functions of torch.nn.init return the tensor that they were given."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)
