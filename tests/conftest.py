"""What the isolation test of every suite asks: what is installed, and what an import reaches for."""

import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Callable

import pytest
from packaging.requirements import Requirement

# The finder answers nothing; it only writes down the names. So a package counts whether it is installed or not.
_SPY = """
import sys
import torch

class Spy:
    asked = set()

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        cls.asked.add(name)

sys.meta_path.insert(0, Spy)
from {module} import *
print(*sorted(Spy.asked), sep="\\n")
"""

# Everything in the package is imported, down to its last file; torch, and what it finds, was there before.
_OWNERS = """
import importlib, pkgutil, sys
from importlib.metadata import packages_distributions
import torch

before = set(sys.modules)
package = importlib.import_module("{module}")
for found in pkgutil.walk_packages(package.__path__, "{module}."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
owners = packages_distributions()
tops = {{name.partition(".")[0] for name in set(sys.modules) - before}} - sys.stdlib_module_names
# An editable distribution does not say what it owns; those of this repository are named as their modules are.
print(*sorted({{owner for top in tops for owner in owners.get(top, [top])}}), sep="\\n")
"""


@pytest.fixture(scope="session")
def installed_distributions() -> frozenset[str]:
    """The names of all distributions of hookloop that are installed here."""
    names = (distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions())
    return frozenset(name for name in names if name.startswith("hookloop"))


@pytest.fixture(scope="session")
def imported_by() -> Callable[[str], frozenset[str]]:
    """All modules that a fresh process looks for when it imports the given one, beyond what `import torch` loads."""

    def imports(module: str) -> frozenset[str]:
        command = [sys.executable, "-c", _SPY.format(module=module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return frozenset(done.stdout.split())

    return imports


@pytest.fixture(scope="session")
def distributions_used_by() -> Callable[[str], frozenset[str]]:
    """All distributions of which a fresh process has loaded something once it has imported every file of a package."""

    def used(module: str) -> frozenset[str]:
        command = [sys.executable, "-c", _OWNERS.format(module=module)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return frozenset(map(_normal, done.stdout.split()))

    return used


@pytest.fixture(scope="session")
def declared_by() -> Callable[[str], frozenset[str]]:
    """A distribution with all that it declares to need, and all that they do; extras do not count."""

    def declared(name: str) -> frozenset[str]:
        found, waiting = set[str](), [name]
        while waiting:
            name = _normal(waiting.pop())
            if name in found:
                continue
            found.add(name)
            try:
                lines = importlib.metadata.requires(name) or []
            except importlib.metadata.PackageNotFoundError:
                continue  # for another platform
            needed = (Requirement(line) for line in lines)
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
        return frozenset(found)

    return declared


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
