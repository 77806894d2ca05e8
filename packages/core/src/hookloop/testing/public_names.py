"""Which private names of hookloop a source uses: read from its text, nothing is run."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

# Documented, in spite of the underscore that keeps them apart from a named tuple's fields.
_OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}


def foreign_private_names(sources: Mapping[str, str]) -> list[str]:
    """Every use, in the files of one package, of a private name that the package did not make itself.

    Imports from hookloop, attributes, and `getattr` and its like with a constant are looked at. Attributes of other
    libraries' names are left alone.

    Args:
        sources: the text of each file, by its name.

    Returns:
        "file:line: use" for each.
    """
    trees = {file: ast.parse(text) for file, text in sources.items()}
    own = {name for tree in trees.values() for name in _made_in(tree)}
    return [f"{file}:{use}" for file, tree in trees.items() for use in _uses(tree, own)]


def sources_of(kind: type) -> dict[str, str]:
    """The files that a class is made of: its module, and what that imports of its own top-level package, and so on.

    The same for those of its bases that are not hookloop's. Modules without a file are left out.
    """
    modules = [base.__module__ for base in kind.__mro__ if base is not object and not _is_core(base.__module__)]
    sources: dict[str, str] = {}
    seen: set[str] = set()
    while modules:
        name = modules.pop()
        if name in seen:
            continue
        seen.add(name)
        file = _file_of(name)
        if file is None:
            continue
        sources[str(file)] = file.read_text(encoding="utf-8")
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        modules += _imported(ast.parse(sources[str(file)]), name.partition(".")[0], package)
    return sources


def _file_of(module: str) -> Path | None:
    if module in sys.modules:
        name: str | None = getattr(sys.modules[module], "__file__", None)
    else:
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None  # a name in a module, and no module
        name = found.origin if found is not None else None
    return Path(name) if name is not None and name.endswith(".py") and Path(name).is_file() else None


def _imported(tree: ast.AST, top: str, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == top)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            if base.partition(".")[0] == top:
                yield base
                yield from (f"{base}.{alias.name}" for alias in node.names)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in _OF_NAMED_TUPLES


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
                if _is_core(alias.name) and any(map(_private, alias.name.split("."))):
                    yield f"{node.lineno}: import {alias.name}"
        elif isinstance(node, ast.ImportFrom) and _is_core(node.module or "") and node.level == 0:
            for alias in node.names:
                if any(map(_private, [*(node.module or "").split("."), alias.name])):
                    yield f"{node.lineno}: from {node.module} import {alias.name}"
        elif isinstance(node, ast.Attribute) and _private(node.attr) and node.attr not in own:
            if _root(node) not in libraries:
                yield f"{node.lineno}: {ast.unparse(node)}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id.endswith("attr"):
            names = [argument.value for argument in node.args[1:2] if isinstance(argument, ast.Constant)]
            if any(isinstance(name, str) and _private(name) and name not in own for name in names):
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
