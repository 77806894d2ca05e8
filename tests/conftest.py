"""What the isolation test of every suite asks: what is installed, and what an import reaches for."""

import importlib.metadata
import subprocess
import sys
from collections.abc import Callable

import pytest

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
