"""`hookloop new-package`: which names it takes, what it writes, and what it leaves alone."""

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .commanding import Shell, in_a_process
from .installing import Site, installed_for_one_test


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with installed_for_one_test(tmp_path / "site", monkeypatch) as site:
        yield site


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


def project(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return found


def test_a_package_has_every_file_that_it_needs(site: Site, shell: Shell, tmp_path: Path) -> None:
    site.core("0.1.4")

    said = shell("new-package", "acme-callbacks", "--into", tmp_path / "work")

    folder = tmp_path / "work" / "acme-callbacks"
    assert (said.code, said.err) == (0, "")
    assert said.out.startswith(f"made {folder}\n")
    written = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert written == {
        *("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", ".gitignore"),
        *("src/acme_callbacks/__init__.py", "src/acme_callbacks/counter.py", "src/acme_callbacks/factory.py"),
        *("src/acme_callbacks/py.typed", "tests/test_contract.py"),
        *("tests/test_counter.py", "tests/test_discovery.py"),
    }
    assert list((tmp_path / "work").iterdir()) == [folder]
    for file in folder.rglob("*.py"):
        ast.parse(file.read_text())
    placeholders = [file.name for file in folder.rglob("*") if file.is_file() and re.search(r"\$\w", file.read_text())]
    assert placeholders == []


@pytest.mark.parametrize(
    ("name", "module", "entry", "kind"),
    [
        ("acme-callbacks", "acme_callbacks", "acme", "AcmeCounter"),
        ("hookloop-callbacks-acme", "hookloop_callbacks_acme", "acme", "AcmeCounter"),
        ("Acme.Vision_Tools", "acme_vision_tools", "acme_vision_tools", "AcmeVisionToolsCounter"),
        ("callbacks", "callbacks", "callbacks", "CallbacksCounter"),
        ("x1", "x1", "x1", "X1Counter"),
    ],
)
def test_names_in_a_package_follow_from_its_own(
    name: str, module: str, entry: str, kind: str, shell: Shell, tmp_path: Path
) -> None:
    assert shell("new-package", name, "--into", tmp_path).code == 0

    found = project(tmp_path / name)
    assert found["name"] == name
    assert found["entry-points"]["hookloop.callbacks_factory"] == {entry: f"{module}:factory"}
    assert found["entry-points"]["hookloop.callbacks"] == {kind: f"{module}:{kind}"}
    assert (tmp_path / name / "src" / module / "__init__.py").is_file()


@pytest.mark.parametrize(
    ("core", "needs"),
    [
        ("0.1.4", "hookloop>=0.1,<0.2"),
        ("0.12.0", "hookloop>=0.12,<0.13"),
        ("1.3.2", "hookloop>=1.3,<2"),
        ("0.2.0.dev3", "hookloop>=0.2.0.dev3,<0.3"),
    ],
)
def test_a_package_is_made_for_the_core_that_is_installed(
    core: str, needs: str, site: Site, shell: Shell, tmp_path: Path
) -> None:
    site.core(core)

    shell("new-package", "acme", "--into", tmp_path / "work")

    assert project(tmp_path / "work" / "acme")["dependencies"] == [needs]


@pytest.mark.parametrize(
    "name", ["", "-acme", "acme-", "1acme", "acme callbacks", "../acme", "acme/callbacks", "açme", "."]
)
def test_a_name_that_no_distribution_can_have_is_refused(name: str, shell: Shell, tmp_path: Path) -> None:
    said = shell("new-package", "--into", tmp_path, "--", name)

    assert said.code == 1
    assert said.err == (
        f"hookloop: {name!r} is no name for a package. It begins with a letter, ends with a letter or a digit, and "
        "holds letters, digits, '-', '_' and '.' in between, as acme-callbacks does.\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["hookloop", "Hookloop_Callbacks.Progress", "hookloop-callbacks-swa"])
def test_the_names_of_hookloops_own_packages_are_refused(name: str, shell: Shell, tmp_path: Path) -> None:
    said = shell("new-package", name, "--into", tmp_path)

    assert said.code == 1
    assert said.err == f"hookloop: {name!r} is the name of a package of hookloop's own. Choose another one.\n"


@pytest.mark.parametrize("name", ["class", "match", "json", "Email"])
def test_a_name_that_makes_a_module_of_pythons_own_is_refused(name: str, shell: Shell, tmp_path: Path) -> None:
    said = shell("new-package", name, "--into", tmp_path)

    assert said.code == 1
    assert said.err == (
        f"hookloop: {name!r} makes a module named {name.lower()}, and that is Python's own. Choose another one: "
        f"{name}-callbacks.\n"
    )


def test_a_name_that_an_installed_module_has_is_refused(site: Site, shell: Shell, tmp_path: Path) -> None:
    site.install("something-else", modules={"acme_tools": "1 / 0"})

    said = shell("new-package", "acme-tools", "--into", tmp_path / "work")

    assert said.code == 1
    assert said.err == (
        "hookloop: 'acme-tools' makes a module named acme_tools, which an installed package has already. Choose "
        "another name.\n"
    )


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_what_is_there_already_is_refused_and_left_as_it_was(kind: str, shell: Shell, tmp_path: Path) -> None:
    there = tmp_path / "acme"
    if kind == "folder":
        there.mkdir()
    elif kind == "file":
        there.write_text("mine")
    else:
        there.symlink_to(tmp_path / "nowhere")

    said = shell("new-package", "acme", "--into", tmp_path)

    assert said.code == 1
    assert said.err == (f"hookloop: {there} is there already, and nothing in it is changed. Choose another name.\n")
    assert list(tmp_path.iterdir()) == [there]
    assert kind != "file" or there.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_told(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    said = shell("new-package", "acme", "--into", tmp_path / "file")

    assert said.code == 1
    assert said.err.startswith(f"hookloop: {tmp_path / 'file' / 'acme'} could not be written (")
    assert said.err.endswith(f"Check {tmp_path / 'file'}, or name another folder with --into.\n")


def test_the_real_command_writes_into_the_folder_that_it_is_called_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = os.pathsep.join(
        str(Path(one).absolute()) for one in os.environ.get("PYTHONPATH", "").split(os.pathsep) if one
    )
    monkeypatch.setenv("PYTHONPATH", absolute)
    monkeypatch.chdir(tmp_path)

    said = in_a_process("new-package", "acme")

    assert (said.code, said.err) == (0, "")
    assert (tmp_path / "acme" / "pyproject.toml").is_file()
