"""What users get: packages as wheels, installed into fresh environments that know no repository."""

import json
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
ALL = tuple(path.name for path in PACKAGES)

REGISTER_NOTHING = {
    "hookloop_callbacks_finetuning",
    "hookloop_callbacks_monitoring",
    "hookloop_callbacks_prediction",
    "hookloop_callbacks_pruning",
    "hookloop_callbacks_swa",
    "hookloop_callbacks_tuning",
}
"""Packages that change nothing by being installed."""

SUBSETS = {
    "core alone": ("core",),
    "core and checkpoint": ("core", "callbacks-checkpoint"),
    "core, progress and monitoring": ("core", "callbacks-monitoring", "callbacks-progress"),
    "all": ALL,
}

# These run in the fresh environments, in isolated mode: of the working folder and of variables nothing is seen.
LOOK = """
import json, sys
import hookloop, hookloop.callbacks
from hookloop import Trainer

trainer = Trainer(logger=False)
print(json.dumps({
    "hookloop": hookloop.__file__,
    "found": sorted(type(callback).__module__.partition(".")[0] for callback in trainer.callbacks),
    "named": [getattr(hookloop.callbacks, name).__module__.partition(".")[0] for name in sys.argv[1:]],
}))
"""

TRAIN = """
import importlib.metadata, json, sys
from pathlib import Path

import torch
from torch.utils.data import DataLoader, TensorDataset

import hookloop.callbacks
from hookloop import LightningModule, Trainer

installed = {found.metadata["Name"].removeprefix("hookloop-callbacks-") for found in importlib.metadata.distributions()}


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return torch.nn.functional.mse_loss(self.layer(x), y)

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(x), y))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.3)


def fit(max_epochs, **arguments):
    line = Line()
    trainer = Trainer(max_epochs=max_epochs, callbacks=callbacks(), logger=False, default_root_dir=".")
    trainer.fit(line, loader, loader, **arguments)
    return trainer, line


def callbacks():
    if "monitoring" not in installed:
        return []
    from hookloop.callbacks import EarlyStopping, LearningRateMonitor

    return [EarlyStopping("val_loss", stopping_threshold=0.01), LearningRateMonitor("epoch")]


x = torch.linspace(-1, 1, 32).unsqueeze(1)
loader = DataLoader(TensorDataset(x, 3 * x + 1), batch_size=8)
first, _ = fit(3)
first.save_checkpoint("by_hand.ckpt")
second, line = fit(40, ckpt_path="last" if "checkpoint" in installed else "by_hand.ckpt")
try:
    hookloop.callbacks.EarlyStopping
except ImportError as error:
    missing = str(error)
else:
    missing = None
print("RESULT" + json.dumps({
    "steps": [first.global_step, second.global_step],
    "weight": line.layer.weight.item(),
    "rate": second.callback_metrics.get("lr-SGD", torch.zeros(())).item(),
    "files": sorted(path.as_posix() for path in Path(".").rglob("*.ckpt")),
    "missing": missing,
    "modules": sorted(name for name in sys.modules if name.startswith("hookloop_callbacks") and "." not in name),
    "others": sorted({"psutil", "rich", "tqdm", "numpy", "pytest"} & sys.modules.keys()),
    "path": [entry for entry in sys.path if "packages" in entry.split("/")],
}))
"""


@pytest.fixture(scope="module")
def wheels(build_wheel: Callable[..., Path]) -> dict[str, Path]:
    """The wheel of every package, by the package's folder."""
    return {package.name: build_wheel(package.name) for package in PACKAGES}


@pytest.fixture(scope="module")
def fresh_python(wheels: dict[str, Path], fresh_environment: Callable[..., Path]) -> Path:
    """The interpreter of a new environment in which all wheels are installed."""
    return fresh_environment(list(wheels.values()))


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


def test_installed_wheels_are_discovered_without_the_repository(
    fresh_python: Path, run_outside: Callable[..., str], tmp_path: Path
) -> None:
    projects = {path.name: tomllib.loads((path / "pyproject.toml").read_text())["project"] for path in PACKAGES}
    classes = {
        name: target.partition(":")[0]
        for project in projects.values()
        for name, target in project.get("entry-points", {}).get("hookloop.callbacks", {}).items()
    }
    modules = {f"hookloop_{name.replace('-', '_')}" for name in projects if name != "core"}

    seen = json.loads(run_outside(fresh_python, "-I", "-c", LOOK, *classes, cwd=tmp_path))

    assert Path(seen["hookloop"]).is_relative_to(fresh_python.parents[1])
    assert seen["found"] == sorted(modules - REGISTER_NOTHING)
    assert seen["named"] == list(classes.values())


@pytest.mark.parametrize("names", SUBSETS.values(), ids=SUBSETS)
def test_a_training_script_runs_and_goes_on_with_what_is_installed(
    names: tuple[str, ...],
    wheels: dict[str, Path],
    fresh_environment: Callable[..., Path],
    run_outside: Callable[..., str],
    tmp_path: Path,
) -> None:
    python = fresh_environment([wheels[name] for name in names])
    (tmp_path / "train.py").write_text(TRAIN)
    families = {name.removeprefix("callbacks-") for name in names} - {"core"}

    printed = run_outside(python, "-I", "train.py", cwd=tmp_path)

    said, _, result = printed.rpartition("RESULT")
    seen: dict[str, Any] = json.loads(result)
    stops, saves, shows = "monitoring" in families, "checkpoint" in families, "progress" in families
    assert seen["steps"][0] == 3 * 4
    assert abs(seen["weight"] - 3) < (0.2 if stops else 0.01)
    # Training went on from the file. It ends where the loss is small enough, or after 40 epochs.
    assert 12 < seen["steps"][1] < 160 if stops else seen["steps"][1] == 160
    assert ("val_loss" in said and "has reached 0.01" in said) is stops
    assert seen["rate"] == pytest.approx(0.3 if stops else 0.0)
    assert ("checkpoints/last.ckpt" in seen["files"]) is saves
    assert "by_hand.ckpt" in seen["files"]
    assert (seen["missing"] is None) is stops
    assert stops or "pip install --upgrade hookloop-callbacks-monitoring" in seen["missing"]
    assert ("Epoch 0/2" in said) is shows
    assert seen["modules"] == sorted(f"hookloop_callbacks_{family}" for family in families)
    assert seen["others"] == (["tqdm"] if shows and "tqdm" in seen["others"] else [])
    assert seen["path"] == []


@pytest.mark.parametrize("names", SUBSETS.values(), ids=SUBSETS)
def test_what_was_asked_for_is_installed_and_nothing_that_only_this_repository_needs(
    names: tuple[str, ...],
    wheels: dict[str, Path],
    fresh_environment: Callable[..., Path],
    run_outside: Callable[..., str],
) -> None:
    python = fresh_environment([wheels[name] for name in names])
    look = "import importlib.metadata as m; print(*(one.metadata['Name'].lower() for one in m.distributions()))"
    installed = set(run_outside(python, "-I", "-c", look).split())

    expected = {"hookloop" if name == "core" else f"hookloop-{name}" for name in names}
    assert {name for name in installed if name.startswith("hookloop")} == expected
    assert {"torch", "packaging"} <= installed
    assert ("psutil" in installed) is ("callbacks-monitoring" in names)
    assert ("tqdm" in installed) is ("callbacks-progress" in names)
    assert not installed & {"pytest", "hatchling", "numpy", "torchmetrics", "rich", "tensorboard"}
