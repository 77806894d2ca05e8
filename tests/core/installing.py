"""Small distributions with entry points, installed for one test: real metadata and modules, in a folder on sys.path."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from hookloop.discovery import CLASS_GROUP, DISABLE_VARIABLE, FACTORY_GROUP, NAME_GROUP, forget_entry_points


class Site:
    """A folder that distributions are installed in.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()

    def install(
        self,
        name: str,
        version: str = "1.0",
        *,
        factories: Mapping[str, str] | None = None,
        classes: Mapping[str, str] | None = None,
        names: Mapping[str, str] | None = None,
        requires: Sequence[str] = (),
        modules: Mapping[str, str] | None = None,
    ) -> None:
        """Install a distribution: entry points by name, requirements, and the source of modules by dotted name.

        It takes the place of one of the same name.
        """
        for older in self.path.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(older)
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        (info / "METADATA").write_text("\n".join([*metadata, *(f"Requires-Dist: {one}" for one in requires)]) + "\n")
        lines = []
        for group, entries in ((FACTORY_GROUP, factories), (CLASS_GROUP, classes), (NAME_GROUP, names)):
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in (entries or {}).items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, source in (modules or {}).items():
            file = self.path / Path(*module.split(".")).with_suffix(".py")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(source)
        forget_entry_points()

    def core(self, version: str) -> None:
        """Let the core's metadata say this version."""
        self.install("hookloop", version)

    def imported(self) -> set[str]:
        """The modules of this folder that are imported in this process."""
        own = str(self.path) + os.sep
        return {name for name, module in list(sys.modules.items()) if _location(module).startswith(own)}

    def run(self, program: str, **environment: str) -> str:
        """What a fresh process prints that runs `program` with this folder on its path."""
        paths = [str(self.path), *filter(None, [os.environ.get("PYTHONPATH")])]
        inherited = {key: value for key, value in os.environ.items() if key != DISABLE_VARIABLE}
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env=inherited | {"PYTHONPATH": os.pathsep.join(paths)} | environment,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def installed_for_one_test(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A Site at the front of sys.path; afterwards everything that was imported from it is forgotten."""
    site = Site(path)
    # What the environment itself has registered is not part of the test: a distribution of the same name hides it.
    for entry in [*entry_points(group=FACTORY_GROUP), *entry_points(group=CLASS_GROUP)]:
        if entry.dist is not None and not any(site.path.glob(f"{entry.dist.name.replace('-', '_')}-*")):
            site.install(entry.dist.name, "0")
    monkeypatch.syspath_prepend(path)
    monkeypatch.delenv(DISABLE_VARIABLE, raising=False)
    forget_entry_points()
    try:
        yield site
    finally:
        for name in site.imported():
            del sys.modules[name]
        monkeypatch.undo()
        forget_entry_points()


def _location(module: object) -> str:
    # A namespace package has no file, only the folders that it is made of.
    return getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", [])), "")
