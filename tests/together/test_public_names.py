"""What a built-in callback can do, any package can do: built-ins use public names of the core alone.

import-linter sees who imports which module. It does not see names inside of modules, nor attributes; this does.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "packages").glob("callbacks-*/src/*"), ROOT / "examples"])
# Documented, in spite of the underscore that keeps them apart from a named tuple's fields.
NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in NAMED_TUPLES


def foreign_private_names(sources: dict[str, str]) -> list[str]:
    """Every use, in the files of one package, of a private name that the package did not make itself."""
    trees = {file: ast.parse(text) for file, text in sources.items()}
    own = {name for tree in trees.values() for name in _made_in(tree)}
    return [f"{file}:{use}" for file, tree in trees.items() for use in _uses(tree, own)]


def _made_in(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            # Assigning `trainer._x` does not make it one's own; `self._x` does.
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                yield node.attr


def _uses(tree: ast.AST, own: set[str]) -> Iterator[str]:
    libraries = _names_of_other_libraries(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if _is_core(alias.name) and any(map(private, alias.name.split("."))):
                    yield f"{node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and _is_core(node.module or "") and node.level == 0:
            for alias in node.names:
                if any(map(private, [*(node.module or "").split("."), alias.name])):
                    yield f"{node.lineno}: from {node.module} import {alias.name}"
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            if _root(node) not in libraries:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            names = [argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)]
            if any(isinstance(name, str) and private(name) and name not in own for name in names):
                yield f"{node.lineno}: {ast.unparse(node)}"


def _names_of_other_libraries(tree: ast.AST) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names if not _is_core(alias.name)}
        elif isinstance(node, ast.ImportFrom) and not _is_core(node.module or ""):
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def _is_core(module: str) -> bool:
    return module == "hookloop" or module.startswith("hookloop.")


def _root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


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
