"""What is measured: one file for each way to write the loop."""

import importlib
import importlib.util

from .subject import Subject

# Name of the file, and what has to be installed for it.
_SUBJECTS = (
    ("plain", "torch"),
    ("floor", "torch"),
    ("on_hookloop", "hookloop"),
    ("on_lightning", "lightning"),
    ("on_ignite", "ignite"),
)


def subjects() -> list[Subject]:
    """All subjects that are installed, the plain loop first."""
    found: list[Subject] = []
    for file, needed in _SUBJECTS:
        if importlib.util.find_spec(needed) is not None:
            found.append(importlib.import_module(f"{__name__}.{file}").SUBJECT)
    return found
