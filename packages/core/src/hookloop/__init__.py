"""hookloop trains PyTorch models: a minimal core, and callbacks that are installed one by one.

Names are imported when they are first used: the command line answers `hookloop --help` without loading torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hookloop.callback import Callback, LambdaCallback, Order
    from hookloop.datamodule import LightningDataModule
    from hookloop.module import LightningModule
    from hookloop.options import TrainerOptions
    from hookloop.random_state import seed_everything
    from hookloop.trainer import Trainer

    __version__: str

__all__ = [
    "Callback",
    "LambdaCallback",
    "LightningDataModule",
    "LightningModule",
    "Order",
    "Trainer",
    "TrainerOptions",
    "seed_everything",
]

_HOMES = {
    "Callback": "callback",
    "LambdaCallback": "callback",
    "LightningDataModule": "datamodule",
    "LightningModule": "module",
    "Order": "callback",
    "Trainer": "trainer",
    "TrainerOptions": "options",
    "seed_everything": "random_state",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        # When somebody asks for it: it is read from a file.
        from importlib.metadata import PackageNotFoundError, version

        try:
            value = globals()[name] = version("hookloop")
        except PackageNotFoundError:
            value = "unknown"  # run from a source tree that is not installed
        return value
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    # `import hookloop as hl; hl.callbacks.X`: whatever is in this folder is an attribute.
    place = f"{__name__}.{name}"
    if not name.startswith("_"):
        try:
            return importlib.import_module(place)
        except ModuleNotFoundError as error:
            if error.name != place:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
