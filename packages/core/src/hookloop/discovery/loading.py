"""Import what an entry point names, once its distribution's own metadata says that it fits this core."""

import re
from importlib.metadata import EntryPoint

from hookloop.discovery.entries import Registration, core_version, normalized
from hookloop.errors import MisconfigurationError


def load(registration: Registration) -> object:
    """The object that the entry point names.

    Raises:
        MisconfigurationError: the distribution was built for another version of the core; nothing was imported.
        ValueError: the entry point is malformed.
        Exception: whatever importing the module raises.
    """
    _check_core_version(registration)
    if EntryPoint.pattern.match(registration.entry.value) is None:
        raise ValueError(f"{registration.entry.value!r} is not of the form module:name")
    return registration.entry.load()


def _check_core_version(registration: Registration) -> None:
    present = core_version()
    if present is None:
        return
    for line in registration.requires:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        if name is None or normalized(name[0]) != "hookloop":
            continue
        # Imported here, because `import hookloop` need not pay for it.
        from packaging.requirements import Requirement

        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        if not requirement.specifier.contains(present, prereleases=True):
            raise MisconfigurationError(
                f"{registration.distribution} {registration.version} needs hookloop{requirement.specifier}, and "
                f"hookloop {present} is installed. Run `pip install --upgrade {registration.distribution} "
                f'"hookloop=={present}"` for a release of it that fits, or `pip install '
                f'"hookloop{requirement.specifier}"` to change the core.'
            )
