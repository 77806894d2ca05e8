"""Import what an entry point names, once its distribution's own metadata says that it fits this core."""

import re
from collections.abc import Iterator, Sequence
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING

from hookloop.discovery.entries import Registration, core_version, normalized
from hookloop.errors import MisconfigurationError

if TYPE_CHECKING:
    from packaging.requirements import Requirement


def load(registration: Registration) -> object:
    """The object that the entry point names.

    Raises:
        MisconfigurationError: the distribution was built for another version of the core; nothing was imported.
        ValueError: the entry point is malformed.
        Exception: whatever importing the module raises.
    """
    check_core_version(registration)
    if EntryPoint.pattern.match(registration.entry.value) is None:
        raise ValueError(f"{registration.entry.value!r} is not of the form module:name")
    return registration.entry.load()


def check_core_version(registration: Registration) -> None:
    """Whether the distribution was built for the installed core, as far as its metadata says. Nothing is imported.

    Raises:
        MisconfigurationError: it was not; the message has both versions and the commands that bring them together.
    """
    present = core_version()
    if present is None:
        return
    for requirement in requirements(registration.requires, "hookloop"):
        if not requirement.specifier.contains(present, prereleases=True):
            raise MisconfigurationError(
                f"{registration.distribution} {registration.version} needs hookloop{requirement.specifier}, and "
                f"hookloop {present} is installed. Run `pip install --upgrade {registration.distribution} "
                f'"hookloop=={present}"` for a release of it that fits, or `pip install '
                f'"hookloop{requirement.specifier}"` to change the core.'
            )


def core_range(registration: Registration) -> str:
    """The versions of the core that the distribution was built for, as ">=0.1,<0.2"; "" if it does not say."""
    bounds = [bound for one in requirements(registration.requires, "hookloop") for bound in one.specifier]
    return ",".join(map(str, sorted(bounds, key=lambda bound: "<" in bound.operator)))


def requirements(lines: Sequence[str], name: str | None = None) -> Iterator["Requirement"]:
    """Those of the `Requires-Dist` lines that hold here: without what extras add, and of other platforms.

    Args:
        lines: as the metadata has them.
        name: of the one distribution that is asked for; None for all.

    Raises:
        ValueError: one of them cannot be read.
    """
    for line in lines:
        required = re.match(r"[A-Za-z0-9._-]+", line)
        if name is not None and (required is None or normalized(required[0]) != name):
            continue
        # Imported here, because `import hookloop` need not pay for it.
        from packaging.requirements import Requirement

        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement
