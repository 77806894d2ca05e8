"""Wheels of all packages, and fresh environments that know no repository."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

UV = (sys.executable, "-m", "uv")

BuildWheel = Callable[..., Path]
MakeEnvironment = Callable[..., Path]


def _outside() -> dict[str, str]:
    """The variables of this process without those that lead back to its environment."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=_outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> BuildWheel:
    """Builds the wheel of a package of this repository, by its folder's name; once for each version."""
    built: dict[tuple[str, str | None], Path] = {}

    def build(package: str, version: str | None = None) -> Path:
        """`version` is set in a copy of the package; None builds it as it is."""
        if (package, version) not in built:
            source, target = ROOT / "packages" / package, tmp_path_factory.mktemp(package)
            if version is not None:
                copy = tmp_path_factory.mktemp(f"{package}-{version}") / package
                shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
                project = copy / "pyproject.toml"
                text, changed = re.subn(r'(?m)^version = ".*"$', f'version = "{version}"', project.read_text())
                assert changed == 1
                project.write_text(text)
                source = copy
            _run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", target, cwd=source)
            (built[package, version],) = target.glob("*.whl")
        return built[package, version]

    return build


@pytest.fixture(scope="session")
def pins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Constraints: the versions that are here already, so that uv links files from its cache and downloads nothing."""
    file = tmp_path_factory.mktemp("pins") / "pins.txt"
    versions = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    lines = [f"{name}=={version}\n" for name, version in versions.items() if not name.startswith("hookloop")]
    file.write_text("".join(lines))
    return file


@pytest.fixture(scope="session")
def install(pins: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Installs into an environment, from uv's cache if everything is there; gives what uv said."""

    def install(python: Path, *what: str | Path) -> subprocess.CompletedProcess[str]:
        command = [*UV, "pip", "install", "--python", python, "--constraint", pins, *what]
        offline = subprocess.run([*command, "--offline"], env=_outside(), capture_output=True, text=True, check=False)
        if offline.returncode == 0:
            return offline
        return subprocess.run(command, env=_outside(), capture_output=True, text=True, check=False)

    return install


@pytest.fixture(scope="session")
def fresh_environment(
    tmp_path_factory: pytest.TempPathFactory, install: Callable[..., subprocess.CompletedProcess[str]]
) -> MakeEnvironment:
    """Makes an environment with these wheels in it, and gives its interpreter; once for each set of wheels."""
    made: dict[tuple[Path, ...], Path] = {}

    def make(wheels: Sequence[Path]) -> Path:
        key = tuple(sorted(wheels))
        if key not in made:
            folder = tmp_path_factory.mktemp("fresh") / "venv"
            _run(*UV, "venv", "--python", sys.executable, folder)
            done = install(folder / "bin" / "python", *wheels)
            assert done.returncode == 0, done.stderr
            made[key] = folder / "bin" / "python"
        return made[key]

    return make


@pytest.fixture(scope="session")
def run_outside() -> Callable[..., str]:
    """Runs a command without the variables that lead back to this environment; it has to succeed."""
    return _run
