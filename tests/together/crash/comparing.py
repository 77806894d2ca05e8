"""Whether two checkpoints hold the same, byte for byte."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def differences(one: Path, other: Path) -> list[str]:
    """Where two checkpoint files differ, by the names on the way there. Folders of their runs may have other names.

    Args:
        one: a file in the folder of a run.
        other: one of the same place in that of another run.
    """
    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return list(_differences(first, second, "", (str(one.parent), str(other.parent))))


def _differences(one: Any, other: Any, where: str, folders: tuple[str, str]) -> Iterator[str]:
    if type(one) is not type(other):
        yield f"{where}: {type(one).__name__}, {type(other).__name__}"
    elif isinstance(one, Tensor):
        if (one.dtype, one.shape) != (other.dtype, other.shape) or _bytes_of(one) != _bytes_of(other):
            yield f"{where}: {one.flatten()[:3].tolist()}..., {other.flatten()[:3].tolist()}..."
    elif isinstance(one, Mapping):
        keys = [
            [str(key).replace(folder, "") for key in part] for part, folder in zip((one, other), folders, strict=True)
        ]
        if keys[0] != keys[1]:
            yield f"{where}: {keys[0]}, {keys[1]}"
            return
        for key, mine, yours in zip(keys[0], one.values(), other.values(), strict=True):
            if where.startswith(".callbacks.") and key == "run":
                continue  # ModelCheckpoint numbers runs at random, to know its files from those of others
            yield from _differences(mine, yours, f"{where}.{key}", folders)
    elif isinstance(one, Sequence) and not isinstance(one, str | bytes):
        if len(one) != len(other):
            yield f"{where}: {len(one)} items, {len(other)}"
            return
        for index, (mine, yours) in enumerate(zip(one, other, strict=True)):
            yield from _differences(mine, yours, f"{where}[{index}]", folders)
    elif isinstance(one, str):
        if one.replace(folders[0], "") != other.replace(folders[1], ""):
            yield f"{where}: {one!r}, {other!r}"
    elif one != other and not (one != one and other != other):
        yield f"{where}: {one!r}, {other!r}"


def _bytes_of(tensor: Tensor) -> bytes:
    return bytes(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()) if tensor.numel() else b""
