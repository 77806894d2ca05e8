"""The bytes of a checkpoint: written beside the target and renamed, so that a file of its name is always whole."""

import os
import pickle
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch

from hookloop.errors import CheckpointError

FORMAT = 1
"""Raised when a reader of the former format would misunderstand a file."""


def write_checkpoint(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint.

    It goes to a file beside the target, is synced to disk and renamed; then the folder is synced. Whoever looks at
    `path` sees what was there before or the whole new file, whenever the process ends.

    Args:
        checkpoint: tensors, numbers, strings and containers of them.
        path: the target; its folder is made if it is not there. A file of that name is replaced.

    Raises:
        CheckpointError: it could not be written; nothing has changed at `path`.
    """
    target = Path(path)
    beside = target.parent / f".{uuid4().hex}.partial"
    try:
        if not target.name or target.is_dir():
            raise IsADirectoryError("a file name is needed, and this is a folder")
        if target.exists() and not target.is_file():
            raise FileExistsError("this is a device or a pipe, and the rename would replace it")
        target.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("xb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
        _sync_folder(target.parent)
    except (OSError, RuntimeError, ValueError, pickle.PicklingError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"The checkpoint {target} could not be written ({type(error).__name__}: {error}). What was there before is "
            "unchanged. Check the folder's permissions and free space, and that every state is made of tensors, "
            "numbers, strings and containers of them."
        ) from error
    finally:
        with suppress(OSError, ValueError):
            beside.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself is only on disk once its folder is. Windows cannot open folders, and needs no such thing; a
    # folder that may be written to but not listed cannot be opened either, and its file is there all the same.
    if os.name == "nt":
        return
    with suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def check_is_there(path: str | Path) -> None:
    """Check that there is a file.

    Raises:
        CheckpointError: there is none; the message lists the checkpoints in its folder.
    """
    source = Path(path)
    if not source.is_file():
        beside = sorted(entry.name for entry in source.parent.glob("*.ckpt")) if source.parent.is_dir() else []
        there = f"in that folder: {', '.join(beside)}" if beside else "there is no checkpoint in that folder"
        raise CheckpointError(f"There is no checkpoint {source} ({there}).")


def read_checkpoint(path: str | Path, weights_only: bool = True) -> dict[str, Any]:
    """Read a checkpoint; its tensors are on the CPU.

    Args:
        path: the file.
        weights_only: refuse everything but tensors, numbers, strings and containers of them. False runs whatever code
            the file holds: only for files that you trust.

    Raises:
        CheckpointError: there is no such file, it is damaged, or it holds objects that weights_only refuses.
    """
    check_is_there(path)
    source = Path(path)
    try:
        checkpoint = torch.load(source, map_location="cpu", weights_only=weights_only)
    except pickle.UnpicklingError as error:
        refused = re.search(r"GLOBAL (\S+)", str(error))
        cause = f"it holds a {refused[1]}" if refused else str(error).splitlines()[0]
        raise CheckpointError(
            f"The checkpoint {source} cannot be loaded: it is damaged, or it holds objects other "
            "than tensors, numbers, "
            f"strings and containers of them ({cause}). If you trust the file, pass weights_only=False, which runs the "
            "code that it holds."
        ) from error
    except Exception as error:  # damaged bytes can make torch and pickle raise anything
        raise CheckpointError(
            f"The checkpoint {source} cannot be read ({type(error).__name__}: {error}): it is damaged or incomplete. "
            "Choose another one."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(
            f'{source} is no checkpoint: a dict with "state_dict" is expected, and it holds a '
            f"{type(checkpoint).__name__}. Load weights alone with model.load_state_dict(torch.load(path))."
        )
    written = checkpoint.get("format", FORMAT)
    if not isinstance(written, int) or written > FORMAT:
        raise CheckpointError(
            f"{source} was written by hookloop {checkpoint.get('hookloop_version')} in format "
            f"{checkpoint['format']}, and "
            f"this version reads formats up to {FORMAT}. Upgrade: pip install --upgrade hookloop."
        )
    return checkpoint
