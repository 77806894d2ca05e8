"""Every package works with the oldest and with the newest core that it admits, and is refused by any other.

There is one version of the core so far. It is built with both ends of the range as its version, and with the version
after that; once there are more, the older one is built from its tag.
"""

import json
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
CALLBACK_PACKAGES = sorted(path.parent.name for path in ROOT.glob("packages/callbacks-*/pyproject.toml"))

BEFORE, OLDEST, NEWEST, NEXT = "0.0.999", "0.1.0", "0.1.999", "0.2.0"

Install = Callable[..., subprocess.CompletedProcess[str]]

# Imports every class that is registered, and trains a step with those that can be made without arguments.
TRAIN = """
import importlib.metadata, json, sys, warnings

import torch

import hookloop.callbacks
from hookloop import Trainer
from hookloop.testing import TinyDataModule, TinyModule

warnings.simplefilter("ignore")
entries = importlib.metadata.entry_points(group="hookloop.callbacks")
classes = {entry.name: getattr(hookloop.callbacks, entry.name) for entry in entries}
# A way to make it, for each that is not made without arguments.
abstract = ("freeze_before_training", "finetune_function")
ways = {
    "BackboneFinetuning": lambda kind: kind(1),
    "BaseFinetuning": lambda kind: type("Thaws", (kind,), dict.fromkeys(abstract, lambda *args: None))(),
    "BatchSizeFinder": lambda kind: kind(stages=("predict",)),
    "EarlyStopping": lambda kind: kind("train_loss"),
    "GradientAccumulationScheduler": lambda kind: kind({0: 1}),
    "GradualUnfreezing": lambda kind: kind({1: "backbone"}),
    "LearningRateFinder": lambda kind: kind(num_training_steps=2, update_attr=False),
    "ModelPruning": lambda kind: kind("l1_unstructured", amount=0.3),
    "OnExceptionCheckpoint": lambda kind: kind("failed"),
    "PredictionWriter": lambda kind: kind("predictions"),
}


class Module(TinyModule):
    def __init__(self):
        super().__init__()
        self.backbone = torch.nn.Linear(2, 2)


steps = {}
for name, kind in sorted(classes.items()):
    callback = ways[name](kind) if name in ways else kind()
    trainer = Trainer(max_steps=1, callbacks=[callback], logger=False)
    trainer.fit(Module(), datamodule=TinyDataModule())
    steps[name] = trainer.global_step
core = importlib.metadata.version("hookloop")
print("RESULT" + json.dumps({"core": core, "steps": steps}))
"""

# What a program sees with a core that the packages were not built for.
TRY = """
import json, sys

import hookloop.callbacks
from hookloop import Trainer


def told(attempt):
    try:
        attempt()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


answers = {"Trainer()": told(Trainer)}
for name in sys.argv[1:]:
    answers[name] = told(lambda: getattr(hookloop.callbacks, name))
answers["without"] = told(lambda: Trainer(registered_callbacks=False))
answers["imported"] = sorted(name for name in sys.modules if name.startswith("hookloop_callbacks"))
print("RESULT" + json.dumps(answers))
"""


def project(package: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    return found


@pytest.fixture(scope="module")
def python(build_wheel: Callable[..., Path], fresh_environment: Callable[..., Path]) -> Path:
    """An environment with the oldest core and every package."""
    packages = [build_wheel(package) for package in CALLBACK_PACKAGES]
    return fresh_environment([build_wheel("core", OLDEST), *packages])


@pytest.mark.parametrize("package", CALLBACK_PACKAGES)
def test_a_package_admits_the_cores_of_one_minor_version_and_no_other(package: str) -> None:
    (needed,) = [one for one in map(Requirement, project(package)["dependencies"]) if one.name == "hookloop"]

    versions = (BEFORE, OLDEST, NEWEST, NEXT)
    assert [needed.specifier.contains(version) for version in versions] == [False, True, True, False]


@pytest.mark.parametrize("core", [OLDEST, NEWEST])
def test_every_callback_trains_with_either_end_of_the_range(
    core: str,
    python: Path,
    build_wheel: Callable[..., Path],
    install: Install,
    run_outside: Callable[..., str],
    tmp_path: Path,
) -> None:
    put_in(python, build_wheel("core", core), install)

    printed = run_outside(python, "-I", "-c", TRAIN, cwd=tmp_path)

    seen = json.loads(printed.rpartition("RESULT")[2])
    names = {name for package in CALLBACK_PACKAGES for name in project(package)["entry-points"]["hookloop.callbacks"]}
    assert seen["core"] == core
    assert seen["steps"] == dict.fromkeys(names, 1)


@pytest.mark.parametrize("package", CALLBACK_PACKAGES)
def test_the_resolver_refuses_the_core_after_the_range(
    package: str, python: Path, build_wheel: Callable[..., Path], install: Install
) -> None:
    done = install(python, "--dry-run", build_wheel("core", NEXT), build_wheel(package))

    assert done.returncode != 0
    reason = " ".join(done.stderr.split())
    assert f"hookloop-{package}==0.1.0 depends on hookloop>=0.1,<0.2" in reason
    assert "unsatisfiable" in reason


def test_a_core_that_is_forced_in_refuses_the_packages_before_they_are_imported(
    python: Path, build_wheel: Callable[..., Path], install: Install, run_outside: Callable[..., str], tmp_path: Path
) -> None:
    put_in(python, build_wheel("core", NEXT), install)
    names = {
        package: next(iter(project(package)["entry-points"]["hookloop.callbacks"])) for package in CALLBACK_PACKAGES
    }

    printed = run_outside(python, "-I", "-c", TRY, *names.values(), cwd=tmp_path)

    answers = json.loads(printed.rpartition("RESULT")[2])
    for package, name in names.items():
        needs = f"hookloop-{package} 0.1.0 needs hookloop<0.2,>=0.1, and hookloop {NEXT} is installed."
        mend = f'Run `pip install --upgrade hookloop-{package} "hookloop=={NEXT}"`'
        other = '`pip install "hookloop<0.2,>=0.1"` to change the core'
        for answer in (answers["Trainer()"], answers[name]):
            assert needs in answer
            assert mend in answer
            assert other in answer
    assert answers["without"] is None
    assert answers["imported"] == []


def put_in(python: Path, core: Path, install: Install) -> None:
    """Replace the core of an environment, whatever the packages in it say."""
    done = install(python, "--no-deps", "--reinstall", core)
    assert done.returncode == 0, done.stderr
