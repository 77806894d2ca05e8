"""Where checkpoints are: paths of this machine, and `protocol://` paths, which go through fsspec.

`paths` is what a path says by itself, `files` what is there, `remote` what fsspec does, `disk_errors` what went wrong.

fsspec comes with torch, and is imported when a path has a protocol. `file://` is a path of this machine.

What is guaranteed where, when a checkpoint is written:

- On this machine: `hookloop.checkpoint_file` says it. A file of the target's name is always whole, and on disk.
- In the object stores that are listed in `OBJECT_STORES`: an object is seen when all of it has arrived, so it is
  written under its own name. That is the store's promise.
- Elsewhere (SFTP, SMB, HDFS, memory, ...): it is written beside the target, its length is compared, and it is moved.
  Where a move is a rename, a file of the target's name is always whole. Where it is a copy and a removal, a reader may
  see less than all of it for the time of the copy; every reader finds that out by its checksums.
- A process that is killed may leave a hidden file ending in ".partial", which nobody takes for a checkpoint.
- Over HTTP, checkpoints can only be read.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookloop.storage.files import exists, is_file, list_checkpoints, modified, opened
    from hookloop.storage.paths import PARTIAL, SUFFIX, StrPath, is_remote, join, local_path
    from hookloop.storage.remote import OBJECT_STORES, download, remove, upload

__all__ = [
    "OBJECT_STORES",
    "PARTIAL",
    "SUFFIX",
    "StrPath",
    "download",
    "exists",
    "is_file",
    "is_remote",
    "join",
    "list_checkpoints",
    "local_path",
    "modified",
    "opened",
    "remove",
    "upload",
]

_HOMES = {
    **dict.fromkeys(("exists", "is_file", "list_checkpoints", "modified", "opened"), "files"),
    **dict.fromkeys(("PARTIAL", "SUFFIX", "StrPath", "is_remote", "join", "local_path"), "paths"),
    **dict.fromkeys(("OBJECT_STORES", "download", "remove", "upload"), "remote"),
}


if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> Any:  # a save to a local path needs `paths` alone
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
