"""`AttributeDict`: a dict whose items are attributes too."""

from typing import Any


class AttributeDict(dict[str, Any]):
    """A dict with `settings.lr` for `settings["lr"]`, to read, to set and to delete.

    It prints one item a line, sorted by name. Names that dicts have as methods (`items`, `keys`) are only to be had in
    brackets.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {_listed(self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"{type(self).__name__} has no {name!r}; it has {_listed(self)}")
        del self[name]

    def __repr__(self) -> str:
        names = {f'"{name}":': value for name, value in sorted(self.items(), key=lambda item: str(item[0]))}
        width = max(map(len, names), default=0)
        return "\n".join(f"{name:{width}} {value}" for name, value in names.items())


def _listed(names: dict[str, Any]) -> str:
    return ", ".join(map(str, names)) or "nothing"
