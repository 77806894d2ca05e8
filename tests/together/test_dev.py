"""dev.py, as far as it goes without making an environment: what it offers, and what it refuses."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CALLBACK_PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/callbacks-*/pyproject.toml"))


def dev(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "dev.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_dev_names_every_suite_in_its_help() -> None:
    done = dev("--help")

    assert done.returncode == 0
    assert f"SUITE: {', '.join(['core', *CALLBACK_PACKAGES, 'together'])}," in done.stdout


def test_dev_says_which_command_was_meant(tmp_path: Path) -> None:
    done = dev("tets", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr.startswith("dev.py: there is no command 'tets'; did you mean 'test'?")
    assert "usage: python dev.py COMMAND" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "progres"], "there is no test suite 'progres'; did you mean 'progress'? Suites: core, "),
        (["test", "README.md"], "there is no test suite 'README.md'. Suites: core, "),
        (
            ["test", "-k", "resume"],
            "options for pytest go after a separate `--`, for example:\n  python dev.py test -- -k",
        ),
        (["lint", "--fix"], "lint takes no arguments, and was given: --fix"),
        (["docs", "all"], "docs takes no arguments, and was given: all"),
        (["bench", "nothing"], "there is no benchmark 'nothing'."),
    ],
)
def test_dev_refuses_what_it_does_not_know_before_it_makes_anything(arguments: list[str], message: str) -> None:
    done = dev(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith(f"dev.py: {message}")
    assert done.stdout == ""


def test_an_old_python_can_read_dev_far_enough_to_be_refused() -> None:
    # 3.7 is the oldest syntax that ast still knows.
    tree = ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 7))

    kinds = [type(node) for node in tree.body[:4]]
    assert kinds == [ast.Expr, ast.Import, ast.Assign, ast.If]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """dev.py as a module."""
    spec = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    # Where its dataclass looks for the module that it is defined in.
    monkeypatch.setitem(sys.modules, "dev", loaded)
    spec.loader.exec_module(loaded)
    return loaded


def test_every_python_file_is_type_checked(module: ModuleType) -> None:
    found = [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    files = {path.as_posix() for path in found if not any(part.startswith((".", "_build")) for part in path.parts)}
    targets = [target for run in module.type_checked() for target in run]

    assert "dev.py" in files
    assert {file for file in files if not any(f"{file}/".startswith(f"{target}/") for target in targets)} == set()


def test_the_table_counts_what_pytest_reports(module: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "test_each.py").write_text(
        "import pytest\n@pytest.fixture\ndef broken(): raise OSError\ndef test_a(): pass\ndef test_b(): pass\ndef "
        "test_c(): pass\ndef test_d(): assert False\ndef test_e(broken): pass\ndef test_f(): pytest.skip('')\n"
    )
    report = tmp_path / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", tmp_path, f"--junitxml={report}"]
    subprocess.run([*map(str, command), "test_each.py"], cwd=tmp_path, capture_output=True, check=False)

    assert module._counts(report) == (3, 2, 1)
    assert module._counts(tmp_path / "missing.xml") == (0, 0, 0)


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (["progress"], {"callbacks-progress": ["tests/callbacks-progress"]}),
        (
            ["callbacks-checkpoint", "core"],
            {"callbacks-checkpoint": ["tests/callbacks-checkpoint"], "core": ["tests/core"]},
        ),
        (["tests/core/test_isolation.py::test_x[a/b]"], {"core": ["tests/core/test_isolation.py::test_x[a/b]"]}),
        (
            ["tests/core/test_isolation.py", "tests/together"],
            {"core": ["tests/core/test_isolation.py"], "together": ["tests/together"]},
        ),
    ],
)
def test_suites_are_chosen_by_name_or_path(module: ModuleType, wanted: list[str], chosen: dict[str, list[str]]) -> None:
    assert module.select_suites(wanted) == chosen
