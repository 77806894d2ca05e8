"""The entry points of all groups and the distributions that declare them, read once per process."""

import importlib
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoint, PackageNotFoundError, distributions, entry_points, version

FACTORY_GROUP = "hookloop.callbacks_factory"
"""Entry points of this group are factories of default callbacks."""

CLASS_GROUP = "hookloop.callbacks"
"""Entry points of this group are callback classes, under the name that `hookloop.callbacks` offers them by."""

NAME_GROUP = "hookloop.names"
"""Entry points of this group are whatever else a face of the core offers and a package supplies, such as `Tuner`."""

_GROUPS = (FACTORY_GROUP, CLASS_GROUP, NAME_GROUP)


@dataclass(frozen=True)
class Registration:
    """One entry point, with what its distribution's metadata says. Holding it imports nothing.

    Attributes:
        entry: as the standard library found it.
        distribution: the name of the distribution, as its metadata spells it.
        version: its version.
        requires: its `Requires-Dist` lines.
    """

    entry: EntryPoint
    distribution: str
    version: str
    requires: tuple[str, ...]

    @property
    def name(self) -> str:
        """The entry point's name."""
        return self.entry.name

    @property
    def definition(self) -> str:
        """The entry point as a package declares it: `name = module:function`."""
        return f"{self.entry.name} = {self.entry.value}"

    @property
    def module(self) -> str:
        """The dotted module that the entry point is in; never an error, even where it is malformed."""
        return re.split(r"[:\[\s]", self.entry.value.strip(), maxsplit=1)[0]

    def goes_by(self, names: Iterable[str]) -> bool:
        """Whether the entry point's name or the distribution's, in any PEP 503 spelling, is among `names`."""
        return any(self.name == name or normalized(self.distribution) == normalized(name) for name in names)

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True)
class Installed:
    """Everything that installed packages register, in an order that does not depend on the file system."""

    factories: tuple[Registration, ...]
    classes: tuple[Registration, ...]
    names: tuple[Registration, ...] = ()


def normalized(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    # packaging.utils has this line too, at the price of 15 ms of imports for every `import hookloop`.
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def installed() -> Installed:
    """What is registered; the first call reads it, later ones touch no file."""
    found = sorted(_registrations(), key=lambda one: (normalized(one.distribution), one.name, one.entry.value))
    return Installed(
        factories=tuple(one for one in found if one.entry.group == FACTORY_GROUP),
        classes=tuple(one for one in found if one.entry.group == CLASS_GROUP),
        names=tuple(one for one in found if one.entry.group == NAME_GROUP),
    )


@cache
def core_version() -> str | None:
    """The version of the installed core, or None where it runs from a folder of sources that nobody installed."""
    try:
        return version("hookloop")
    except PackageNotFoundError:
        return None


def forget_entry_points() -> None:
    """Forget what was read, so that the next use reads it again: after installing something, and for tests."""
    importlib.invalidate_caches()
    installed.cache_clear()
    core_version.cache_clear()


def _registrations() -> Iterator[Registration]:
    # By the name in its metadata: a folder that an interrupted `pip uninstall` left behind has another folder name.
    owners: dict[str, Distribution] = {}
    facts: dict[int, tuple[str, str, tuple[str, ...]]] = {}
    for entry in _entry_points():
        distribution = entry.dist
        assert distribution is not None  # the finders of importlib.metadata always set it
        if id(distribution) not in facts:
            facts[id(distribution)] = _facts(distribution)
        name, release, requires = facts[id(distribution)]
        if owners.setdefault(normalized(name), distribution) is distribution:
            yield Registration(entry, name, release, requires)


def _entry_points() -> list[EntryPoint]:
    try:
        found = entry_points()
        return [entry for group in _GROUPS for entry in found.select(group=group)]
    except Exception:  # noqa: BLE001 - what a malformed file raises depends on the version of Python
        # One malformed entry_points.txt, of any package at all, fails the call for everybody.
        first: dict[str, Distribution] = {}
        for distribution in distributions():
            first.setdefault(normalized(_facts(distribution)[0]), distribution)
        return [entry for distribution in first.values() for entry in _readable_entry_points(distribution)]


def _readable_entry_points(distribution: Distribution) -> list[EntryPoint]:
    try:
        return [entry for entry in distribution.entry_points if entry.group in _GROUPS]
    except Exception as error:  # noqa: BLE001 - see above
        warnings.warn(
            f"The entry_points.txt of {_facts(distribution)[0]} cannot be read ({type(error).__name__}: {error}), so "
            "nothing that it registers is used. Install that package again.",
            stacklevel=2,
        )
        return []


def _facts(distribution: Distribution) -> tuple[str, str, tuple[str, ...]]:
    try:
        name, release, requires = distribution.name, distribution.version, tuple(distribution.requires or ())
    except Exception:  # noqa: BLE001 - without METADATA, some versions of Python give None and others raise
        name, release, requires = "", "", ()
    return name or f"a distribution without METADATA in {distribution.locate_file('')}", release or "?", requires
