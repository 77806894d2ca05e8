"""Which installed distribution a callback comes from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hookloop.discovery.entries import Registration, installed

if TYPE_CHECKING:
    from hookloop.callback import Callback  # it brings torch


@dataclass(frozen=True)
class Provenance:
    """Who supplies a callback; as text, it reads as one line of `Trainer.explain`.

    Attributes:
        distribution: name of the distribution, for example "hookloop-callbacks-progress".
        version: its version.
        entry_point: `name = module:function` of the factory that made the callback; "" when the user passed it.
    """

    distribution: str
    version: str
    entry_point: str

    def __str__(self) -> str:
        origin = f"entry point {self.entry_point}" if self.entry_point else "passed by you"
        return f"{self.distribution} {self.version}, {origin}"


def provenance(callback: "Callback") -> Provenance | None:
    """The distribution that a callback which the user passed comes from.

    It is the one with an entry point, of either group, in the top-level module of the callback's class. Where several
    share that module (a namespace package), it is the one whose entry point is nearest to the class.

    Returns:
        A Provenance with an empty `entry_point`, or None when no distribution or no single one can be told: for a class
        of the user's own script, and for the core's LambdaCallback.
    """
    path = type(callback).__module__.split(".")
    registered = installed()
    shared = {one: _common(path, one.module.split(".")) for one in (*registered.factories, *registered.classes)}
    nearest = max(shared.values(), default=0)
    if nearest == 0:
        return None
    origins = {(one.distribution, one.version) for one, depth in shared.items() if depth == nearest}
    if len(origins) > 1:
        return None
    distribution, version = origins.pop()
    return Provenance(distribution, version, entry_point="")


def registered_provenance(registration: Registration) -> Provenance:
    """Of a callback that the factory of `registration` made."""
    return Provenance(registration.distribution, registration.version, registration.definition)


def _common(path: list[str], other: list[str]) -> int:
    for depth, (one, two) in enumerate(zip(path, other, strict=False)):
        if one != two:
            return depth
    return min(len(path), len(other))
