"""What callbacks declare about each other: who cannot be in a run with whom, and who runs after whom.

A name in `Callback.conflicts` or `Callback.runs_after` stands for a family ("progress_bar"), or for a class and those
that inherit from it: "package.module.Class", or "package.Class" wherever in the package it is defined. Nothing is
imported for a name, so a package may name classes of packages that are not installed.
"""

from collections.abc import Callable, Iterable, Sequence

from hookloop.callback import Callback, declared_names, order_of
from hookloop.errors import MisconfigurationError

Supplier = Callable[[Callback], object]


def check_conflicts(callbacks: Sequence[Callback], supplier: Supplier | None = None) -> None:
    """Whether everybody can be in a run with everybody else.

    Args:
        callbacks: of one run.
        supplier: tells who supplies a callback; None, or what is None or empty, tells nothing.

    Raises:
        MisconfigurationError: one declares a conflict with another one, or its declaration cannot be read.
    """
    for callback in callbacks:
        for name in declared_names(callback, "conflicts"):
            other = next((other for other in callbacks if other is not callback and _is(other, name)), None)
            if other is not None:
                raise MisconfigurationError(
                    f"{with_home(callback, supplier)} cannot be in a run with {with_home(other, supplier)}: "
                    f"{type(callback).__name__}.conflicts names {name!r}. Keep one of the two: "
                    f"{_drop(callback, supplier)}, or {_drop(other, supplier)}."
                )


def arranged(callbacks: Sequence[Callback]) -> list[Callback]:
    """Callbacks in the order that they declare.

    Args:
        callbacks: sorted by `Order`.

    Returns:
        The same; inside each Order everybody stands after those in its `runs_after`, and else nobody has moved.

    Raises:
        MisconfigurationError: some are to run after each other, one is to run after one of a later Order, or a
            declaration cannot be read.
    """
    after = {id(one): declared_names(one, "runs_after") for one in callbacks}
    if not any(after.values()):
        return list(callbacks)
    waits = {
        id(one): [other for other in callbacks if other is not one and any(_is(other, name) for name in after[id(one)])]
        for one in callbacks
    }
    for one in callbacks:
        for other in waits[id(one)]:
            if order_of(other) > order_of(one):
                raise MisconfigurationError(
                    f"{with_home(one)} declares that it runs after {with_home(other)}, and its Order."
                    f"{order_of(one).name} is before Order.{order_of(other).name}. Give it that order, or take the "
                    "name out of its runs_after."
                )
    done: list[Callback] = []
    left = list(callbacks)
    while left:
        ready = next((one for one in left if not _any_of(waits[id(one)], left)), None)
        if ready is None:
            circle = [one for one in left if waits[id(one)]]
            raise MisconfigurationError(
                f"These callbacks declare that they run after each other: {', '.join(map(with_home, circle))}. Drop "
                "one of them, or take a name out of the runs_after of one."
            )
        done.append(ready)
        left = [one for one in left if one is not ready]
    return done


def with_home(callback: Callback, supplier: Supplier | None = None) -> str:
    """A callback in a message: its class, where that is defined, and who supplies it if `supplier` knows."""
    known = supplier(callback) if supplier is not None else None
    return f"{type(callback).__qualname__} (of {type(callback).__module__}{f'; {known}' if known else ''})"


def _any_of(some: Iterable[Callback], callbacks: Sequence[Callback]) -> bool:
    return any(one is other for one in some for other in callbacks)


def _is(callback: Callback, name: str) -> bool:
    if callback.family == name:
        return True
    for base in type(callback).__mro__:
        home, own = base.__module__, base.__qualname__
        package = name.removesuffix(f".{own}")
        if package != name and (home == package or home.startswith(f"{package}.")):
            return True
    return False


def _drop(callback: Callback, supplier: Supplier | None) -> str:
    name = type(callback).__name__
    entry_point: str = getattr(supplier(callback) if supplier is not None else None, "entry_point", "")
    if not entry_point:
        return f"drop {name}"
    return f"switch {name} off with HOOKLOOP_DISABLE_CALLBACKS={entry_point.partition('=')[0].strip()}"
