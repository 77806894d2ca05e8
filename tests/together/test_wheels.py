"""What users get: every package as a wheel, installed into a fresh environment that knows no repository."""

import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))

UV = (sys.executable, "-m", "uv")

# Runs in the fresh environment.
LOOK = """
import json, os, sys
import hookloop, hookloop.callbacks
from hookloop import Trainer

trainer = Trainer(logger=False)
print(json.dumps({
    "hookloop": hookloop.__file__,
    "found": sorted(type(callback).__module__.partition(".")[0] for callback in trainer.callbacks),
    "named": [getattr(hookloop.callbacks, name).__module__.partition(".")[0] for name in sys.argv[1:]],
}))
"""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=outside(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def outside() -> dict[str, str]:
    """The variables of this process without those that lead back to its environment."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of every package, by the package's folder."""
    built = {}
    for package in PACKAGES:
        folder = tmp_path_factory.mktemp(package.name)
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=package)
        (built[package.name],) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def fresh_python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment in which all wheels are installed."""
    folder = tmp_path_factory.mktemp("fresh")
    # The versions that are here already, so that uv links their files from its cache and downloads nothing.
    versions = {found.metadata["Name"]: found.version for found in importlib.metadata.distributions()}
    pins = [f"{name}=={version}\n" for name, version in versions.items() if not name.startswith("hookloop")]
    (folder / "pins.txt").write_text("".join(pins))
    run(*UV, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    install: list[str | Path] = [
        *UV,
        "pip",
        "install",
        "--python",
        python,
        "--constraint",
        folder / "pins.txt",
        *wheels.values(),
    ]
    offline = subprocess.run([*install, "--offline"], env=outside(), capture_output=True, check=False)
    if offline.returncode != 0:
        run(*install)
    return python


@pytest.mark.parametrize("package", [pytest.param(path, id=path.name) for path in PACKAGES])
def test_a_wheel_holds_its_module_with_types_and_license_and_nothing_else(
    package: Path, wheels: dict[str, Path]
) -> None:
    (source,) = (package / "src").iterdir()
    wheel = zipfile.ZipFile(wheels[package.name])
    names = set(wheel.namelist())

    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {source.name}
    assert {name for name in names if name.endswith(".py")} == {
        str(path.relative_to(package / "src")) for path in source.rglob("*.py")
    }
    assert f"{source.name}/py.typed" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_installed_wheels_are_discovered_without_the_repository(fresh_python: Path, tmp_path: Path) -> None:
    projects = {path.name: tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in PACKAGES}
    classes = {
        name: target.partition(":")[0]
        for project in projects.values()
        for name, target in project.get("entry-points", {}).get("hookloop.callbacks", {}).items()
    }
    modules = sorted(f"hookloop_{name.replace('-', '_')}" for name in projects if name != "core")

    seen = json.loads(run(fresh_python, "-I", "-c", LOOK, *classes, cwd=tmp_path))

    assert Path(seen["hookloop"]).is_relative_to(fresh_python.parents[1])
    assert seen["found"] == modules
    assert seen["named"] == list(classes.values())


def test_nothing_that_only_this_repository_needs_comes_along(fresh_python: Path) -> None:
    listed = run(*UV, "pip", "list", "--format", "json", "--python", fresh_python)
    installed = {entry["name"] for entry in json.loads(listed)}

    assert {"hookloop", "torch", "packaging"} <= installed
    assert not installed & {"pytest", "hatchling", "numpy", "torchmetrics", "rich", "tensorboard"}
