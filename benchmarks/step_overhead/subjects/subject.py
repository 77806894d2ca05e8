"""`Subject`: one way to write the loop."""

from abc import ABC, abstractmethod
from typing import Any

from ..column import Column


class Subject(ABC):
    """Trains, validates and predicts; each call is one epoch over the loader, everything around it included.

    Attributes:
        name: heads the row.
    """

    name: str

    def supports(self, column: Column) -> bool:
        """Whether the column makes sense for it."""
        return True

    @abstractmethod
    def train(self, column: Column, loader: Any) -> None: ...

    @abstractmethod
    def validate(self, loader: Any) -> None: ...

    @abstractmethod
    def predict(self, loader: Any) -> None: ...
