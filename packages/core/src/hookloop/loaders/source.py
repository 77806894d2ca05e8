"""`Source`: who supplies the loaders of a stage: the caller's argument, the datamodule, or the module."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader

from hookloop.datamodule import LightningDataModule
from hookloop.errors import MisconfigurationError
from hookloop.module import LightningModule
from hookloop.profilers import Profiler, timed


@dataclass(frozen=True, slots=True)
class Source:
    """Supplies loaders when they are first needed.

    Attributes:
        get: gives the loader or loaders; None if nobody supplies any.
        name: who supplies them, for messages.
        stays: whether it gives the same ones whenever it is asked.
    """

    get: Callable[[], Any] | None
    name: str
    stays: bool = False

    @classmethod
    def of(
        cls,
        stage: str,
        given: Any,
        datamodule: LightningDataModule | None,
        module: LightningModule,
        profiler: Profiler | None = None,
    ) -> "Source":
        """The source of a stage: what was passed goes before the datamodule's, and that before the module's.

        Args:
            stage: "train", "val", "test" or "predict".
            given: what was passed to the entry point, or None.
            datamodule: the run's datamodule, if it has one.
            module: the module.
            profiler: is told when a method of one of them is called.
        """
        method = f"{stage}_dataloader"
        if given is not None:
            return cls(lambda: given, f"the {stage} dataloaders that were passed", stays=True)
        if datamodule is not None and _defines(datamodule, LightningDataModule, method):
            name = f"{type(datamodule).__name__}.{method}"
            get = timed(getattr(datamodule, method), f"[LightningDataModule]{name}", profiler)
            return cls(get, f"{name}()")
        if _defines(module, LightningModule, method):
            name = f"{type(module).__name__}.{method}"
            return cls(timed(getattr(module, method), f"[LightningModule]{name}", profiler), f"{name}()")
        return cls(None, f"no {stage} dataloader")

    def require(self, stage: str) -> None:
        """Check that somebody supplies loaders.

        Raises:
            MisconfigurationError: nobody does.
        """
        if self.get is None:
            raise MisconfigurationError(
                f"There is no {stage} dataloader. Pass one to the Trainer's entry point, or "
                f"define {stage}_dataloader() "
                "on the module or the datamodule."
            )

    @property
    def exists(self) -> bool:
        """Whether anybody supplies loaders."""
        return self.get is not None

    def load(self, stage: str) -> Any:
        """Ask for the loader or loaders.

        Raises:
            MisconfigurationError: nobody supplies any, or what came cannot be iterated.
        """
        self.require(stage)
        assert self.get is not None
        loaders = self.get()
        parts: list[Any] = [loaders]
        if not isinstance(loaders, DataLoader):
            from hookloop.loaders.several import parts_of  # for those who have several, or none of torch's

            parts = parts_of(loaders)
        for loader in parts:
            iterable = hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")
            if not iterable or isinstance(loader, type):
                raise MisconfigurationError(
                    f"{_capital(self.name)} gave {loader!r} ({type(loader).__name__}), which cannot be iterated. "
                    "A DataLoader or any other iterable of batches is needed."
                )
        return loaders


def _defines(owner: object, base: type, method: str) -> bool:
    own = vars(owner).get(method, getattr(type(owner), method, None))
    return own is not None and own is not getattr(base, method)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
