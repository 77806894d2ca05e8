"""The bytes of a checkpoint: how they are written (`writing`) and read (`reading`), what they may hold (`loadable`).

Which sets of weights one holds is told by `weight_sets`.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hookloop.checkpoint_file.writing import FORMAT, write_checkpoint

if TYPE_CHECKING:
    from hookloop.checkpoint_file.reading import (
        check_is_there,
        checked_contents,
        read_checkpoint,
        verify_checkpoint,
        where_it_was,
    )

__all__ = [
    "FORMAT",
    "check_is_there",
    "checked_contents",
    "read_checkpoint",
    "verify_checkpoint",
    "where_it_was",
    "write_checkpoint",
]


if not TYPE_CHECKING:  # or a type checker would believe that every name is there

    def __getattr__(name: str) -> Any:  # a run that only saves reads nothing
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module("hookloop.checkpoint_file.reading"), name)
        globals()[name] = value
        return value
