"""A digest of a module's weights: two models of one class are not taken for one another."""

import ctypes
from hashlib import blake2b

from torch import Tensor, nn


def digest_of(module: nn.Module) -> str:
    """32 hexadecimal digits for all tensors of the module's state_dict, their names, shapes and dtypes."""
    digest = blake2b(digest_size=16)
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):
            continue
        tensor = (value.detach().to_dense() if value.layout is not _STRIDED else value.detach()).cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        size = tensor.numel() * tensor.element_size()
        if size:
            # Not through NumPy, which not everybody has, and which does not know all dtypes.
            digest.update((ctypes.c_char * size).from_address(tensor.data_ptr()))
    return digest.hexdigest()


_STRIDED = Tensor().layout
