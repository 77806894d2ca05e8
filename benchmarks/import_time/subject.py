"""What is imported."""

import importlib.metadata
import importlib.util
from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """One import.

    Attributes:
        name: heads the row.
        modules: what is imported, in this order.
        target: hookloop's target: milliseconds of CPU time, modules, megabytes.
    """

    name: str
    modules: tuple[str, ...]
    target: tuple[int, int, int] | None = None


def subjects() -> list[Subject]:
    """What is installed here."""
    families = sorted(name for name in _top_level_modules() if name.startswith("hookloop_callbacks_"))
    wanted = [
        Subject("hookloop", ("hookloop",), target=(100, 80, 5)),
        *([Subject("hookloop with callbacks", ("hookloop", *families))] if families else []),
        Subject("Lightning", ("lightning.pytorch",)),
        Subject("Ignite", ("ignite.engine",)),
    ]
    return [subject for subject in wanted if all(map(_installed, subject.modules))]


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module.partition(".")[0]) is not None


def _top_level_modules() -> set[str]:
    names = {distribution.metadata["Name"] for distribution in importlib.metadata.distributions()}
    return {name.replace("-", "_") for name in names if name}
