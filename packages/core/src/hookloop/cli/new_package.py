"""`hookloop new-package`: a package of callbacks of one's own, complete, to begin from."""

import argparse
import keyword
import re
import shutil
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template
from tempfile import mkdtemp
from typing import Any

from hookloop.discovery.catalogue import DISTRIBUTION_OF_CLASS, DISTRIBUTION_OF_NAME
from hookloop.discovery.entries import core_version, normalized
from hookloop.errors import HookloopError, MisconfigurationError

_DESCRIPTION = """Write a complete package of callbacks: one example callback, the factory
through which every Trainer finds it, tests, README, and everything that a
wheel needs. As written, it installs, passes its tests, mypy --strict and
ruff.

  hookloop new-package acme-callbacks
  cd acme-callbacks
  pip install -e ".[dev]"
  pytest"""

_FILES = {
    "pyproject.toml": "pyproject.toml.tmpl",
    "README.md": "README.md.tmpl",
    "CHANGELOG.md": "CHANGELOG.md.tmpl",
    "LICENSE": "LICENSE.tmpl",
    ".gitignore": "gitignore.tmpl",
    "src/$module/__init__.py": "init.py.tmpl",
    "src/$module/counter.py": "counter.py.tmpl",
    "src/$module/factory.py": "factory.py.tmpl",
    "src/$module/py.typed": "py.typed.tmpl",
    "tests/test_contract.py": "test_contract.py.tmpl",
    "tests/test_counter.py": "test_counter.py.tmpl",
    "tests/test_discovery.py": "test_discovery.py.tmpl",
}


def add_to(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("new-package", help="write a package of callbacks", description=_DESCRIPTION)
    parser.add_argument("name", metavar="NAME", help="of the distribution, as pip knows it: acme-callbacks")
    parser.add_argument(
        "--into", metavar="DIR", type=Path, default=Path(), help="where its folder is made; default: here"
    )
    parser.set_defaults(parser=parser, run=run)


def run(given: argparse.Namespace) -> int:
    """Write the package, and say what comes next.

    Raises:
        HookloopError: the name cannot be used, the folder is there, or it cannot be written.
    """
    folder = write_package(given.name, given.into)
    print(
        f"made {folder}\n\nNext:\n  cd {folder}\n  pip install -e '.[dev]'\n  pytest\n  hookloop callbacks\n\n"
        "Then put your own callback in place of the example, and your licence into LICENSE."
    )
    return 0


def write_package(name: str, into: Path) -> Path:
    """Write all files.

    Args:
        name: of the distribution.
        into: where its folder is made; it is made too if it is not there.

    Returns:
        The new folder, named as the distribution. It is there with all its files or not at all.

    Raises:
        MisconfigurationError: the name cannot be used, or there is such a folder.
        HookloopError: the files cannot be written.
    """
    words = _words(name)
    folder = into / name
    if folder.exists() or folder.is_symlink():
        raise MisconfigurationError(f"{folder} is there already, and nothing in it is changed. Choose another name.")
    templates = files("hookloop.cli") / "templates"
    try:
        into.mkdir(parents=True, exist_ok=True)
        beside = Path(mkdtemp(prefix=f".{name}-", dir=into))
        try:
            beside.chmod(0o755)
            for target, template in _FILES.items():
                path = beside / Template(target).substitute(words)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = (templates / template).read_text(encoding="utf-8")
                path.write_text(Template(text).substitute(words), encoding="utf-8")
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        raise HookloopError(
            f"{folder} could not be written ({type(error).__name__}: {error}). Check {into}, or name another folder "
            "with --into."
        ) from error
    return folder


def _words(name: str) -> dict[str, str]:
    """What stands in the templates for a distribution of that name.

    Raises:
        MisconfigurationError: the name cannot be used.
    """
    if re.fullmatch(r"[A-Za-z](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name) is None:
        raise MisconfigurationError(
            f"{name!r} is no name for a package. It begins with a letter, ends with a letter or a digit, and holds "
            "letters, digits, '-', '_' and '.' in between, as acme-callbacks does."
        )
    module = normalized(name).replace("-", "_")
    own = {"hookloop", *DISTRIBUTION_OF_CLASS.values(), *DISTRIBUTION_OF_NAME.values()}
    if normalized(name) in own:
        raise MisconfigurationError(f"{name!r} is the name of a package of hookloop's own. Choose another one.")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module) or module in sys.stdlib_module_names:
        raise MisconfigurationError(
            f"{name!r} makes a module named {module}, and that is Python's own. Choose another one: {name}-callbacks."
        )
    if find_spec(module) is not None:
        raise MisconfigurationError(
            f"{name!r} makes a module named {module}, which an installed package has already. Choose another name."
        )
    parts = module.split("_")
    stem = [part for part in parts if part not in ("hookloop", "callback", "callbacks")] or parts
    return {
        "name": name,
        "module": module,
        "entry": "_".join(stem),
        "kind": "".join(part.capitalize() for part in stem) + "Counter",
        "core": _range(core_version()),
    }


def _range(version: str | None) -> str:
    """The releases of the core that a new package is made for: of this one, and those that keep its names."""
    if version is None:
        return ""
    from packaging.version import Version

    here = Version(version)
    lowest = str(here) if here.is_prerelease else f"{here.major}.{here.minor}"
    return f">={lowest},<{f'0.{here.minor + 1}' if here.major == 0 else here.major + 1}"
