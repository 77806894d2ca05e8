"""A package is named in several places; they agree."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CALLBACK_PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/callbacks-*/pyproject.toml"))


def read(path: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / path).read_text(encoding="utf-8"))


def test_every_package_has_an_isolated_environment() -> None:
    (matrix,) = read("pyproject.toml")["tool"]["hatch"]["envs"]["iso"]["matrix"]

    assert sorted(f"callbacks-{name}" for name in matrix["pkg"]) == CALLBACK_PACKAGES


def test_every_contract_about_imports_covers_every_package() -> None:
    config = read("pyproject.toml")["tool"]["importlinter"]
    modules = [f"hookloop_{name.replace('-', '_')}" for name in CALLBACK_PACKAGES]
    contracts = {contract["type"]: contract for contract in config["contracts"]}

    assert sorted(config["root_packages"]) == ["hookloop", *modules]
    assert sorted(contracts["acyclic_siblings"]["ancestors"]) == ["hookloop", *modules]
    assert sorted(contracts["forbidden"]["forbidden_modules"]) == modules
    assert sorted(contracts["independence"]["modules"]) == modules


def test_the_core_has_an_extra_for_every_package_and_one_for_all() -> None:
    extras = read("packages/core/pyproject.toml")["project"]["optional-dependencies"]
    families = [name.removeprefix("callbacks-") for name in CALLBACK_PACKAGES]

    for family in families:
        assert extras[family] == [f"hookloop-callbacks-{family}>=0.1,<0.2"]
    assert extras["all"] == [f"hookloop[{','.join(families)}]"]
    assert [name for name in extras if name not in (*families, "all")] == ["tensorboard"]


@pytest.mark.parametrize("name", CALLBACK_PACKAGES)
def test_a_package_is_named_after_its_folder_and_registers_its_factory(name: str) -> None:
    project = read(f"packages/{name}/pyproject.toml")["project"]
    module = f"hookloop_{name.replace('-', '_')}"

    assert project["name"] == f"hookloop-{name}"
    factories = project["entry-points"]["hookloop.callbacks_factory"]
    assert factories == {name.removeprefix("callbacks-"): f"{module}:factory"}
    assert project["entry-points"]["hookloop.callbacks"]
    assert (ROOT / "packages" / name / "src" / module / "py.typed").exists()


@pytest.mark.parametrize("name", ["core", *CALLBACK_PACKAGES])
def test_a_package_carries_the_license_of_the_repository(name: str) -> None:
    assert (ROOT / "packages" / name / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


@pytest.mark.parametrize("name", ["core", *CALLBACK_PACKAGES])
def test_a_package_says_when_to_use_it_and_what_it_costs_and_shows_it(name: str) -> None:
    text = (ROOT / "packages" / name / "README.md").read_text(encoding="utf-8")

    assert "pip install " in text
    assert "```python" in text
    assert "\n## When to use " in text
    assert "\n## What it costs\n" in text
    assert (ROOT / "packages" / name / "CHANGELOG.md").read_text(encoding="utf-8").count("\n## 0.1.0") == 1
