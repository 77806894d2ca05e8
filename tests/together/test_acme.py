"""The example package, as a platform team uses it: installed in an environment, with scripts left as they are."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
UV = (sys.executable, "-m", "uv")

# Whoever wrote this has never heard of the package.
SCRIPT = """
import sys
from hookloop import Callback, Order, Trainer
from hookloop.testing import TinyDataModule, TinyModule

class SavesEachEpoch(Callback):
    order = Order.LAST

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint("last.ckpt")

quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
trainer = Trainer(max_epochs=3, callbacks=[SavesEachEpoch()], log_every_n_steps=2, **quiet)
trainer.fit(TinyModule(), datamodule=TinyDataModule(), ckpt_path=sys.argv[1] if sys.argv[1:] else None)
print(trainer.global_step, *sorted(type(callback).__name__ for callback in trainer.callbacks))
"""


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    unwanted = ("PYTHONPATH", "VIRTUAL_ENV", "HOOKLOOP_DISABLE_CALLBACKS")
    inherited = {name: value for name, value in os.environ.items() if name not in unwanted}
    done = subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheels of the core and of the example, above all that this one has."""
    folder = tmp_path_factory.mktemp("environment")
    run(*UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    python = folder / "venv" / "bin" / "python"
    below = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    here = sysconfig.get_path("purelib")
    (Path(below) / "here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    wheels: list[Path] = []
    for source in (ROOT / "packages" / "core", ROOT / "examples" / "acme-callbacks"):
        into = folder / source.name
        run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", into, cwd=source)
        wheels += into.glob("*.whl")
    run(*UV, "pip", "install", "--offline", "--no-deps", "--python", python, *wheels, cwd=folder)
    return python.parent


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def rows_of(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT stage, epoch, step, name FROM metrics ORDER BY moment, name").fetchall()


def test_it_is_seen_and_nothing_is_wrong_with_it(bin_folder: Path, tmp_path: Path) -> None:
    found = json.loads(run(bin_folder / "hookloop", "callbacks", "--json", cwd=tmp_path))["distributions"]
    [acme] = [one for one in found if one["distribution"] == "acme-callbacks"]
    problems = json.loads(run(bin_folder / "hookloop", "doctor", "--no-cost", "--json", cwd=tmp_path))["problems"]

    assert acme["version"] == "0.1.0"
    assert [(one["active"], one["callbacks"]) for one in acme["factories"]] == [(True, ["SQLiteLog"])]
    assert sorted(one["name"] for one in acme["classes"]) == ["Budget", "SQLiteLog"]
    assert problems == []


def test_a_script_that_knows_nothing_of_it_is_logged_stopped_and_restarted(
    bin_folder: Path, script: Path, tmp_path: Path
) -> None:
    first = run(bin_folder / "python", script, cwd=tmp_path, ACME_BUDGET_STEPS="6").splitlines()
    second = run(bin_folder / "python", script, "last.ckpt", cwd=tmp_path, ACME_BUDGET_STEPS="10").splitlines()

    assert first == ["Budget: training ends, 6 of 6 steps are taken.", "6 Budget SQLiteLog SavesEachEpoch"]
    assert second == ["Budget: training ends, 10 of 10 steps are taken.", "10 Budget SQLiteLog SavesEachEpoch"]
    rows = rows_of(tmp_path / "acme_runs.sqlite")
    assert [step for _, _, step, name in rows if name == "train_loss_step"] == [2, 4, 6, 8, 10]
    # What made the checkpoint is recorded in it, and what is installed can be pinned.
    for command in (["lock"], ["lock", "--checkpoint", "last.ckpt"]):
        assert "acme-callbacks==0.1.0" in run(bin_folder / "hookloop", *command, cwd=tmp_path).splitlines()


def test_the_environment_variable_switches_it_off(bin_folder: Path, script: Path, tmp_path: Path) -> None:
    off = {"HOOKLOOP_DISABLE_CALLBACKS": "acme", "ACME_BUDGET_STEPS": "6"}

    said = run(bin_folder / "python", script, cwd=tmp_path, **off)

    assert said == "12 SavesEachEpoch\n"
    assert not (tmp_path / "acme_runs.sqlite").exists()


def test_its_own_tests_pass_where_it_is_installed(bin_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples" / "acme-callbacks" / "tests", tmp_path / "tests")
    options = ("-p", "no:cacheprovider", "--import-mode=importlib", "-n", "2")

    said = run(bin_folder / "python", "-m", "pytest", *options, "tests", cwd=tmp_path)

    assert " passed" in said


def test_its_readme_shows_what_happens(bin_folder: Path, tmp_path: Path) -> None:
    readme = (ROOT / "examples" / "acme-callbacks" / "README.md").read_text(encoding="utf-8")
    program = readme.partition("```python\n")[2].partition("```")[0]

    said = run(bin_folder / "python", "-c", program, cwd=tmp_path).splitlines()

    assert said[-2:] == ["6 of 6 steps are taken", "[(0, 4, 0.0), (1, 6, 1.0)]"]
    assert all(f"`{line}`" in readme for line in said[-2:])
