"""What a built-in callback can do, any package can do: built-ins use public names of the core alone.

import-linter sees who imports which module. It does not see names inside of modules, nor attributes; this does.
"""

from pathlib import Path

import pytest

from hookloop.testing.public_names import foreign_private_names

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "packages").glob("callbacks-*/src/*"), ROOT / "examples"])


@pytest.mark.parametrize("source", [pytest.param(path, id=path.name) for path in SOURCES])
def test_a_package_uses_no_private_name_of_the_core(source: Path) -> None:
    files = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in source.rglob("*.py")}

    assert files
    assert foreign_private_names(files) == []


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("from hookloop.callback import _Registry", "from hookloop.callback import _Registry"),
        ("from hookloop._inside import Registry", "from hookloop._inside import Registry"),
        ("import hookloop._inside", "import hookloop._inside"),
        ("def f(trainer): return trainer._run", "trainer._run"),
        ("def f(trainer): trainer._run = 1", "trainer._run"),
        ("def f(trainer): return trainer.model._forward()", "trainer.model._forward"),
        ("class C:\n def f(self): return self._of_the_base_class", "self._of_the_base_class"),
        ("def f(trainer): return getattr(trainer, '_run', None)", "getattr(trainer, '_run', None)"),
    ],
)
def test_a_private_name_of_the_core_is_found(code: str, use: str) -> None:
    found = foreign_private_names({"file.py": code})

    assert len(found) == 1
    assert found[0].startswith("file.py:")
    assert found[0].endswith(f": {use}")


@pytest.mark.parametrize(
    "code",
    [
        "from hookloop import Callback",
        "class C:\n _kept = 1\n def f(self): return self._kept",
        "class C:\n def __init__(self): self._bar = None\n def f(self, other): return other._bar",
        "class C:\n def _bar(self): ...\n def f(self): return self._bar()",
        "import torch\ntorch._foreach_add_([], 1)",
        "def f(trainer): return trainer.__class__",
        "from hookloop_callbacks_x._parts import _helper\n_helper()",
    ],
)
def test_what_is_public_or_ones_own_or_of_another_library_is_fine(code: str) -> None:
    assert foreign_private_names({"file.py": code}) == []
