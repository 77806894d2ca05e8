"""`WindowStart`: how things were when the running window of batches began, put into words when somebody asks."""

from collections.abc import Callable, Mapping
from typing import Any


class WindowStart:
    """Entries that a checkpoint gets in place of those of now, where a window is under way.

    Attributes:
        mark: what was taken when the window began and has not been asked for yet; None if nothing was.
        tell: makes entries of a mark.
    """

    __slots__ = ("_entries", "mark", "tell")

    def __init__(self) -> None:
        self.mark: Any = None
        self.tell: Callable[[Any], dict[str, Any]] | None = None
        self._entries: dict[str, Any] = {}

    def entries(self) -> Mapping[str, Any]:
        """Them, and the values that they had; {} where nobody keeps them."""
        if self.mark is not None and self.tell is not None:
            self._entries, self.mark = self.tell(self.mark), None
        return self._entries

    def restore(self, entries: Mapping[str, Any]) -> None:
        """Take over those of a checkpoint that was saved inside the window."""
        self._entries, self.mark = dict(entries), None
