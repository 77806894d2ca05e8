"""These tests run with every package of this repository."""

import tomllib
from collections.abc import Callable
from pathlib import Path

PACKAGES = Path(__file__).parents[2] / "packages"


def test_every_package_of_this_repository_is_installed(installed_distributions: frozenset[str]) -> None:
    projects = [tomllib.loads(path.read_text(encoding="utf-8")) for path in PACKAGES.glob("*/pyproject.toml")]

    assert installed_distributions == {project["project"]["name"] for project in projects}


def test_importing_hookloop_asks_for_no_callback_package_though_all_are_installed(
    imported_by: Callable[[str], frozenset[str]],
) -> None:
    imported = imported_by("hookloop")

    assert "hookloop" in imported
    top = {name.partition(".")[0] for name in imported}
    assert not {name for name in top if name.startswith("hookloop_callbacks")}
    assert not top & {"psutil", "rich", "tensorboard", "tqdm"}
    assert "torch.utils.tensorboard" not in imported
