"""A package that `hookloop new-package` wrote: built, installed and tried as its author would."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv")
ACTIVE = """
from hookloop import Trainer
print(*(type(callback).__name__ for callback in Trainer(logger=False).callbacks))
"""


def run(*command: str | Path, cwd: Path | None = None, **environment: str) -> str:
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def build(source: Path, into: Path) -> Path:
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", into, cwd=source)
    [wheel] = into.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the core as a wheel, above everything that this one has."""
    folder = tmp_path_factory.mktemp("environment")
    run(*UV, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    below = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    here = sysconfig.get_path("purelib")
    (Path(below) / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    wheel = build(ROOT / "packages" / "core", folder / "core")
    run(*UV, "pip", "install", "--offline", "--no-deps", "--python", python, wheel)
    return python.parent


@pytest.fixture(scope="module")
def package(bin_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a package that is written, built and installed."""
    folder = tmp_path_factory.mktemp("work")
    run(bin_folder / "hookloop", "new-package", "acme-callbacks", "--into", folder)
    wheel = build(folder / "acme-callbacks", folder / "dist")
    run(*UV, "pip", "install", "--offline", "--no-deps", "--python", bin_folder / "python", wheel)
    return folder / "acme-callbacks"


def test_its_wheel_holds_its_module_with_types_and_licence(package: Path) -> None:
    [wheel] = (package.parent / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())

    assert {name for name in names if ".dist-info/" not in name} == {
        f"acme_callbacks/{name}" for name in ("__init__.py", "counter.py", "factory.py", "py.typed")
    }
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_it_passes_its_own_tests(package: Path, bin_folder: Path) -> None:
    said = run(bin_folder / "python", "-m", "pytest", "-p", "no:cacheprovider", cwd=package)

    assert " passed" in said
    assert "skipped" not in said


def test_it_passes_mypy_strict_and_ruff(package: Path, bin_folder: Path) -> None:
    run(bin_folder / "python", "-m", "mypy", "--cache-dir", package.parent / "mypy", cwd=package)
    for check in (["check"], ["format", "--check"]):
        run(sys.executable, "-m", "ruff", *check, "--no-cache", ".", cwd=package)


def test_a_type_that_is_wrong_does_not_pass_mypy(package: Path, bin_folder: Path) -> None:
    wrong = package / "src" / "acme_callbacks" / "wrong.py"
    wrong.write_text("from acme_callbacks import AcmeCounter\n\nAcmeCounter(3).batches = 'many'\n")
    try:
        with pytest.raises(AssertionError, match=r'(?s)has incompatible type "int".*Incompatible types in assignment'):
            run(bin_folder / "python", "-m", "mypy", "--cache-dir", package.parent / "mypy", cwd=package)
    finally:
        wrong.unlink()


def test_it_is_seen_active_switched_off_and_pinned(package: Path, bin_folder: Path) -> None:
    found = json.loads(run(bin_folder / "hookloop", "callbacks", "--json"))["distributions"]
    [acme] = [one for one in found if one["distribution"] == "acme-callbacks"]
    pins = run(bin_folder / "hookloop", "lock").splitlines()

    assert [(one["active"], one["callbacks"]) for one in acme["factories"]] == [(True, ["AcmeCounter"])]
    assert "AcmeCounter" in run(bin_folder / "python", "-c", ACTIVE).split()
    assert "AcmeCounter" not in run(bin_folder / "python", "-c", ACTIVE, HOOKLOOP_DISABLE_CALLBACKS="acme").split()
    assert "acme-callbacks==0.1.0" in pins


def test_a_newer_core_refuses_it_before_it_imports_it(package: Path, bin_folder: Path, tmp_path: Path) -> None:
    # A core whose hooks may have other names: in front of the real one, its metadata says another version.
    info = tmp_path / "hookloop-0.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hookloop\nVersion: 0.2.0\n")
    program = (
        "import sys\nfrom hookloop import Trainer\n"
        "try:\n    Trainer(logger=False, registered_callbacks=['acme'])\n"
        "except ValueError as error:\n    print(error)\n"
        "print('acme_callbacks' in sys.modules)\n"
    )

    said = run(bin_folder / "python", "-c", program, PYTHONPATH=str(tmp_path))

    assert (
        "acme-callbacks 0.1.0 needs hookloop<0.2,>=0.1, and hookloop 0.2.0 is installed. Run `pip install --upgrade "
        'acme-callbacks "hookloop==0.2.0"` for a release of it that fits, or `pip install "hookloop<0.2,>=0.1"` to '
        "change the core." in said
    )
    assert said.splitlines()[-1] == "False"
